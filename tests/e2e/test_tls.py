"""TLS with clients, on the Kong of --kong-bin alone: the embedded host has none."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from certificates import made
from tenantgate.apply.core.entities import from_tree
from tenantgate.apply.core.plan import make_plan
from tenantgate.apply.targets import connect
from tenantgate.config import tls
from tenantgate.devhost import readiness
from tenantgate.devhost.postgres_server import PostgresServer, kong_settings
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import free_port
from tenantgate.errors import ConfigError

from support import ROOT, until

pytestmark = pytest.mark.e2e

NAME = "ai.example.com"
OURS = {"tags": ["tenantgate"]}
TREE = {
    "_format_version": "3.0",
    "services": [
        {"name": "s", "url": "http://127.0.0.1:9", "routes": [{"name": "r", "paths": ["/"], **OURS}], **OURS}
    ],
}


class World:
    """A Kong with a certificate of tenants.yaml, and without an engine: no request gets that far."""

    def __init__(self, folder: Path, kong_bin: str, database: PostgresServer | None) -> None:
        self.secrets = folder / "secrets"
        self.secrets.mkdir()
        self.environ = {**os.environ, "KONG_VAULT_FILE_PREFIX": str(self.secrets)}
        self.port, self.admin, status = (free_port() for _ in range(3))
        self.renew(1)
        (folder / "kong.yml").write_text(json.dumps(self._tree()))
        (folder / "clients.pem").write_text(made("clients.example.com")[0])
        conf = folder / "kong.conf"
        given = {
            "prefix": folder / "kong",
            "database": "off",
            "declarative_config": folder / "kong.yml",
            "db_update_frequency": "1",
            "worker_state_update_frequency": "1",
            "proxy_listen": f"127.0.0.1:{self.port} ssl",
            "admin_listen": f"127.0.0.1:{self.admin}",
            "admin_gui_listen": "off",
            "status_listen": f"127.0.0.1:{status}",
            "log_level": "notice",
            "anonymous_reports": "off",
            "vaults": "bundled,file",
            "vault_file_prefix": self.secrets,
            "lua_package_path": f"{ROOT}/plugins/?.lua;;",
            "plugins": "bundled",
            **RealKong.settings(),
            "nginx_worker_processes": "2",
        }
        if database is not None:
            given["database"] = "postgres"
            self.environ |= kong_settings(database.url)
        conf.write_text("".join(f"{name} = {value}\n" for name, value in given.items()))
        self.kong = RealKong(Path(kong_bin), conf, folder, log=folder / "start.log")
        if database is not None:
            self.kong.migrate(self.environ)
        self.kong.start(self.environ)
        readiness.wait(self.kong, status, conf, timeout_s=60)
        if database is not None:
            self.apply()

    def _tree(self) -> dict[str, Any]:
        # A certificate and its key in files of their own, which can't change at the same moment.
        certificate = tls.Certificate(snis=(NAME,), cert="{vault://file/ai.crt}", key="{vault://file/ai.key}")
        return tls.pinned({**TREE, **tls.entities(tls.Tls(certificates=(certificate,)))}, self.environ)

    def renew(self, number: int) -> None:
        """Put new files in the place of the old ones, one after the other."""
        for name, text in zip(("ai.crt", "ai.key"), made(NAME, number=number), strict=True):
            new = self.secrets / f"{name}.new"
            new.write_text(text)
            new.replace(self.secrets / name)

    def apply(self) -> bool:
        """As `tenantgate apply` does; whether anything changed."""
        kong = connect(f"http://127.0.0.1:{self.admin}")
        plan = make_plan(kong.read(), from_tree(self._tree()), whole=True)
        kong.settle(plan)
        return kong.due(plan)

    def shown(self) -> int:
        """The serial number of the certificate that a client gets."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.port), 10) as sock,
            context.wrap_socket(sock, server_hostname=NAME) as found,
        ):
            der = found.getpeercert(binary_form=True)
        assert der is not None
        return x509.load_der_x509_certificate(der).serial_number


@pytest.fixture(params=["without a database", pytest.param("with PostgreSQL", marks=pytest.mark.slow)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    kong_bin = request.config.getoption("--kong-bin")
    if not kong_bin:
        pytest.skip("the embedded host has no TLS with clients")
    with contextlib.ExitStack() as stack:
        database = None
        if request.param == "with PostgreSQL":
            try:
                database = PostgresServer(log=tmp_path / "postgres.log")
            except ConfigError as error:
                pytest.skip(str(error))
            stack.callback(database.stop)
            database.start()
        started = World(tmp_path, kong_bin, database)
        stack.callback(started.kong.stop)
        yield started


def test_certificates_are_renewed_and_no_handshake_fails(world: World) -> None:
    shown: list[int] = []
    ended = threading.Event()

    def connect_again() -> None:
        while not ended.is_set():
            shown.append(world.shown())

    def seen(number: int) -> None:
        until(
            lambda: set(shown[-20:]), lambda last: last == {number}, what="certificates of the last clients"
        )

    with ThreadPoolExecutor(3) as pool:
        clients = [pool.submit(connect_again) for _ in range(3)]
        try:
            seen(1)
            world.apply()
            for number in range(2, 8):
                world.renew(number)
                assert world.apply()
                seen(number)
        finally:
            ended.set()
    for client in clients:
        client.result()
    assert set(shown) == set(range(1, 8))


def test_an_apply_without_a_new_certificate_changes_nothing(world: World) -> None:
    world.apply()
    assert not world.apply()
