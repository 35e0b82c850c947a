"""What Kong must be and have."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from tenantgate.doctor.core.findings import Finding, Severity, ok

__all__ = ["KongFacts", "check_kong", "conf_settings", "size"]

_CHECK: Final = "kong"
_SERIES: Final = "3.9"
_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIMES: Final = {"ms": 0.001, "": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

_AT_LEAST: Final = {
    "nginx_http_client_body_buffer_size": "longer prompts go to disk, where ai-proxy answers 400 to them",
    "nginx_http_client_max_body_size": "longer prompts get 413 although tenants.yaml allows them",
}
_MUST_HAVE: Final = {
    "nginx_http_include": "without the loopback proxy no request can fail over or has its egress list",
    "nginx_http_lua_shared_dict": "without the zone tenantgate_tries no request can fail over",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KongFacts:
    """What is known of a Kong. None: couldn't be found out.

    Attributes:
        where: what was asked: a kong.conf's path, or the Admin API's address.
        version: such as 3.9.3.
        ready: answer of ``/status/ready``.
        root_status: HTTP status of the Admin API's ``GET /``.
        plugins: enabled ones.
        settings: of kong.conf.
        missing_files: files that the settings name, and that aren't there.
    """

    where: str
    version: str | None = None
    ready: bool | None = None
    root_status: int | None = None
    plugins: Collection[str] | None = None
    settings: Mapping[str, str] | None = None
    missing_files: Collection[str] = ()


def conf_settings(text: str, environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The settings of a kong.conf; ``KONG_X`` of `environ` comes before ``x``, as Kong has it."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        plain = line.strip()
        name, equals, value = plain.partition("=")
        if equals and not plain.startswith("#"):
            found[name.strip()] = re.sub(r"\s+#.*$", "", value).strip()
    own = {n[5:].lower(): v for n, v in (environ or {}).items() if n.startswith("KONG_")}
    return found | own


def check_kong(facts: KongFacts, wanted: Mapping[str, str]) -> Iterator[Finding]:
    """Compare a Kong with the settings that tenants.yaml needs (`tenantgate render --kong-conf`)."""
    yield from _version(facts)
    if facts.ready is not None:
        yield (
            ok(_CHECK, "status", "Kong is ready")
            if facts.ready
            else Finding(
                _CHECK,
                Severity.ERROR,
                "status",
                "/status/ready doesn't say that Kong is ready: it takes no traffic, or can't be reached",
                "look at Kong's error log (PREFIX/logs/error.log) and start Kong",
            )
        )
    if facts.root_status == 500:
        yield Finding(
            _CHECK,
            Severity.WARNING,
            "GET /",
            "the Admin API's first page answers 500: a fault of Kong 3.9 with plugin servers that have a start_cmd. "
            "decK can't work with this Kong",
            "give Kong _socket and _query_cmd only, and start the plugin servers by systemd (docs/deploy.md)",
        )
    yield from _plugins(facts, wanted)
    if facts.settings is not None:
        yield from _settings(facts.settings, wanted)
    for path in sorted(facts.missing_files):
        yield Finding(
            _CHECK,
            Severity.ERROR,
            path,
            "kong.conf names this file, and it isn't there",
            "write it, or set the path",
        )


def _version(facts: KongFacts) -> Iterator[Finding]:
    if facts.version is None:
        yield Finding(
            _CHECK,
            Severity.UNKNOWN,
            "version",
            f"{facts.where} doesn't tell Kong's version",
            "give --admin-url, or start Kong with a status_listen that this machine reaches",
        )
    elif facts.version.startswith(f"{_SERIES}."):
        yield ok(_CHECK, "version", facts.version)
    else:
        yield Finding(
            _CHECK,
            Severity.ERROR,
            "version",
            f"Kong {facts.version}: the Lua plugins are made for and tested with {_SERIES}",
            f"run Kong {_SERIES}",
        )


def _names(text: str) -> set[str]:
    return {name.strip() for name in text.split(",") if name.strip()}


def _plugins(facts: KongFacts, wanted: Mapping[str, str]) -> Iterator[Finding]:
    if facts.plugins is None:
        yield Finding(
            _CHECK,
            Severity.UNKNOWN,
            "plugins",
            "unknown which are enabled",
            "give --kong-conf or --admin-url",
        )
        return
    missing = sorted(_names(wanted["plugins"]) - {"bundled"} - set(facts.plugins))
    if missing:
        yield Finding(
            _CHECK,
            Severity.ERROR,
            "plugins",
            f"not enabled: {', '.join(missing)}. Kong doesn't start with a kong.yml that names them",
            f"add them to `plugins` (in the Helm chart: plugins.preInstalled): {wanted['plugins']}",
        )
    else:
        yield ok(_CHECK, "plugins", "all enabled")


def _settings(settings: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[Finding]:
    bad = []
    for name, meaning in _AT_LEAST.items():
        have, need = size(settings.get(name, "8k" if "buffer" in name else "0")), size(wanted[name])
        unlimited = have == 0 and "max" in name
        if have is None or (have < (need or 0) and not unlimited):
            bad.append(_wrong(name, settings, wanted, meaning))
    for name, meaning in _MUST_HAVE.items():
        if not settings.get(name):
            bad.append(_wrong(name, settings, wanted, meaning))
    if "http_503" not in settings.get("nginx_proxy_proxy_next_upstream", "").split():
        bad.append(
            _wrong(
                "nginx_proxy_proxy_next_upstream",
                settings,
                wanted,
                "a request whose first target fails isn't tried again",
            )
        )
    if settings.get("untrusted_lua", "sandbox") == "off":
        bad.append(
            _wrong(
                "untrusted_lua", settings, wanted, "the routes' lines of Lua don't run, so Kong answers 500"
            )
        )
    wait = _seconds(settings.get("nginx_http_lua_socket_read_timeout", "60s"))
    if wait is None or wait > 10:
        bad.append(
            _wrong(
                "nginx_http_lua_socket_read_timeout",
                settings,
                wanted,
                "a plugin server that hangs holds requests up for so long",
                Severity.WARNING,
            )
        )
    if settings.get("nginx_proxy_proxy_ssl_verify") != "on":
        bad.append(
            _wrong(
                "nginx_proxy_proxy_ssl_verify",
                settings,
                wanted,
                "credentials go to providers whose certificates aren't checked",
                Severity.WARNING,
            )
        )
    listen = settings.get("admin_listen", "127.0.0.1:8001")
    if any(not re.match(r"(off|127\.|localhost|\[::1\]|unix:)", one.strip()) for one in listen.split(",")):
        bad.append(
            Finding(
                _CHECK,
                Severity.WARNING,
                "admin_listen",
                "the Admin API listens beyond loopback: whoever reaches it can replace the configuration",
                "admin_listen = off, or 127.0.0.1:8001",
            )
        )
    yield from bad or [ok(_CHECK, "settings", "kong.conf has what Tenantgate needs")]


def _wrong(
    name: str,
    settings: Mapping[str, str],
    wanted: Mapping[str, str],
    meaning: str,
    severity: Severity = Severity.ERROR,
) -> Finding:
    have = settings.get(name)
    told = "isn't set" if have is None else f"is {have[:80]!r}"
    return Finding(
        _CHECK, severity, name, f"{told}: {meaning}", f"kong.conf: {name} = {wanted.get(name, 'sandbox')}"
    )


def size(text: str) -> int | None:
    """Bytes of nginx's ``4m``; None for what is no size."""
    found = re.fullmatch(r"(\d+)([kmg]?)", text.strip().lower())
    return int(found[1]) * _UNITS[found[2]] if found else None


def _seconds(text: str) -> float | None:
    found = re.fullmatch(r"(\d+)(ms|[smh]?)", text.strip().lower())
    return int(found[1]) * _TIMES[found[2]] if found else None
