"""What is looked at: Kong, sockets, Redis, policies, files. Each probe gives facts; none raises for what it finds."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import re
import shutil
import socket
import ssl
import stat
import time
import urllib.parse
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import redis
from cryptography import x509

from tenantgate import secret_files
from tenantgate.apply.core import nodes
from tenantgate.config import TenantsFile
from tenantgate.config.redis_commands import redis_of, uses
from tenantgate.doctor.core.kong import KongFacts
from tenantgate.doctor.core.node import FolderFacts, PoliciesFacts, RedisFacts, ServerFacts
from tenantgate.errors import ConfigError, EdgeError, TenantgateError
from tenantgate.models.files import find_models
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.policy.core.ports import PolicyStore
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.store.redis_rights import check_plugins, check_policies, check_rate_limits
from tenantgate.store.url import redis_config

__all__ = [
    "UnixConnection",
    "admin_facts",
    "certificate_file",
    "certificates",
    "clock_offset",
    "conf_facts",
    "folder",
    "kong_uid",
    "metrics_of",
    "models",
    "policies",
    "redis_facts",
    "secret_file",
    "sections",
    "servers",
]

_TIMEOUT_S: Final = 3.0
_KONG: Final = re.compile(r"kong/([0-9][0-9A-Za-z.\-]*)")
_ANSWER_MOST: Final = 16 << 20
_FILES: Final = (
    "nginx_http_include",
    "nginx_proxy_proxy_ssl_trusted_certificate",
    "nginx_proxy_ssl_client_certificate",
    "ssl_cert",
    "ssl_cert_key",
)
_CERTIFICATES: Final = (
    "ssl_cert",
    "nginx_proxy_ssl_client_certificate",
    "nginx_proxy_proxy_ssl_trusted_certificate",
)
_FEW: Final = 20
"""A file with more certificates is a system's list of authorities, of which some have always ended."""


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_TIMEOUT_S)
        self.sock.connect(str(self._path))


Answer = tuple[int, str, bytes]
"""Status, header `Server`, and body."""


def _get(connection: http.client.HTTPConnection, path: str) -> Answer | None:
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.getheader("server") or "", response.read(_ANSWER_MOST)
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


def _object(answer: Answer | None) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(answer[2]) if answer and answer[0] == 200 else {}
        return found if isinstance(found, dict) else {}
    return {}


# -- Kong ----------------------------------------------------------------------------------------------------


def conf_facts(path: Path, settings: Mapping[str, str]) -> KongFacts:
    """What a kong.conf says, and the Status API that it names."""
    answer = None
    status = re.match(r"(?:0\.0\.0\.0|\[::\]|([\w.]+)):(\d+)", settings.get("status_listen", ""))
    if status is not None:
        answer = _get(
            http.client.HTTPConnection(status[1] or "127.0.0.1", int(status[2]), timeout=_TIMEOUT_S),
            "/status/ready",
        )
    version = _KONG.search(answer[1]) if answer else None
    named = [part for name in _FILES for part in settings.get(name, "").split(",")]
    named.append(settings.get("declarative_config", "") if settings.get("database") == "off" else "")
    return KongFacts(
        where=str(path),
        version=version[1] if version else None,
        ready=None if status is None else answer is not None and answer[0] == 200,
        plugins=[name.strip() for name in settings.get("plugins", "bundled").split(",")],
        settings=settings,
        missing_files=[
            name for name in (n.strip() for n in named) if name.startswith("/") and not Path(name).exists()
        ],
    )


def admin_facts(url: str) -> KongFacts:
    """What the Admin API says of its Kong.

    Raises:
        ConfigError: the URL isn't one.
    """
    parts = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError("--admin-url: must be http://HOST:PORT or https://HOST:PORT")
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection

    def get(path: str) -> Answer | None:
        return _get(kind(str(parts.hostname), parts.port, timeout=_TIMEOUT_S), parts.path.rstrip("/") + path)

    root, enabled = get("/"), get("/plugins/enabled")
    told = _object(root)
    version = _KONG.search((root or enabled or (0, "", b""))[1])
    configuration = told.get("configuration")
    settings = None
    if isinstance(configuration, dict):
        # Directives are lists of name and value there; what isn't a text is no setting that is compared.
        settings = {name: value for name, value in configuration.items() if isinstance(value, str)}
        settings["admin_listen"] = ", ".join(map(str, configuration.get("admin_listen") or ["off"]))
    names = _object(enabled).get("enabled_plugins")
    return KongFacts(
        where=f"{parts.scheme}://{parts.netloc}",
        version=str(told.get("version") or "") or (version[1] if version else None),
        ready=(answer := get("/status")) is not None and answer[0] == 200,
        root_status=root[0] if root else None,
        plugins=[str(n) for n in names] if isinstance(names, list) else None,
        settings=settings,
    )


def kong_uid(settings: Mapping[str, str]) -> int | None:
    """The user that Kong's workers and so its plugin servers run as; None if that can't be told.

    Where Kong isn't started by root, its workers are whoever starts it (nginx, core module, `user`).
    """
    with contextlib.suppress(OSError):
        pid = (Path(settings.get("prefix", "/usr/local/kong")) / "pids" / "nginx.pid").read_text(
            encoding="utf-8"
        )
        owner = Path(f"/proc/{int(pid)}").stat().st_uid
        if owner != 0:
            return owner
    name = (settings.get("nginx_user") or settings.get("nginx_main_user") or "kong").split()[0]
    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


# -- plugin servers ------------------------------------------------------------------------------------------


def metrics_of(socket_path: Path) -> Path:
    """The socket for health and metrics beside a plugin server's own."""
    return socket_path.with_name(f"{socket_path.stem}.metrics.socket")


def servers(settings: Mapping[str, str]) -> list[ServerFacts]:
    """Each plugin server that a kong.conf names."""
    prefix = settings.get("prefix", "/usr/local/kong")
    names = [n.strip() for n in settings.get("pluginserver_names", "").split(",") if n.strip()]
    found = []
    for name in names:
        key = f"pluginserver_{name.lower().replace('-', '_')}"
        path = Path(settings.get(f"{key}_socket", f"{prefix}/{name}.socket"))
        found.append(_server(name, path, settings.get(f"{key}_start_cmd", "")))
    return found


def _server(name: str, path: Path, command: str) -> ServerFacts:
    mode = _mode(path)
    port = re.search(r"--metrics-port[= ](\d+)", command)
    own = re.search(r"--metrics-socket[= ](\S+)", command)

    def get(page: str) -> Answer | None:
        if port is not None:
            return _get(http.client.HTTPConnection("127.0.0.1", int(port[1]), timeout=_TIMEOUT_S), page)
        return _get(UnixConnection(Path(own[1]) if own else metrics_of(path)), page)

    ready = get("/readyz")
    told: dict[str, Any] = {}
    if ready is not None:
        with contextlib.suppress(ValueError):
            told = json.loads(ready[2])
    return ServerFacts(
        name=name,
        socket=str(path),
        mode=mode,
        accepts=mode is not None and _accepts(path),
        ready=None if ready is None else ready[0] == 200,
        reason=str(told.get("reason", "")) if isinstance(told, dict) else "",
        version=str(_object(get("/healthz")).get("version", "")),
        errors=_errors(get("/metrics")),
    )


def _errors(answer: Answer | None) -> int:
    text = answer[2].decode("utf-8", "replace") if answer and answer[0] == 200 else ""
    found = re.findall(
        r'^tenantgate_log_events_total\{level="(?:error|critical)"\} (\d+)', text, re.MULTILINE
    )
    return sum(map(int, found))


def _accepts(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
        probe.settimeout(_TIMEOUT_S)
        probe.connect(str(path))
        return True
    return False


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


# -- Redis and policies --------------------------------------------------------------------------------------


def _counts(file: TenantsFile) -> bool:
    return bool(file.defaults.budgets or file.defaults.token_limits) or any(
        tenant.budgets or tenant.token_limits for tenant in file.tenants
    )


def redis_facts(
    file: TenantsFile, environ: Mapping[str, str], store_url: str | None, password_env: str | None
) -> list[tuple[RedisFacts, RedisConfig | None]]:
    """Each Redis of tenants.yaml with its use; `store_url` is the policy store's address."""
    found: list[tuple[RedisFacts, RedisConfig | None]] = []
    spool = getattr(file.gateway.plugins.get("audit"), "spool", "file") == "redis"
    for where, use, used in uses(file):
        # Where limits are counted there also budgets are; the cache alone may forget.
        shared = use == "rate limits" or file.gateway.rate_limiting.redis is None
        keeps = (shared and _counts(file)) or (use == "plugins" and spool)
        try:
            config = redis_of(used, where, password_env, environ)
        except ConfigError as error:
            found.append((RedisFacts(where=where, use=use, problem=str(error)), None))
            continue
        problem = check_plugins(config) if use == "plugins" else check_rate_limits(config)
        found.append((_redis(where, use, config, problem, keeps=keeps), config))
    if store_url is not None and store_url.startswith("redis"):
        config = redis_config(store_url)
        facts = _redis("gateway.policy.store", "policies", config, check_policies(config), keeps=True)
        found.append((facts, config))
    return found


def _redis(where: str, use: str, config: RedisConfig, problem: str | None, *, keeps: bool) -> RedisFacts:
    if problem is not None:
        return RedisFacts(where=where, use=use, problem=problem, keeps=keeps)
    told: dict[str, Any] = {}
    asked = connect(config, timeout_ms=int(_TIMEOUT_S * 1000))
    try:
        for part in ("server", "memory", "persistence"):
            with contextlib.suppress(redis.RedisError, OSError):
                told |= asked.ask("tg:doctor", partial(_info, part))
    finally:
        asked.close()
    return RedisFacts(
        where=where,
        use=use,
        version=str(told.get("redis_version", "")),
        eviction=str(told.get("maxmemory_policy", "")),
        maxmemory=int(told.get("maxmemory", 0)),
        appends=bool(told["aof_enabled"]) if "aof_enabled" in told else None,
        keeps=keeps,
    )


def _info(part: str, client: Any) -> dict[str, Any]:
    found: dict[str, Any] = client.info(part)
    return found


def clock_offset(config: RedisConfig) -> float | None:
    """Seconds by which the clock of a Redis is ahead of this node's; None if it can't be read."""
    asked = connect(config, timeout_ms=int(_TIMEOUT_S * 1000))
    try:
        before = time.time()
        seconds, micros = asked.ask("tg:doctor", lambda client: client.time())
        return float(seconds) + float(micros) / 1e6 - (before + time.time()) / 2
    except (redis.RedisError, OSError):
        return None
    finally:
        asked.close()


def policies(
    store: PolicyStore, where: str, records: Mapping[str, bytes] | None, now: float
) -> PoliciesFacts:
    """What the policy store has, and which node goes by what; `records` are those of tenants.yaml."""
    try:
        index = store.index() if store.latest() else {}
        head, said = store.head(), store.acknowledgements()
        if records is None or not head:
            pending = None
        else:
            pending = (
                any(store.record(t) != body for t, body in records.items()) or index.keys() != records.keys()
            )
    except TenantgateError as error:
        return PoliciesFacts(where=where, problem=str(error)[:300])
    running = nodes.live(said, now=now)
    return PoliciesFacts(
        where=where,
        version=head,
        nodes=len({a.node for a in running}),
        behind=nodes.behind(running, head),
        ahead=any(a.version > head for a in running),
        pending=pending,
    )


# -- files ---------------------------------------------------------------------------------------------------


def certificates(settings: Mapping[str, str], now: float) -> list[tuple[str, float | None]]:
    """Each certificate that Kong shows clients, or takes as an authority, with the seconds until it ends.

    They are in files, and in what its ports answer.
    """
    found: list[tuple[str, float | None]] = []
    named = [p.strip() for name in _CERTIFICATES for p in settings.get(name, "").split(",")]
    for path in filter(None, named):
        if not path.startswith("/"):
            continue  # the certificate itself, or a reference to it
        try:
            pem = Path(path).read_bytes()
        except OSError:
            found.append((path, None))
            continue
        if pem.count(b"-----BEGIN CERTIFICATE-----") <= _FEW:
            found.append((path, _left(pem, now)))
    for listen in settings.get("proxy_listen", "").split(","):
        match = re.match(r"\s*(\[[^\]]*\]|[^:\s]+):(\d+)\s.*\bssl\b", listen)
        if match is None:
            continue
        every = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104 - what Kong listens on
        host = every.get(match[1], match[1].strip("[]"))
        pem = b""
        with contextlib.suppress(OSError, ValueError):
            pem = ssl.get_server_certificate((host, int(match[2])), timeout=_TIMEOUT_S).encode()
        found.append((f"{host}:{match[2]}", _left(pem, now)))
    return found


def certificate_file(folder: Path, name: str, member: str, now: float) -> float | None:
    """The seconds until the certificate in a file of the vault `file` ends; None: it can't be read."""
    try:
        return _left(secret_files.read(folder, name, member).encode(), now)
    except (OSError, secret_files.SecretFileError):
        return None


def _left(pem: bytes, now: float) -> float | None:
    try:
        return min(c.not_valid_after_utc.timestamp() for c in x509.load_pem_x509_certificates(pem)) - now
    except ValueError:
        return None


def folder(
    path: Path, use: str, *, check: str = "disk", uid: int | None, private: bool = False
) -> FolderFacts:
    """A folder that the user `uid` must be able to write (root: without a look at its rights)."""
    try:
        told = path.stat()
    except OSError:
        return FolderFacts(path=str(path), use=use, check=check, there=False)
    mode = stat.S_IMODE(told.st_mode)
    writable = None
    if uid == os.geteuid():
        writable = os.access(path, os.W_OK | os.X_OK)
    elif uid is not None:
        writable = (
            uid == 0
            or mode & 0o002 != 0
            or (told.st_uid == uid and mode & 0o200 != 0)
            or _by_group(told, uid)
        )
    free = shutil.disk_usage(path).free
    return FolderFacts(
        path=str(path),
        use=use,
        check=check,
        there=path.is_dir(),
        writable=writable,
        mode=mode,
        free=free,
        private=private,
    )


def reaches_workers(prefix: Path) -> bool:
    """Whether every user can connect to the socket of Kong's workers: `sockets/we` in its nginx template."""
    folder = prefix / "sockets"
    try:
        return (
            prefix.stat().st_mode & folder.stat().st_mode & 0o001 != 0
            and (folder / "we").stat().st_mode & 0o002 != 0
        )
    except OSError:
        return False


def secret_file(folder: Path, name: str, *, uid: int | None) -> str | None:
    """Why the user `uid` can't have the secret in a file; None where he can, or where nobody knows who he is."""
    try:
        secret_files.read(folder, name)
        told = (folder / name).stat()
    except OSError as error:
        return error.strerror or "can't be read"
    except secret_files.SecretFileError as error:
        return str(error)
    mode = stat.S_IMODE(told.st_mode)
    readable = (
        uid in (None, 0)
        or mode & 0o004 != 0
        or (told.st_uid == uid and mode & 0o400 != 0)
        or (mode & 0o040 != 0 and uid is not None and _in_group(told, uid))
    )
    return None if readable else "Kong's user may not read it"


def _by_group(told: os.stat_result, uid: int) -> bool:
    return told.st_mode & 0o020 != 0 and _in_group(told, uid)


def _in_group(told: os.stat_result, uid: int) -> bool:
    try:
        user = pwd.getpwuid(uid)
    except KeyError:
        return False
    return told.st_gid in os.getgrouplist(user.pw_name, user.pw_gid)


def sections(file: TenantsFile, name: str) -> list[Mapping[str, Any]]:
    """A plugin's settings wherever they stand: for all tenants, for one, or for a model."""
    levels = [file.defaults.plugins, *(t.plugins for t in file.tenants)]
    levels += [m.plugins for t in file.tenants for m in t.models]
    return [level[name] for level in levels if name in level]


def models(file: TenantsFile) -> list[tuple[str, str | None, str | None]]:
    """Each set of models that tenants.yaml needs: its name, its folder, and the problem."""
    large = any(cache.get("verifier") == LARGE for cache in sections(file, "cache"))
    out: list[tuple[str, str | None, str | None]] = []
    for name in (BUILT_IN, LARGE) if large else (BUILT_IN,):
        try:
            found = find_models(name)
            out.append((name, str(found.directory) if found else None, None))
        except EdgeError as error:
            out.append((name, None, str(error)))
    return out
