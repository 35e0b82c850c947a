"""``tenantgate validate | render | diff | schema``: tenants.yaml on the command line."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path, PurePosixPath
from typing import Final

from tenantgate.config.compile import server_problems
from tenantgate.config.diff import compare, parse, payload_leaks, unified
from tenantgate.config.documents import named, read_location
from tenantgate.config.egress import weak_settings
from tenantgate.config.json_schema import json_schema
from tenantgate.config.kong_conf import TLS_LISTEN, KongConfOptions, egress_conf, kong_conf
from tenantgate.config.load import TenantsFileError, load, located
from tenantgate.config.merge import merge, without_ours
from tenantgate.config.model import TenantsFile
from tenantgate.config.render import RenderOptions, uses_mock
from tenantgate.config.render import render as kong_yml
from tenantgate.errors import ConfigError, EdgeError

__all__ = ["diff", "redis_address", "render", "schema", "validate"]


_OF_KONG_CONF: Final = (
    "egress_include",
    "prefix",
    "declarative_config",
    "postgres",
    "sockets",
    "plugins_dir",
    "pluginserver",
    "attach",
    "models_dir",
    "secrets_dir",
    "set",
)
"""Options of ``render`` that mean nothing to a kong.yml."""


def validate(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``validate``."""
    _file(parser)
    parser.set_defaults(func=_validate)


def render(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``render``."""
    _file(parser)
    _options(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="write there, not to standard output; as JSON if its name ends so",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="KONG_YML",
        help="put it into this file's other entities, in place of those tagged tenantgate; its comments are lost",
    )
    parser.add_argument(
        "--resolve-env",
        action="store_true",
        help='put the environment\'s values in for ${{ env "DECK_…" }}; the output then holds secrets '
        "and is made readable for its owner only",
    )
    parser.add_argument("--kong-conf", action="store_true", help="write kong.conf instead")
    parser.add_argument(
        "--egress-conf", action="store_true", help="write the nginx file that kong.conf includes instead"
    )
    parser.add_argument(
        "--egress-include", type=PurePosixPath, metavar="FILE", help="kong.conf: where that file lies"
    )
    parser.add_argument(
        "--prefix", type=PurePosixPath, metavar="DIR", help="kong.conf: Kong's working folder"
    )
    parser.add_argument(
        "--declarative-config",
        type=PurePosixPath,
        metavar="FILE",
        help="kong.conf: where Kong finds kong.yml",
    )
    parser.add_argument(
        "--postgres",
        action="store_true",
        help="kong.conf: for a Kong with PostgreSQL, whose plugin servers systemd or another supervisor starts",
    )
    parser.add_argument(
        "--sockets",
        type=PurePosixPath,
        metavar="DIR",
        help="kong.conf, with --postgres: where the plugin servers' sockets are (default: /run/tenantgate)",
    )
    parser.add_argument("--plugins-dir", type=PurePosixPath, metavar="DIR", help="kong.conf: plugin files")
    parser.add_argument(
        "--pluginserver", type=PurePosixPath, metavar="FILE", help="kong.conf: the plugin server"
    )
    parser.add_argument(
        "--attach",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="kong.conf: a plugin for routes of your own, beside the engine: tenant-guardrails, …",
    )
    parser.add_argument("--models-dir", type=PurePosixPath, metavar="DIR", help="kong.conf: the built models")
    parser.add_argument(
        "--secrets-dir",
        type=PurePosixPath,
        metavar="DIR",
        help="kong.conf: where {vault://file/NAME} finds the file NAME",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="kong.conf: one more setting"
    )
    parser.set_defaults(func=_render)


def diff(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``diff``."""
    _file(parser)
    _options(parser)
    parser.add_argument("kong_yml", type=Path, metavar="KONG_YML", help="the file that is in use")
    parser.add_argument(
        "--text", action="store_true", help="show the text's differences too, secrets included"
    )
    parser.add_argument(
        "--resolve-env",
        action="store_true",
        help="compare with the environment's values put in, as `render` does",
    )
    parser.set_defaults(func=_diff)


def schema(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``schema``."""
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write there")
    parser.set_defaults(func=_schema)


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("given", nargs="?", type=Path, metavar="FILE", help="default: tenants.yaml")
    parser.add_argument("-f", "--file", type=Path, metavar="FILE", help="the same, as an option")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--mock-url",
        default=RenderOptions().mock_url,
        metavar="URL",
        help="where models of the provider `mock` are served (default: %(default)s)",
    )
    parser.add_argument(
        "--redis",
        type=redis_address,
        metavar="HOST[:PORT]",
        help="a Redis without password or TLS, in place of the file's (development)",
    )


def redis_address(text: str) -> tuple[str, int]:
    """Host and port, as ``--redis`` takes them."""
    host, _, port = text.rpartition(":")
    if not host:
        host, port = text, "6379"
    if not port.isdecimal():
        raise argparse.ArgumentTypeError("must be HOST or HOST:PORT")
    return host, int(port)


def _render_options(args: argparse.Namespace) -> RenderOptions:
    host, port = args.redis or (None, 6379)
    return RenderOptions(mock_url=args.mock_url, redis_host=host, redis_port=port)


def _load(args: argparse.Namespace) -> TenantsFile | None:
    """The file, or None after printing its problems; `args.file` says which it was."""
    if args.given is not None and args.file is not None:
        raise ConfigError("--file: FILE is given, too; give one of the two")
    args.file = args.file or args.given or Path("tenants.yaml")
    try:
        return load(args.file)
    except TenantsFileError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        print(f"{_number(len(error.problems), 'problem')} in {args.file}", file=sys.stderr)
        return None


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'s'[: count != 1]}"


def _validate(args: argparse.Namespace) -> int:
    file = _load(args)
    if file is None:
        return 1
    problems = _document_problems(args.file, file)
    if problems:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(f"{_number(len(problems), 'problem')} in what {args.file} names", file=sys.stderr)
        return 1
    models = {m.known_as for tenant in file.tenants for m in tenant.models}
    counted = f"{_number(len(file.tenants), 'tenant')}, {_number(len(models), 'model')}"
    print(f"{args.file}: {counted}, no problems")
    return 0


def _document_problems(path: Path, file: TenantsFile) -> list[str]:
    """What is wrong with the files that MCP servers name. What is at a URL isn't fetched here."""
    folder = path if path.is_dir() else path.parent
    read: dict[str, bytes] = {}
    unread: dict[str, str] = {}
    for location in named(file):
        if location.startswith(("http://", "https://")):
            print(f"note: {location} is read by `tenantgate apply` alone", file=sys.stderr)
            continue
        try:
            read[location] = read_location(location, folder)
        except ConfigError as error:
            unread[location] = str(error)
    found = list(server_problems(file, read, unread))
    return located(path, found) if found else []


def _render(args: argparse.Namespace) -> int:
    file = _load(args)
    if file is None:
        return 1
    if args.kong_conf or args.egress_conf:
        options = _kong_conf_options(args, file)
        text = kong_conf(options) if args.kong_conf else egress_conf(options)
        return _write(args.output, text, secret=False)
    for name in _OF_KONG_CONF:
        if getattr(args, name):
            raise ConfigError(f"--{name.replace('_', '-')}: needs --kong-conf; this writes a kong.yml")
    if mocked := uses_mock(file):
        print(f"note: the mock provider answers for {', '.join(mocked)} ({args.mock_url})", file=sys.stderr)
    text = kong_yml(
        file,
        _render_options(args),
        environ=os.environ if args.resolve_env else None,
        as_json=args.output is not None and args.output.suffix == ".json",
        into=None if args.into is None else parse(_read(args.into), name=str(args.into)),
    )
    # Whoever's file this is put into: it may hold secrets of others.
    return _write(args.output, text, secret=args.resolve_env or args.into is not None)


def _kong_conf_options(args: argparse.Namespace, file: TenantsFile) -> KongConfOptions:
    extra = {}
    for setting in args.set:
        name, equals, value = setting.partition("=")
        if not equals or not name.strip():
            raise ConfigError(f"--set {setting}: must be NAME=VALUE")
        extra[name.strip()] = value.strip()
    for name, what in weak_settings(extra) if file.gateway.egress is not None else ():
        raise ConfigError(f"--set {name}: {what}; tenants.yaml has gateway.egress")
    if args.sockets is not None and not args.postgres:
        raise ConfigError("--sockets: needs --postgres; otherwise the sockets are below --prefix")
    names = (
        "prefix",
        "declarative_config",
        "sockets",
        "plugins_dir",
        "pluginserver",
        "models_dir",
        "egress_include",
        "secrets_dir",
    )
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if args.postgres:
        given["admin_listen"] = "127.0.0.1:8001"
    if file.gateway.tls.certificates:
        given["proxy_listen"] = f"{KongConfOptions().proxy_listen}, {TLS_LISTEN}"
    size = file.gateway.limits.max_request_body_mb
    return KongConfOptions(
        **given, postgres=args.postgres, max_request_body_mb=size, attached=tuple(args.attach), extra=extra
    )


def _write(path: Path | None, text: str, *, secret: bool) -> int:
    if path is None:
        sys.stdout.write(text)
        return 0
    # Beside its place and then moved: nobody reads half a file, and a secret is never readable for others.
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(
            part,
            "w",
            encoding="utf-8",
            opener=lambda name, flags: os.open(name, flags | os.O_EXCL, 0o600 if secret else 0o644),
        ) as out:
            out.write(text)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise EdgeError(f"{path}: {error.strerror}") from error
    return 0


def _diff(args: argparse.Namespace) -> int:
    file = _load(args)
    if file is None:
        return 2
    theirs = _read(args.kong_yml)
    ours = kong_yml(
        file,
        _render_options(args),
        environ=os.environ if args.resolve_env else None,
        as_json=args.kong_yml.suffix == ".json",
    )
    used = parse(theirs, name=str(args.kong_yml))
    rendered = parse(ours, name="rendered")
    others = without_ours(used)
    try:
        rendered = merge(used, rendered)
    except ConfigError as error:
        print(f"warning: {args.kong_yml}: {error}", file=sys.stderr)
    changes = compare(used, rendered)
    for change in changes:
        print(change)
    for warning in payload_leaks(used):
        print(f"warning: {warning}", file=sys.stderr)
    if args.text:
        sys.stdout.writelines(unified(theirs, ours, name=str(args.kong_yml)))
    if left := len(compare({}, others)):
        print(f"left out, without the tag tenantgate: {left}", file=sys.stderr)
    if not changes:
        print("no changes")
    return int(bool(changes))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read") from error


def _schema(args: argparse.Namespace) -> int:
    return _write(args.output, json_schema(), secret=False)
