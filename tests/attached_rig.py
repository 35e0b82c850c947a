"""A gateway whose routes are written by hand: the plugins attached as their pages say, and no engine."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import yaml

from tenantgate import features, paths
from tenantgate.config import KongConfOptions, egress_conf, kong_conf
from tenantgate.config import deck_variables as placeholders
from tenantgate.devhost import readiness
from tenantgate.devhost.client import Client
from tenantgate.devhost.mock_control import MockControl
from tenantgate.devhost.processes import Child, read_json, wait_for
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import RedisServer, free_port

from support import ROOT

PLUGINS: Final = tuple(plugin.name for plugin in features.plugins())
TOGETHER: Final = "together"
MODEL: Final = "gpt-4o-mini"
_PAGES: Final = ROOT / "docs"
_ROUTE: Final = f"llm.openai.{MODEL}.acme"
_START_S: Final = 60.0
_ENVIRON: Final = {
    "DECK_ACME_API_KEY": "client-key-of-acme",
    "TENANTGATE_CACHE_KEY": "attached-0123456789abcdef0123456789abcdef",
    "ACME_OPENAI_KEY": "Bearer sk-provider-secret",
}


def blocks(page: Path, language: str) -> list[str]:
    """The blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def kong_files(page: Path) -> list[str]:
    """Each whole kong.yml that a page shows."""
    return [block for block in blocks(page, "yaml") if block.startswith("_format_version")]


def page_of(route: str) -> Path:
    """The page that shows the kong.yml with this plugin, or with all."""
    return _PAGES / "attached.md" if route == TOGETHER else _PAGES / "plugins" / f"{route}.md"


class Attached(MockControl):
    """A gateway with a route for each plugin and one for all together, each as its page has it.

    Only what belongs to a machine is another: addresses, paths, and how long a plugin waits on a busy one.
    """

    def __init__(self, state: Path, kong_bin: str | None) -> None:
        self._exit = contextlib.ExitStack()
        self._state = state
        # A socket's path is short.
        self._run = Path(self._exit.enter_context(tempfile.TemporaryDirectory(prefix="tg-")))
        self._kong_bin = kong_bin
        self._port = free_port()
        self._redis = RedisServer(state / "redis")
        self._mock_port = 0
        self.audit = state / "audit"
        self.error_log = self._run / "logs" / "error.log" if kong_bin else state / "error.log"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._exit.close()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        self._exit.close()

    def _start(self) -> None:
        self.audit.mkdir(mode=0o700)
        self._exit.callback(self._redis.stop)
        self._redis.start()
        ports = self._state / "mock.json"
        mock = Child(
            "mock provider",
            [
                *(sys.executable, "-m", "tenantgate.devhost.mock_provider", "--exit-with-parent"),
                *("--ports-file", str(ports)),
            ],
            log=self._state / "mock.log",
        )
        self._exit.callback(mock.stop)
        made = wait_for(lambda: read_json(ports), mock, what="mock provider", timeout_s=_START_S)
        self._mock_port = int(made["port"])
        self._egress_port = free_port()
        status = free_port()
        yml, conf = self._state / "kong.yml", self._state / "kong.conf"
        yml.write_text(yaml.safe_dump(self._tree(), sort_keys=False))
        conf.write_text(kong_conf(self._conf(yml, status)))
        self._egress.write_text(egress_conf(self._conf(yml, status)))
        environ = {**os.environ, **_ENVIRON}
        if self._kong_bin:
            kong = RealKong(Path(self._kong_bin), conf, self._run, log=self._state / "start.log")
            self._exit.callback(kong.stop)
            kong.start(environ)
            readiness.wait(kong, status, conf, timeout_s=_START_S)
            return
        command = [sys.executable, "-m", "tenantgate.devhost.gateway", "--exit-with-parent"]
        command += ["--config", str(yml), "--conf", str(conf), "--error-log", str(self.error_log)]
        command += ["--port", str(self._port), "--status-port", str(status)]
        child = Child("embedded gateway", command, log=self._state / "gateway.log", environ=environ)
        self._exit.callback(child.stop)
        readiness.wait(child, status, conf, timeout_s=_START_S)

    @property
    def _egress(self) -> Path:
        return self._state / "tenantgate-egress.conf"

    def _conf(self, yml: Path, status: int) -> KongConfOptions:
        # Without the engine: who attaches plugins needs no other.
        own = {"log_level": "info", "plugins": ",".join(["bundled", *PLUGINS])}
        return KongConfOptions(
            prefix=self._run,
            declarative_config=yml,
            plugins_dir=paths.plugins_dir(),
            pluginserver=Path(sys.executable).with_name("tenantgate-pluginserver"),
            models_dir=paths.models_dir(),
            proxy_listen=f"127.0.0.1:{self._port}",
            status_listen=f"127.0.0.1:{status}",
            ca_bundle=None,
            attached=PLUGINS,
            egress_include=self._egress,
            egress_port=self._egress_port,
            extra={
                **own,
                "pluginserver_names": ",".join(PLUGINS),
                **(RealKong.settings() if self._kong_bin else {}),
            },
        )

    def _tree(self) -> dict[str, Any]:
        """The pages' files as one, and routes that lack what a page asks for."""
        files = {route: self._file(route) for route in (*PLUGINS, TOGETHER)}
        services = [service for file in files.values() for service in file["services"]]
        services += [_without_closing(self._file("tenant-response-guardrails"), "open")]
        services += [_without_payloads(self._file("tenant-semantic-cache"), "payloadless")]
        consumers = files[TOGETHER]["consumers"]
        assert all(file["consumers"] == consumers for file in files.values())
        return {"_format_version": "3.0", "services": services, "consumers": consumers}

    def _file(self, route: str) -> dict[str, Any]:
        (text,) = kong_files(page_of(route))
        text = text.replace("/var/lib/tenantgate/audit", str(self.audit))
        text = text.replace("port: 6379", f"port: {self._redis.port}")
        file: dict[str, Any] = placeholders.resolve_tree(yaml.safe_load(text), _ENVIRON)
        (service,) = file["services"]
        _rename(service, route)
        for plugin in _plugins(service):
            config = plugin["config"]
            if plugin["name"] == "ai-proxy":
                upstream = f"{self.mock_url}/v1/chat/completions"
                config["model"]["options"] = {"upstream_url": upstream}
            elif plugin["name"] in PLUGINS:
                config["deadline_ms"] = 1400
                if "redis" in config:
                    config["redis"]["timeout_ms"] = 500
        return file

    @property
    def mock_url(self) -> str:
        return f"http://127.0.0.1:{self._mock_port}"

    def client(self, route: str) -> Client:
        """A client of one route."""
        return Client(
            url=f"http://127.0.0.1:{self._port}/{route}", key=_ENVIRON["DECK_ACME_API_KEY"], model=MODEL
        )

    def events(self, name: str) -> list[str]:
        """The lines of the plugins' log with this event."""
        lines = self.error_log.read_text("utf-8", "replace").splitlines()
        return [line for line in lines if f'"{name}"' in line]


def _rename(service: dict[str, Any], name: str) -> None:
    (route,) = service["routes"]
    assert route["name"] == _ROUTE
    service["name"], route["name"], route["paths"] = f"s-{name}", f"llm.{name}.{MODEL}.acme", [f"/{name}"]


def _plugins(service: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield from service.get("plugins", [])
    for route in service["routes"]:
        yield from route["plugins"]


def _without_closing(file: dict[str, Any], name: str) -> dict[str, Any]:
    """The route without the Lua that refuses what wasn't checked."""
    service: dict[str, Any] = file["services"][0]
    _named(service, name)
    (route,) = service["routes"]
    route["plugins"] = [plugin for plugin in route["plugins"] if plugin["name"] != "post-function"]
    return service


def _without_payloads(file: dict[str, Any], name: str) -> dict[str, Any]:
    """The route with ai-proxy's own defaults for logging."""
    service: dict[str, Any] = file["services"][0]
    _named(service, name)
    for plugin in _plugins(service):
        if plugin["name"] == "ai-proxy":
            del plugin["config"]["logging"]
    return service


def _named(service: dict[str, Any], name: str) -> None:
    (route,) = service["routes"]
    route["name"] = _ROUTE
    _rename(service, name)
