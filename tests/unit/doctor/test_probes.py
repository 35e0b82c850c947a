from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from certificates import made
from tenantgate.doctor import probes

PAGES: dict[str, tuple[int, Any]] = {
    "/": (500, {"message": "An unexpected error occurred"}),
    "/plugins/enabled": (200, {"enabled_plugins": ["tenantgate", "ai-proxy"]}),
    "/status": (200, {}),
    "/status/ready": (503, {}),
}


class Kong(BaseHTTPRequestHandler):
    server_version, sys_version = "kong/3.9.3", ""

    def do_GET(self) -> None:
        status, body = PAGES.get(self.path, (404, {}))
        raw = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_args: object) -> None:
        return


@pytest.fixture
def port() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Kong)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_admin_api_whose_first_page_fails_tells_version_and_plugins_all_the_same(port: int) -> None:
    facts = probes.admin_facts(f"http://127.0.0.1:{port}")
    assert (facts.root_status, facts.version, facts.ready) == (500, "3.9.3", True)
    assert facts.plugins == ["tenantgate", "ai-proxy"]
    assert facts.settings is None


def test_kong_s_readiness_is_asked_where_its_settings_say(port: int, tmp_path: Path) -> None:
    missing = str(tmp_path / "egress.conf")
    settings = {"status_listen": f"0.0.0.0:{port}", "nginx_http_include": missing, "ssl_cert": str(tmp_path)}
    facts = probes.conf_facts(tmp_path / "kong.conf", settings)
    assert (facts.version, facts.ready, facts.missing_files) == ("3.9.3", False, [missing])


def test_a_socket_where_nobody_listens_takes_no_connection(tmp_path: Path) -> None:
    path = tmp_path / "tenantgate.socket"
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    path.chmod(0o666)
    settings = {"prefix": str(tmp_path), "pluginserver_names": "tenantgate,other"}
    first, second = probes.servers(settings)
    assert (first.mode, first.accepts, first.ready) == (0o666, False, None)
    assert second.mode is None


def test_looking_makes_nothing(tmp_path: Path) -> None:
    facts = probes.folder(tmp_path / "none", "policies", uid=os.geteuid())
    assert not facts.there
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mode", "writable"), [(0o755, False), (0o757, True)])
def test_another_user_s_rights_are_read_from_the_mode(tmp_path: Path, mode: int, writable: bool) -> None:
    tmp_path.chmod(mode)
    assert probes.folder(tmp_path, "prefix", uid=os.geteuid() + 4321).writable is writable


@pytest.mark.parametrize(
    ("mode", "uid", "problem"),
    [
        (0o400, os.getuid(), None),
        (0o400, 54321, None if os.getuid() == 54321 else "Kong's user may not read it"),
        (0o444, 54321, None),
        (0o440, None, None),
        (0o446, os.getuid(), "every user may write it"),
    ],
)
def test_a_secret_is_one_that_kong_s_user_may_read(
    tmp_path: Path, mode: int, uid: int | None, problem: str | None
) -> None:
    (tmp_path / "key").write_text("sk")
    (tmp_path / "key").chmod(mode)
    assert probes.secret_file(tmp_path, "key", uid=uid) == problem


def test_a_certificate_that_isn_t_one_is_told(tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    settings = {"ssl_cert": f"{tmp_path}/bad.pem, {tmp_path}/none.pem, {{vault://env/cert}}"}
    assert probes.certificates(settings, 0.0) == [
        (f"{tmp_path}/bad.pem", None),
        (f"{tmp_path}/none.pem", None),
    ]


@pytest.mark.parametrize(
    ("prefix", "folder", "made", "reachable"),
    [
        (0o755, 0o755, 0o666, True),
        (0o751, 0o755, 0o666, True),
        (0o750, 0o755, 0o666, False),
        (0o755, 0o700, 0o666, False),
        (0o755, 0o755, 0o660, False),
        (0o755, 0o755, None, False),
    ],
)
def test_who_reaches_the_socket_of_kongs_workers(
    prefix: int, folder: int, made: int | None, reachable: bool, tmp_path: Path
) -> None:
    (tmp_path / "sockets").mkdir()
    if made is not None:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(tmp_path / "sockets" / "we"))
        (tmp_path / "sockets" / "we").chmod(made)
    (tmp_path / "sockets").chmod(folder)
    tmp_path.chmod(prefix)
    assert probes.reaches_workers(tmp_path) is reachable


def test_authorities_of_clients_and_providers_end_too(tmp_path: Path) -> None:
    text, _ = made("authority.example.com", days=2)
    (tmp_path / "clients.pem").write_text(text)
    (tmp_path / "system.pem").write_text(text * 30)  # as a distribution's, where some have always ended
    (tmp_path / "own.pem").write_text(text)
    told = {}
    for trusted in ("system.pem", "own.pem"):
        settings = {
            "nginx_proxy_ssl_client_certificate": f"{tmp_path}/clients.pem",
            "nginx_proxy_proxy_ssl_trusted_certificate": f"{tmp_path}/{trusted}",
        }
        told[trusted] = {Path(name).name for name, left in probes.certificates(settings, time.time()) if left}
    assert told == {"system.pem": {"clients.pem"}, "own.pem": {"clients.pem", "own.pem"}}
