from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.devhost import gateway
from tenantgate.devhost.kong_conf import parse
from tenantgate.errors import ConfigError

TEXT = """
# a comment
prefix = /tmp/kong
plugins = bundled, my-plugin
pluginserver_names = my-plugin,other
pluginserver_my_plugin_socket = /tmp/my.socket   # where
pluginserver_my_plugin_start_cmd = /usr/bin/env A=b run --plugin x
pluginserver_my_plugin_query_cmd = run --dump
nginx_http_client_body_buffer_size = 1m
nginx_http_lua_socket_read_timeout = 500ms
"""


def test_plugin_servers_are_read_as_kong_reads_them() -> None:
    mine, other = parse(TEXT).plugin_servers
    assert (mine.socket, mine.query_cmd) == ("/tmp/my.socket", "run --dump")
    assert mine.start_cmd == "/usr/bin/env A=b run --plugin x"
    assert (other.socket, other.start_cmd) == ("/tmp/kong/other.socket", None)


def test_sizes_and_times_have_units() -> None:
    conf = parse(TEXT)
    assert (conf.body_buffer_size, conf.socket_timeout_s) == (1024**2, 0.5)


def test_defaults_are_kongs() -> None:
    conf = parse("")
    assert conf.next_upstream == {"error", "timeout"}
    assert conf.shared_dicts == ()
    assert (conf.body_buffer_size, conf.max_body_size, conf.socket_timeout_s) == (8192, 0, 60.0)


def test_the_environment_comes_first() -> None:
    assert str(parse(TEXT, {"KONG_PREFIX": "/elsewhere"}).prefix) == "/elsewhere"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("nonsense", "kong.conf:1"),
        ("nginx_http_client_body_buffer_size = big", "nginx_http_client_body_buffer_size"),
        ("nginx_http_lua_socket_read_timeout = soon", "nginx_http_lua_socket_read_timeout"),
        ("nginx_proxy_proxy_next_upstream = error updating", "next_upstream: updating"),
    ],
)
def test_a_bad_line_is_named(line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse(line)


def test_what_the_host_cant_honour_is_refused_where_it_starts(tmp_path: Path) -> None:
    (tmp_path / "kong.conf").write_text("dns_resolver = 127.0.0.1\n")
    with pytest.raises(ConfigError, match="dns_resolver"):
        gateway.load(tmp_path / "kong.yml", tmp_path / "kong.conf")
