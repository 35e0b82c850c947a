"""Gateways to measure: each a `Stack` of its own, with what it takes to look into its processes."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from tenantgate.bench import counters, procs, traced_gateway
from tenantgate.bench.configurations import BARE, BARE_PATH, MODEL, Configuration, bare_service, tenants_yaml
from tenantgate.bench.counters import Series
from tenantgate.bench.procs import Usage
from tenantgate.devhost import gateway, kong_conf
from tenantgate.devhost.client import Client
from tenantgate.devhost.processes import command_pids, descendants
from tenantgate.devhost.stack import Stack
from tenantgate.errors import EdgeError

__all__ = ["ENGINE", "Counts", "Site"]

ENGINE: Final = "tenantgate"
_CHAT_PATH: Final = "/v1/chat/completions"
_AUDIT_WORKER: Final = "tenantgate.audit.worker"
_READY_S: Final = 90.0


@dataclass(frozen=True, slots=True)
class Counts:
    """One reading of everything that counts."""

    usage: Mapping[str, Usage]
    metrics: Mapping[str, Series]
    redis: Mapping[str, float]
    asked: int
    """How often the mock provider was asked."""
    taken_s: float = field(default_factory=time.perf_counter)


class Site:
    """A running gateway that serves some configurations."""

    def __init__(
        self,
        configurations: Sequence[Configuration],
        folder: Path,
        *,
        tenants: int,
        latency_ms: float,
        chunk_ms: float,
        kong_bin: Path | None = None,
        traced: bool = False,
        processes: str = "auto",
    ) -> None:
        self.configurations = tuple(configurations)
        self.tenants = tenants
        self.extra: Mapping[str, Any] = {"model": MODEL}
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "tenants.yaml"
        file.write_text(tenants_yaml(configurations, tenants), encoding="utf-8")
        self.stack = Stack(
            tenants=file,
            state_dir=folder,
            kong_bin=kong_bin,
            mock_latency_ms=latency_ms,
            mock_chunk_ms=chunk_ms,
            log_level="error",
            gateway_module=traced_gateway.__name__ if traced else gateway.__name__,
            services=lambda mock_url: (bare_service(mock_url),),
            processes=processes,
        )
        self.trace = folder / "logs" / traced_gateway.FILE if traced and kong_bin is None else None
        """Where the traced gateway writes; None for one that isn't traced."""
        self._sockets: dict[str, Path] = {}

    def __enter__(self) -> Self:
        self.stack.start()
        try:
            for server in kong_conf.load(self._folder / "kong.conf").plugin_servers:
                at = Path(server.socket)
                self._sockets[server.name] = at.with_name(at.name.removesuffix(".socket") + ".metrics.socket")
            for configuration in self.configurations:
                self._settle(configuration)
        except BaseException:
            self.stack.stop()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stack.stop()

    def _settle(self, configuration: Configuration) -> None:
        """Wait until every tenant is answered: instances are started and models loaded by then."""
        for number in range(self.tenants):
            client = self.client(configuration, number)
            until = time.monotonic() + _READY_S
            while (status := client.chat("Is anybody there?", model=MODEL).status) != 200:
                if time.monotonic() > until:
                    raise EdgeError(
                        f"{configuration.name}: its tenants are answered {status}; see {self._folder}/logs"
                    )
                time.sleep(0.05)

    def target(self, configuration: Configuration, tenant: int) -> tuple[str, dict[str, str]]:
        """Address and headers for a tenant's requests."""
        headers = {"Content-Type": "application/json", "apikey": self.stack.key(configuration.tenant(tenant))}
        return self._url(configuration), headers

    def client(self, configuration: Configuration, tenant: int) -> Client:
        """A client of a tenant's."""
        return Client(self._url(configuration), self.stack.key(configuration.tenant(tenant)), MODEL)

    def _url(self, configuration: Configuration) -> str:
        return self.stack.proxy_url + (BARE_PATH if configuration.name == BARE.name else _CHAT_PATH)

    def roles(self) -> dict[str, list[int]]:
        """Process ids by what they are. The engine's are its watchdog and those that serve."""
        root, here, state = self.stack.gateway_pid, os.getpid(), self._folder.resolve()
        engine = self.stack.pids(ENGINE)
        audit = command_pids(root, _AUDIT_WORKER)
        ours = {*engine, *audit}
        return {
            "gateway": [pid for pid in (root, *descendants(root)) if pid not in ours],
            "engine": engine,
            "audit worker": audit,
            # A shell that watches it, and the server, which has another title.
            "redis": sorted({d for p in command_pids(here, f"{state}/redis") for d in (p, *descendants(p))}),
            "mock provider": command_pids(here, f"{state}/mock.json"),
        }

    def counts(self) -> Counts:
        """Read everything now."""
        return Counts(
            procs.sample(self.roles()),
            {name: counters.metrics_of(path) for name, path in self._sockets.items()},
            counters.redis_counts(self.stack.redis_url),
            self.stack.mock_count(),
        )

    def wait_for_log_phases(self) -> None:
        """Until no event runs any more: what follows the answers is done."""
        until = time.monotonic() + 5.0
        with contextlib.suppress(OSError):
            while time.monotonic() < until and any(self._running()):
                time.sleep(0.02)

    def _running(self) -> Iterator[bool]:
        for path in self._sockets.values():
            series = counters.metrics_of(path)
            yield counters.total(series, "tenantgate_events_in_progress") > 0
