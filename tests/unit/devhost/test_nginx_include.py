from __future__ import annotations

import json
from pathlib import Path

import pytest

from tenantgate.config import KongConfOptions, egress_conf
from tenantgate.devhost.nginx_include import Include, Server, load, parse
from tenantgate.errors import ConfigError

SERVER = "server { listen 127.0.0.1:81; location / { content_by_lua_block { f({a = 1}) } } }"


def test_the_egress_servers_file_is_read() -> None:
    made = parse(egress_conf(KongConfOptions(egress_port=8300, ca_bundle="/ca.pem")))
    (server,) = made.servers
    assert (server.host, server.port, server.trusted) == ("127.0.0.1", 8300, "/ca.pem")
    assert server.max_header == 256 << 10
    page = server.error_page
    assert page is not None
    assert (403 in page.codes, page.status, page.content_type) == (True, 503, "application/json")
    assert json.loads(page.body)["error"]["code"] == "tenantgate_unavailable"
    assert server.code.strip() == 'require("kong.plugins.tenantgate-failover.hop").serve()'


def test_what_a_file_says() -> None:
    text = f"# lua_shared_dict no 1m;\nlua_shared_dict one 1m; lua_shared_dict 'two' 2m;\n{SERVER}\n"
    expected = Server(host="127.0.0.1", port=81, code=" f({a = 1}) ")
    assert parse(text) == Include(("one", "two"), (expected,))


def test_no_file(tmp_path: Path) -> None:
    assert load("") == Include()
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "nothing.conf"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("upstream a { server b; }", "upstream: the embedded host can't"),
        ("server { listen 127.0.0.1:81; proxy_pass http://a; }", "proxy_pass: the embedded host can't"),
        (SERVER.replace("location / ", "location /a "), "location: the embedded host can't"),
        (
            SERVER.replace("content_by_lua_block", "access_by_lua_block"),
            "access_by_lua_block: the embedded host",
        ),
        (SERVER.replace("listen 127.0.0.1:81;", ""), "server: needs `listen"),
        (SERVER.replace("127.0.0.1:81", "81"), "server: needs `listen"),
        ("server { listen 127.0.0.1:81; }", "server: needs `listen"),
        ("server { location = /a { proxy_pass http://b; } }", "no location but one that returns"),
        (SERVER.replace("location", "error_page 403 /a; location"), "error_page: the embedded host knows"),
        (SERVER[:-1], "a block without an end"),
        ("lua_shared_dict one 1m", "can't be read near"),
        (SERVER + "}", "can't be read near"),
        ("lua_shared_dict one 1m { }", "lua_shared_dict: the embedded host can't"),
    ],
)
def test_what_the_host_cant_do_is_refused_by_name(text: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("(", r"\(")):
        parse(text)
