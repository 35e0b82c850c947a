"""From tenants.yaml to a folder in which a gateway can start: kong.json, kong.conf, and secrets for development."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

from tenantgate import config, paths, secret_files
from tenantgate.apply.core.entities import Entity, from_tree
from tenantgate.config import deck_variables as placeholders
from tenantgate.config.compile import CompileOptions, compile_records
from tenantgate.config.documents import documents
from tenantgate.config.kong_conf import server_command
from tenantgate.config.model import TenantsFile
from tenantgate.config.render import entities, with_options
from tenantgate.errors import ConfigError
from tenantgate.policy.core.ports import PublishNote, content_hash, difference
from tenantgate.policy.stores import open_store

__all__ = ["STATE", "Rendered", "Surroundings", "private_file", "render"]

POLICY_STORE: Final = "TENANTGATE_POLICY_STORE"
"""Environment variable with the address of the policies' store, where that isn't a file."""
STATE: Final = "gateway.json"
"""File in the state folder by which `tenantgate apply --state-dir` finds the gateway."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the configuration has to know of the processes beside the gateway."""

    folder: Path
    """For kong.json and kong.conf."""
    run: Path
    """For sockets: a short path."""
    secrets: Path
    """The file that keeps made-up secrets from one start to the next."""
    mock_url: str
    redis_port: int | None
    """Of a Redis on this machine, in place of the file's; None: the file's."""
    proxy_port: int
    status_port: int
    admin_port: int
    egress_port: int
    """Of the server through which requests leave."""
    extra: Mapping[str, str]
    trust: Path | None = None
    """Certificates of authorities that the gateway trusts beside the system's."""
    postgres: str | None = None
    """URL of the database of Kong and of the policies, with its password; None: files."""
    policy_store: str | None = None
    """URL of the policies' store, where that isn't `postgres`; None: a file."""
    attached: tuple[str, ...] = ()
    """Attachable plugins that the gateway serves beside the engine."""
    processes: str = "auto"
    """Of the engine."""
    services: tuple[Mapping[str, Any], ...] = ()
    """Services of one's own in Kong, with their routes and plugins, beside the engine's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendered:
    """The files, and what a client needs."""

    file: TenantsFile
    kong_config: Path
    """JSON, which Kong reads thirty times as fast as YAML."""
    kong_conf: Path
    environ: Mapping[str, str]
    """The process environment with the made-up secrets."""
    gateway_environ: Mapping[str, str]
    """The same without clients' keys, which are in the configuration: a process takes 2 MB of it."""
    made_up: tuple[str, ...]
    """Names of the secrets that were made up."""
    entities: tuple[Entity, ...] = field(default=(), repr=False)
    """Kong's entities, with the clients' keys."""
    server_commands: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By plugin the command that starts its server, where Kong doesn't."""

    def key(self, tenant: str) -> str:
        """The first client key of a tenant."""
        return self.environ[self.key_name(tenant)]

    def key_name(self, tenant: str) -> str:
        """The environment variable of that key."""
        for t in self.file.tenants:
            if t.id == tenant and t.api_keys:
                return placeholders.names(t.api_keys[0])[0]
        raise ConfigError(f"{tenant}: no such tenant with `api_keys` in the file")


def render(tenants: Path, at: Surroundings, environ: Mapping[str, str] | None = None) -> Rendered:
    """Write both files; kong.json holds client keys and is for its owner only.

    Raises:
        ConfigError: the file has problems, or a provider's credential isn't in the environment.
    """
    env = dict(os.environ if environ is None else environ)
    file = config.load(tenants)
    store = at.postgres or at.policy_store
    options = config.RenderOptions(
        mock_url=at.mock_url + "/v1/chat/completions",
        redis_host="127.0.0.1" if at.redis_port else None,
        redis_port=at.redis_port or config.RenderOptions().redis_port,
        policy_path=str(at.folder / "policy" / "policy.sqlite"),
        policy_store=f"{{vault://env/{POLICY_STORE}}}" if store else None,
        egress_port=at.egress_port,
        gateway={"audit": {"dir": str(at.folder / "audit")}},
    )
    tree = entities(file, options)
    tree["services"] += at.services
    keys = placeholders.names_in(tree)
    folder = tenants if tenants.is_dir() else tenants.parent
    read = documents(file, folder)
    records = compile_records(file, CompileOptions(mock_url=options.mock_url, documents=read))
    (at.folder / "audit").mkdir(mode=0o700, exist_ok=True)
    stored = {POLICY_STORE: store} if store else {}
    env |= stored
    # Client keys and the cache's key may be anything, so they can be made up; a provider's credential can't.
    own = {*keys, *placeholders.vault_names(file.gateway.encryption_key)}
    env |= _made_up(at.secrets, sorted(n for n in own if not env.get(n)))
    needed = json.dumps(tree) + "".join(raw.decode("ascii") for raw in records.values())
    if missing := [n for n in placeholders.vault_names(needed) if not env.get(n)]:
        raise ConfigError(
            f"{tenants}: the environment has no {', '.join(missing)} "
            "(set them, or give those models the provider `mock`)"
        )
    files = secret_files.folder(env)
    for name in secret_files.names(needed):
        _check_file(files, name, tenants)
    kong_config, kong_conf = at.folder / "kong.json", at.folder / "kong.conf"
    resolved = placeholders.resolve_tree(tree, env)
    private_file(kong_config, json.dumps(resolved, indent=1, ensure_ascii=False))
    reference = placeholders.vault_names(file.gateway.encryption_key)
    key = env[reference[0]] if reference else file.gateway.encryption_key
    _publish(store, Path(with_options(file, options).gateway.policy.path), records, key)
    egress_conf = at.folder / "tenantgate-egress.conf"
    conf = config.KongConfOptions(
        prefix=PurePosixPath(at.run),
        declarative_config=PurePosixPath(kong_config),
        postgres=at.postgres is not None,
        sockets=PurePosixPath(at.run),
        plugins_dir=PurePosixPath(paths.plugins_dir()),
        pluginserver=PurePosixPath(paths.pluginserver()),
        models_dir=PurePosixPath(paths.models_dir()),
        proxy_listen=f"127.0.0.1:{at.proxy_port}",
        admin_listen=f"127.0.0.1:{at.admin_port}",
        status_listen=f"127.0.0.1:{at.status_port}",
        processes=at.processes,
        attached=at.attached,
        max_request_body_mb=file.gateway.limits.max_request_body_mb,
        ca_bundle=_ca_bundle(at),
        egress_include=PurePosixPath(egress_conf),
        secrets_dir=PurePosixPath(files),
        egress_port=at.egress_port,
        extra=at.extra,
    )
    kong_conf.write_text(config.kong_conf(conf), encoding="utf-8")
    egress_conf.write_text(config.egress_conf(conf), encoding="utf-8")
    state = {
        "options": asdict(options),
        "admin_url": f"http://127.0.0.1:{at.admin_port}",
        "secrets_file": str(at.secrets),
        "environ": stored,
    }
    private_file(at.folder / STATE, json.dumps(state))
    made = tuple(sorted(own & _known(at.secrets).keys()))
    return Rendered(
        file=file,
        kong_config=kong_config,
        kong_conf=kong_conf,
        environ=env,
        gateway_environ={n: v for n, v in env.items() if n not in keys},
        made_up=made,
        entities=tuple(from_tree(resolved)),
        server_commands={name: server_command(conf, name) for name in ("tenantgate", *at.attached)}
        if at.postgres
        else {},
    )


def _check_file(files: Path, name: str, tenants: Path) -> None:
    try:
        secret_files.read(files, name)
    except secret_files.SecretFileError as error:
        raise ConfigError(f"{tenants}: {{vault://file/{name}}}: {files / name}: {error}") from None


def _ca_bundle(at: Surroundings) -> PurePosixPath | None:
    found = paths.ca_bundle()
    if at.trust is None:
        return PurePosixPath(found) if found else None
    bundle = at.folder / "authorities.pem"
    bundle.write_bytes((found.read_bytes() if found else b"") + at.trust.read_bytes())
    return PurePosixPath(bundle)


def _publish(url: str | None, path: Path, records: Mapping[str, bytes], encryption_key: str) -> None:
    """Bring the policies of the file into force, if they aren't."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    store = open_store(url, path=path, encryption_key=encryption_key)
    try:
        head = store.head()
        hashes = difference(store.index(head), {name: content_hash(raw) for name, raw in records.items()})
        if changes := {name: None if new is None else records[name] for name, new in hashes.items()}:
            store.publish(changes, expected=head, note=PublishNote("tenantgate up", "", time.time()))
    finally:
        store.close()


def private_file(path: Path, text: str) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
        out.write(text)


def _known(path: Path) -> dict[str, str]:
    try:
        known: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known


def _made_up(path: Path, names: list[str]) -> dict[str, str]:
    known = _known(path)
    new = [n for n in names if n not in known]
    # `tenantgate apply --state-dir` reads it, also where the environment has all secrets.
    if new or not path.exists():
        known |= {n: secrets.token_urlsafe(32) for n in new}
        private_file(path, json.dumps(known, indent=2, sort_keys=True) + "\n")
    return {n: known[n] for n in names}
