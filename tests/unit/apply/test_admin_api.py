"""The Admin API's client, on a server that answers as it is told."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tenantgate.apply.admin_api import AdminApi
from tenantgate.apply.core.entities import KINDS, Entity
from tenantgate.apply.core.plan import Plan, make_plan
from tenantgate.apply.targets import DatabaseKong, DblessKong, connect
from tenantgate.errors import ConfigError, EdgeError


class Server:
    """Answers each request with the next of `answers`; keeps what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, Any]] = []
        self.asked: list[tuple[str, str, Any]] = []
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.asked.append((self.command, self.path, json.loads(body) if body else None))
                status, found = server.answers.pop(0)
                raw = b"" if found is None else json.dumps(found).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - names of the standard library

            def log_message(self, *_args: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        ).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def test_pages_are_followed_to_their_end(server: Server) -> None:
    server.answers = [
        (200, {"data": [{"id": "1"}], "next": "/consumers?offset=x"}),
        (200, {"data": [{"id": "2"}]}),
    ]
    assert [e["id"] for e in AdminApi(server.url).listed("consumers")] == ["1", "2"]
    assert [path for _, path, _ in server.asked] == ["/consumers?size=1000", "/consumers?offset=x"]


def test_a_refusal_names_the_fields_and_quotes_nothing(server: Server) -> None:
    server.answers = [
        (
            409,
            {
                "name": "unique constraint violation",
                "message": "UNIQUE violation detected on '{key=\"secret\"}'",
                "fields": {"key": "secret"},
            },
        )
    ]
    with pytest.raises(EdgeError, match="PUT a key: 409: unique constraint violation: key") as caught:
        AdminApi(server.url).send("PUT", "/key-auths/1", {"key": "secret"}, what="a key")
    assert "secret" not in str(caught.value)


def test_a_busy_kong_is_asked_again(server: Server) -> None:
    server.answers = [(429, {}), (201, {})]
    AdminApi(server.url).send("POST", "/config", {}, what="the configuration")
    assert len(server.asked) == 2


def test_no_kong_is_an_error_that_names_it(server: Server) -> None:
    server.close()
    with pytest.raises(EdgeError, match=f"Kong {server.url}: "):
        AdminApi(server.url).get("/status")


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://user:pass@h", "http://h?x=1"])
def test_urls_that_arent_an_admin_apis(url: str) -> None:
    with pytest.raises(ConfigError, match="--admin-url") as caught:
        AdminApi(url)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [({"configuration_hash": "0"}, DblessKong), ({"database": {"reachable": True}}, DatabaseKong)],
)
def test_a_kong_says_whether_it_has_a_database(server: Server, answer: Any, kind: type) -> None:
    server.answers = [(200, answer)]
    assert type(connect(server.url)) is kind


def test_a_kong_with_a_database_gets_each_entity_by_itself(server: Server) -> None:
    gone = Entity(kind="consumers", id="g", fields={})
    key = Entity(kind="keyauth_credentials", id="k", fields={"key": "v", "consumer": "c"})
    moved = Entity(kind="keyauth_credentials", id="m", fields={"key": "v", "consumer": "d"})
    plugin = Entity(kind="plugins", id="p", fields={"name": "n", "service": "s", "config": {}})
    plan = Plan(freed=(moved,), admit=(key,), settle=(plugin,), withdraw=(gone,))
    server.answers = [(200, {}), (200, {}), (204, None), (200, {}), (204, None)]
    kong = connect(server.url)
    kong.settle(plan)
    kong.withdraw(plan)
    assert server.asked[1:] == [
        ("PUT", "/plugins/p", {"name": "n", "service": {"id": "s"}, "config": {}}),
        ("DELETE", "/key-auths/m", None),
        ("PUT", "/key-auths/k", {"key": "v", "consumer": {"id": "c"}}),
        ("DELETE", "/consumers/g", None),
    ]


def test_many_tenants_come_at_once_with_their_keys_after_them(server: Server) -> None:
    consumers = [Entity(kind="consumers", id=f"c{i}", fields={"username": f"u{i}"}) for i in range(60)]
    keys = [
        Entity(kind="keyauth_credentials", id=f"k{i}", fields={"key": f"v{i}", "consumer": f"c{i}"})
        for i in range(60)
    ]
    server.answers = [(200, {})] * 121
    kong = connect(server.url)
    kong.settle(Plan(admit=(*consumers, *keys)))
    paths = [path for _, path, _ in server.asked[1:]]
    assert sorted(paths[:60]) == sorted(f"/consumers/c{i}" for i in range(60))
    assert sorted(paths[60:]) == sorted(f"/key-auths/k{i}" for i in range(60))
    server.answers = [*[(200, {})] * 30, *[(409, {"name": "unique constraint violation"})] * 40]
    with pytest.raises(EdgeError, match=r"PUT consumers u.*: 409: unique constraint violation"):
        kong.settle(Plan(admit=(*consumers, *keys)))
    assert not any(path.startswith("/key-auths") for _, path, _ in server.asked[121:])


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('_format_version: "3.0"\n_transform: false\nconsumers:\n- id: c\n  username: old\n', {}),
        (
            "upstreams:\n- id: u\n  name: theirs\nconsumers: []\n",
            {"upstreams": [{"id": "u", "name": "theirs"}]},
        ),
        (
            "ca_certificates:\n- id: a\nacls:\n- id: b\n",
            {"ca_certificates": [{"id": "a"}], "acls": [{"id": "b"}]},
        ),
    ],
)
def test_what_isnt_compared_is_in_the_configuration_again(
    server: Server, text: str, kept: dict[str, Any]
) -> None:
    new = Entity(kind="consumers", id="n", fields={"username": "new"})
    server.answers = [(200, {"configuration_hash": "0"}), (200, {"config": text}), (201, {})]
    connect(server.url).settle(Plan(admit=(new,), wanted=(new,)))
    method, path, sent = server.asked[-1]
    assert (method, path) == ("POST", "/config")
    assert sent["consumers"] == [{"id": "n", "username": "new"}]
    assert {kind: items for kind, items in sent.items() if kind in kept} == kept
    assert sent.keys() - kept.keys() == {"_format_version", *KINDS}


def test_a_kong_that_doesnt_tell_its_configuration_keeps_it(server: Server) -> None:
    new = Entity(kind="consumers", id="n", fields={"username": "new"})
    server.answers = [(200, {"configuration_hash": "0"}), (200, {})]
    with pytest.raises(EdgeError, match="lost"):
        connect(server.url).settle(Plan(admit=(new,), wanted=(new,)))
    assert [method for method, _, _ in server.asked] == ["GET", "GET"]


def test_passwords_of_which_kong_tells_hashes_only_are_never_sent_back(server: Server) -> None:
    new = Entity(kind="consumers", id="n", fields={"username": "new"})
    text = "basicauth_credentials:\n- id: b\n  username: u\n  password: 4cd2fc\n"
    server.answers = [(200, {"configuration_hash": "0"}), (200, {"config": text})]
    with pytest.raises(ConfigError, match="basicauth_credentials, of which it tells hashes only") as caught:
        connect(server.url).settle(Plan(admit=(new,), wanted=(new,)))
    assert "4cd2fc" not in str(caught.value)
    assert [method for method, _, _ in server.asked] == ["GET", "GET"]


@pytest.mark.parametrize(
    ("before", "sent"),
    [
        ((200, {"id": "c", "snis": ["ai.example.com"]}), {"cert": "new", "snis": ["ai.example.com"]}),
        ((404, {}), {"cert": "new"}),
    ],
)
def test_a_renewed_certificate_keeps_its_names(
    server: Server, before: tuple[int, Any], sent: dict[str, Any]
) -> None:
    """Kong takes away what a PUT doesn't say: each name of the certificate."""
    server.answers = [before, (200, {})]
    certificate = Entity(kind="certificates", id="c", fields={"cert": "new"})
    plan = make_plan({}, [certificate], whole=False)
    DatabaseKong(AdminApi(server.url)).settle(plan)
    assert server.asked == [("GET", "/certificates/c", None), ("PUT", "/certificates/c", sent)]
