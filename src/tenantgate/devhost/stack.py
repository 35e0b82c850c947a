"""A whole gateway on this machine: Redis, a mock provider, the plugin servers, and the embedded host or a Kong.

    with Stack(tenants=Path("tenants.yaml")) as stack:
        stack.client("acme", provider="mock", model="mock-small").chat("Hello")

For `tenantgate up`, the demo, the end-to-end tests and the benchmarks. Nothing is left running behind it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tenantgate import config
from tenantgate.apply.core.plan import make_plan
from tenantgate.apply.targets import connect
from tenantgate.devhost import readiness
from tenantgate.devhost.client import Client
from tenantgate.devhost.mock_control import MockControl
from tenantgate.devhost.postgres_server import PostgresServer, kong_settings, with_password
from tenantgate.devhost.processes import Child, command_pids, end_all, read_json, wait_for
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import RedisServer, free_port
from tenantgate.devhost.rendering import Rendered, Surroundings, render
from tenantgate.errors import ConfigError, EdgeError

if TYPE_CHECKING:
    from tenantgate.config.model import TenantsFile

__all__ = ["Stack"]

_START_S: Final = 60.0
# Restart=always and RestartSec=1, as deploy/systemd/tenantgate@.service has it.
_KEEP: Final = """
trap 'kill $server 2>/dev/null; wait $server; exit' TERM
while :; do eval "$TENANTGATE_SERVER" & server=$!; wait $server; sleep 1; done
"""
_SOCKET_MAX: Final = 100
_LONGEST_SOCKET: Final = "tenant-response-guardrails.metrics.socket"


class Stack(MockControl):
    """Starts on entering, stops on leaving.

    Args:
        tenants: the tenants.yaml.
        state_dir: for logs, made-up secrets and rendered files; kept, so that keys stay the same.
        kong_bin: a real Kong's `kong` instead of the embedded host.
        postgres: with `kong_bin`, a database for Kong and the policies: its URL, or empty for one of its own, which
            goes with the stack. The plugin servers are started beside Kong then.
        policy_store: URL of the policies' store, without `postgres`; a file of the stack's, if left out.
        port: of the proxy; 0 takes any.
        mock_latency_ms: before the mock provider's first byte.
        mock_chunk_ms: before each chunk of its streams.
        log_level: of the gateway's error log.
        own_redis: whether to start one, in place of the file's.
        gateway_module: what runs as the embedded host, for who wants to look into it.
        attached: attachable plugins that the gateway serves beside the engine.
        services: gives services of one's own in Kong for the mock provider's address.
        processes: of the engine; a number, or ``auto``.
        settings: of kong.conf, in place of the rendered ones or beside them.
        mock_tls: whether the gateway trusts the mock provider's ports with TLS.
    """

    def __init__(
        self,
        *,
        tenants: Path,
        state_dir: Path = Path(".tenantgate"),
        kong_bin: str | Path | None = None,
        postgres: str | None = None,
        policy_store: str | None = None,
        port: int = 0,
        mock_latency_ms: float = 0.0,
        mock_chunk_ms: float = 0.0,
        log_level: str = "info",
        own_redis: bool = True,
        gateway_module: str = "tenantgate.devhost.gateway",
        attached: tuple[str, ...] = (),
        services: Callable[[str], tuple[Mapping[str, Any], ...]] = lambda _: (),
        processes: str = "auto",
        settings: Mapping[str, str] | None = None,
        mock_tls: bool = False,
    ) -> None:
        self._mock_tls = mock_tls
        self._attached = attached
        self._services = services
        self._processes = processes
        self._settings = dict(settings or {})
        self._admin_port = 0
        self._tenants = tenants
        self._state = state_dir.resolve()
        self._kong_bin = Path(kong_bin) if kong_bin else None
        if postgres is not None and not kong_bin:
            raise ConfigError("a database needs a real Kong: the embedded host has none")
        self._postgres = postgres
        self._policy_store = policy_store
        self._servers: dict[str, Child] = {}
        self._port = port
        self._mock_args = ("--latency-ms", str(mock_latency_ms), "--chunk-ms", str(mock_chunk_ms))
        self._log_level = log_level
        self._gateway_module = gateway_module
        self._server: PostgresServer | None = None
        self._database: str | None = None
        self._exit = contextlib.ExitStack()
        self._own_redis = own_redis
        self._redis: RedisServer | None = None
        self._mock: Child | None = None
        self._mock_port = 0
        self._gateway: Child | RealKong | None = None
        self._rendered: Rendered | None = None
        self._run = self._state / "run"

    # -- life

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything, and wait until it serves.

        Raises:
            ConfigError: the configuration can't be honoured; names the place.
            EdgeError: a part didn't start; names it and its last words.
        """
        _need_extra()
        # Others would reach the sockets that Kong makes for all, and its logs.
        self._state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._state / "logs").mkdir(exist_ok=True)
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        if len(str(self._run / _LONGEST_SOCKET)) > _SOCKET_MAX:
            self._run = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="tg-")))
        self._run.mkdir(mode=0o700, exist_ok=True)
        if self._own_redis:
            self._redis = RedisServer(self._state / "redis")
            self._exit.callback(self._redis.stop)
            self._redis.start()
        self._start_mock()
        if self._postgres == "":
            self._server = PostgresServer(log=self._state / "logs" / "postgres.log")
            self._exit.callback(self._server.stop)
            self._server.start()
            self._database = self._server.url
        else:
            self._database = self._postgres and with_password(self._postgres)
        port = self._port or free_port()
        status_port, self._admin_port = free_port(), free_port()
        self._rendered = render(
            self._tenants,
            Surroundings(
                folder=self._state,
                run=self._run,
                secrets=self._state / "secrets.json",
                mock_url=self.mock_url,
                redis_port=self._redis.port if self._redis else None,
                proxy_port=port,
                status_port=status_port,
                admin_port=self._admin_port,
                postgres=self._database,
                policy_store=self._policy_store,
                attached=self._attached,
                services=self._services(self.mock_url),
                processes=self._processes,
                egress_port=free_port(),
                trust=self._mock_ca if self._mock_tls else None,
                extra={
                    "log_level": self._log_level,
                    **(RealKong.settings() if self._kong_bin else {}),
                    **self._settings,
                },
            ),
        )
        self._start_gateway(port, status_port)

    def _start_mock(self) -> None:
        ports = self._state / "mock.json"
        ports.unlink(missing_ok=True)
        self._mock = Child(
            "mock provider",
            [
                sys.executable,
                "-m",
                "tenantgate.devhost.mock_provider",
                "--exit-with-parent",
                "--ports-file",
                str(ports),
                *(("--ca-file", str(self._mock_ca)) if self._mock_tls else ()),
                *self._mock_args,
            ],
            log=self._state / "logs" / "mock.log",
        )
        self._exit.callback(self._mock.stop)
        made = wait_for(lambda: read_json(ports), self._mock, what="mock provider", timeout_s=_START_S)
        self._mock_port = int(made["port"])

    @property
    def _mock_ca(self) -> Path:
        return self._state / "mock-ca.pem"

    def _start_gateway(self, port: int, status_port: int) -> None:
        rendered = self._need()
        self._port = port
        log = self._state / "logs" / "gateway.log"
        if self._kong_bin:
            kong = RealKong(self._kong_bin, rendered.kong_conf, self._run, log=log)
            self._gateway = kong
            self._exit.callback(kong.stop)
            environ = dict(rendered.gateway_environ)
            if self._database:
                environ |= kong_settings(self._database)
                self._start_servers(rendered)
                kong.migrate(environ)
            kong.start(environ)
            if self._database:
                self._configure(rendered)
        else:
            self._gateway = Child(
                "embedded gateway",
                [
                    sys.executable,
                    "-m",
                    self._gateway_module,
                    "--exit-with-parent",
                    "--config",
                    str(rendered.kong_config),
                    "--conf",
                    str(rendered.kong_conf),
                    "--port",
                    str(port),
                    "--status-port",
                    str(status_port),
                    "--admin-port",
                    str(self._admin_port),
                    "--error-log",
                    str(self.error_log),
                ],
                log=log,
                environ=rendered.gateway_environ,
            )
            self._exit.callback(self._gateway.stop)
        readiness.wait(self._gateway, status_port, rendered.kong_conf, timeout_s=_START_S)
        if self._database and self._settings.get("role") != "control_plane":
            engine = self._run / "tenantgate.socket"
            readiness.wait_for_policies(self._gateway, engine, timeout_s=_START_S)

    def _start_servers(self, rendered: Rendered) -> None:
        """The plugin servers, as systemd would, and anew when one ends; each watches over its own processes."""
        # As little as nginx' workers leave to those that Kong starts.
        environ = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
        for name, argv in rendered.server_commands.items():
            log = self._state / "logs" / f"{name}.log"
            kept = {**environ, "TENANTGATE_SERVER": f"exec {shlex.join(argv)}"}
            server = Child(name, ["/bin/sh", "-c", _KEEP], log=log, environ=kept, foreign=True)
            self._servers[name] = server
            self._exit.callback(server.stop)

    def _configure(self, rendered: Rendered) -> None:
        """Give a Kong with a database its entities, and wait until its workers go by them."""
        target = connect(self.admin_url)
        plan = make_plan(target.read(), rendered.entities, whole=target.whole)
        target.settle(plan)
        target.withdraw(plan)
        if self._settings.get("role") == "control_plane":
            return
        readiness.wait_for_routes(
            self._gateway, self._port, rendered.file.gateway.path_prefix, timeout_s=_START_S
        )

    @property
    def kong_bin(self) -> Path:
        """The real Kong's `kong`."""
        if self._kong_bin is None:
            raise EdgeError("the embedded host runs here")
        return self._kong_bin

    @property
    def database(self) -> str:
        """URL of the database, with its password; empty without one."""
        return self._database or ""

    @property
    def admin_url(self) -> str:
        """Kong's Admin API."""
        return f"http://127.0.0.1:{self._admin_port}"

    def check(self) -> None:
        """Raise if the gateway or the mock provider ended by itself."""
        for part in (self._gateway, self._mock, *self._servers.values()):
            if part is not None:
                part.check()

    def stop(self) -> None:
        """Stop everything, in the opposite order; safe to call twice."""
        family = self._family()
        self._exit.close()
        end_all(family)
        self._gateway = None
        self._servers = {}

    def _family(self) -> list[int]:
        # Plugin servers that outlive their gateway (kong-pdk's do, in thread mode) are found before it ends.
        roots = [self._gateway.pid] if self._gateway else []
        roots += [server.pid for server in self._servers.values() if server.running]
        return [pid for root in roots for pid in command_pids(root, str(self._run))]

    def _need(self) -> Rendered:
        if self._rendered is None:
            raise EdgeError("the stack isn't running")
        return self._rendered

    # -- for clients

    @property
    def description(self) -> str:
        """What serves, in words."""
        if self._kong_bin:
            return f"Kong ({self._kong_bin}{', with PostgreSQL' if self._database else ''})"
        return "embedded gateway (for development, not Kong)"

    @property
    def tenants(self) -> Path:
        """The tenants.yaml."""
        return self._tenants

    @property
    def file(self) -> TenantsFile:
        """The tenants."""
        return self._need().file

    @property
    def proxy_url(self) -> str:
        """The gateway's address."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def mock_url(self) -> str:
        """The mock provider's address."""
        return f"http://127.0.0.1:{self._mock_port}"

    @property
    def mock_pid(self) -> int:
        """The mock provider's process."""
        return self._mock.pid if self._mock else 0

    @property
    def redis_url(self) -> str:
        """For redis-py."""
        return self._redis.url if self._redis else ""

    def url(self, *, tenant: str, provider: str, model: str) -> str:
        """The full address of a tenant's route."""
        prefix = self.file.gateway.path_prefix
        return self.proxy_url + config.chat_path(tenant=tenant, provider=provider, model=model, prefix=prefix)

    def key(self, tenant: str) -> str:
        """A client key of the tenant."""
        return self._need().key(tenant)

    def key_name(self, tenant: str) -> str:
        """The environment variable of that key."""
        return self._need().key_name(tenant)

    def client(self, tenant: str, *, provider: str, model: str) -> Client:
        """A client of one of the tenant's routes."""
        url = self.url(tenant=tenant, provider=provider, model=model)
        return Client(url=url, key=self.key(tenant), model=model)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the gateway, with the made-up secrets."""
        return dict(self._need().environ)

    @property
    def made_up(self) -> tuple[str, ...]:
        """Names of the secrets that were made up; they lie in `secrets_file`."""
        return self._need().made_up

    @property
    def secrets_file(self) -> Path:
        """The made-up secrets, as JSON."""
        return self._state / "secrets.json"

    # -- for tests

    @property
    def gateway_pid(self) -> int:
        """The gateway's process (nginx's master, for a Kong)."""
        return self._gateway.pid if self._gateway else 0

    def pids(self, plugin: str) -> list[int]:
        """The processes of a plugin's server."""
        server = self._servers.get(plugin)
        return command_pids(server.pid if server else self.gateway_pid, f"{plugin}.py")

    def serving(self, plugin: str) -> int:
        """How many processes of a plugin's server take events."""
        return readiness.serving(self._run / f"{plugin}.socket")

    @property
    def error_log(self) -> Path:
        """The gateway's error log, in which the plugin servers' output is."""
        return self._run / "logs" / "error.log" if self._kong_bin else self._state / "logs" / "error.log"

    def logs(self) -> list[Path]:
        """Every log file of every part."""
        found = [*(self._state / "logs").glob("*.log"), *(self._run / "logs").glob("*.log")]
        return sorted({*found, *([self._redis.log] if self._redis else [])})

    @property
    def audit_dir(self) -> Path:
        """Where the audit log has its journal, spool and files."""
        return self._state / "audit"

    @property
    def run_folder(self) -> Path:
        """Kong's prefix, with the sockets."""
        return self._run

    @property
    def server_commands(self) -> Mapping[str, Sequence[str]]:
        """By plugin the command that started its server, where Kong didn't."""
        return self._need().server_commands

    def stop_gateway(self) -> None:
        """End the gateway alone."""
        if self._gateway is not None:
            self._gateway.stop()

    def stop_database(self) -> None:
        """End a database of one's own."""
        if self._server is not None:
            self._server.stop()

    def reload(self) -> None:
        """``kong reload``; only a real Kong has it."""
        if not isinstance(self._gateway, RealKong):
            raise EdgeError("the embedded host doesn't reload")
        self._gateway.reload(self._need().gateway_environ)

    def kill_redis(self) -> None:
        """As a crash would."""
        if self._redis:
            self._redis.kill()

    def start_redis(self) -> None:
        """Start it again, empty, on the same port."""
        if self._redis:
            self._redis.start()


def _need_extra() -> None:
    try:
        import aiohttp  # noqa: F401 - part of an extra
    except ImportError as error:
        raise ConfigError("the embedded host needs the extra: pip install 'tenantgate[dev-host]'") from error
