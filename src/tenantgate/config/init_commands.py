"""``tenantgate init``: a folder to start from."""

from __future__ import annotations

import argparse
from importlib.resources import files
from pathlib import Path, PurePosixPath
from typing import Final

from tenantgate import paths
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.kong_conf import KongConfOptions, egress_conf, kong_conf
from tenantgate.config.load import load_text
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["init"]

_FOLDER: Final = "{folder}"
_UNSAFE: Final = frozenset(" \t\n\"'#{}\\")  # would need quotes in one of the files
_ENV_HEAD: Final = """\
# Copy to .env and fill in: secrets stay out of git. Before a command or `kong start`:  set -a; . ./.env; set +a
# `tenantgate up` makes up the keys of clients that are missing.

"""
_ABOUT: Final = {
    "TENANTGATE_CACHE_KEY": "Encrypts what the cache stores: `openssl rand -hex 32`.",
    "DECK_": "Of clients: what they send as `Authorization: Bearer KEY`.",
    "": "Of providers.",
}
_IGNORED: Final = (".env", ".tenantgate/", "kong.yml", "kong.json", "kong/", "policy/", "audit/")


def init(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``init``."""
    parser.add_argument(
        "folder",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="FOLDER",
        help="made if it isn't there (default: this one)",
    )
    parser.set_defaults(func=_init)


def _init(args: argparse.Namespace) -> int:
    folder: Path = args.folder.resolve()
    if bad := sorted(_UNSAFE & set(str(folder))):
        raise ConfigError(f"FOLDER: {folder} has a {bad[0]!r}, which kong.conf or tenants.yaml can't hold")
    made = _starter(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            try:
                with (folder / name).open("x", encoding="utf-8") as out:  # never over a file that is there
                    out.write(text)
            except FileExistsError:
                print(f"kept     {args.folder / name}")
            else:
                print(f"written  {args.folder / name}")
        for name in ("policy", "audit"):
            (folder / name).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EdgeError(f"{error.filename}: {error.strerror}") from error
    print("next: tenantgate models build, then tenantgate up")
    return 0


def _starter(folder: Path) -> dict[str, str]:
    """The files by name."""
    raw = files("tenantgate.config").joinpath("starter", "tenants.yaml").read_text("utf-8")
    text = raw.replace(_FOLDER, str(folder))
    body_mb = load_text(text, name="tenants.yaml").gateway.limits.max_request_body_mb
    bundle = paths.ca_bundle()
    options = KongConfOptions(
        prefix=PurePosixPath(folder, "kong"),
        declarative_config=PurePosixPath(folder, "kong.yml"),
        plugins_dir=PurePosixPath(paths.plugins_dir()),
        pluginserver=PurePosixPath(paths.pluginserver()),
        models_dir=PurePosixPath(paths.models_dir()),
        proxy_listen="127.0.0.1:8000",
        ca_bundle=PurePosixPath(bundle) if bundle else None,
        egress_include=PurePosixPath(folder, "tenantgate-egress.conf"),
        max_request_body_mb=body_mb,
    )
    return {
        "tenants.yaml": text,
        "kong.conf": kong_conf(options),
        "tenantgate-egress.conf": egress_conf(options),
        ".env.example": _env(text),
        ".gitignore": "\n".join(_IGNORED) + "\n",
    }


def _env(text: str) -> str:
    left = {*placeholders.names(text), *placeholders.vault_names(text), "TENANTGATE_CACHE_KEY"}
    blocks = []
    for start, about in _ABOUT.items():
        names = sorted(name for name in left if name.startswith(start))
        left.difference_update(names)
        blocks.append(f"# {about}\n" + "".join(f"{name}=\n" for name in names))
    return _ENV_HEAD + "\n".join(blocks)
