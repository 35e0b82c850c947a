from __future__ import annotations

import re
from pathlib import Path

import pytest

from tenantgate.config import KongConfOptions, egress_conf, kong_conf, load
from tenantgate.config.kong_conf import LUA_PLUGINS, socket_path
from tenantgate.errors import ConfigError
from tenantgate.features import plugins
from tenantgate.paths import plugins_dir

from support import ROOT


def settings(text: str) -> dict[str, str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pairs = [tuple(part.strip() for part in line.split("=", 1)) for line in lines]
    assert len(dict(pairs)) == len(pairs), "a setting stands once"
    return dict(pairs)


def test_the_file_in_the_repository_is_what_render_writes() -> None:
    size = load(ROOT / "tenants.yaml").gateway.limits.max_request_body_mb
    written = (ROOT / "kong.conf").read_text(encoding="utf-8")
    assert written == kong_conf(KongConfOptions(max_request_body_mb=size)), (
        "run: tenantgate render --kong-conf -o kong.conf"
    )


def test_what_the_plugins_need_is_set() -> None:
    found = settings(kong_conf(KongConfOptions(max_request_body_mb=3)))
    assert found["nginx_http_client_body_buffer_size"] == found["nginx_http_client_max_body_size"] == "3m"
    assert found["nginx_http_lua_socket_read_timeout"] == "2s"
    assert found["plugins"] == (
        "bundled,tenantgate-keys,tenantgate-request,tenantgate-target,tenantgate-failover,tenantgate-format,"
        "tenantgate-mcp,tenantgate"
    )
    assert found["pluginserver_names"] == "tenantgate"
    assert found["lua_package_path"] == "/opt/tenantgate/plugins/?.lua;;"
    assert found["database"] == "off"
    assert found["admin_listen"] == "off"


def test_plugins_for_routes_of_ones_own_are_attached_by_name() -> None:
    names = [p.name for p in plugins()]
    found = settings(kong_conf(KongConfOptions(attached=tuple(names))))
    assert found["pluginserver_names"].split(",") == ["tenantgate", *names]
    assert set(names) < set(found["plugins"].split(","))
    with pytest.raises(ConfigError, match="plugins: tenant-x is none of"):
        kong_conf(KongConfOptions(attached=("tenant-x",)))


@pytest.mark.parametrize("name", ["tenantgate", "tenant-guardrails"])
def test_each_plugin_has_its_server(name: str) -> None:
    options = KongConfOptions(prefix="/tmp/p", models_dir=None, attached=("tenant-guardrails",))
    found = settings(kong_conf(options))
    key = "pluginserver_" + name.replace("-", "_")
    socket = str(socket_path(KongConfOptions(prefix="/tmp/p"), name))
    assert found[f"{key}_socket"] == socket
    processes = "--processes auto --certificates /etc/tenantgate/secrets " if name == "tenantgate" else ""
    start = f"--plugin /opt/tenantgate/plugins/{name}.py {processes}--socket {socket}"
    assert found[f"{key}_start_cmd"].endswith(start)
    assert found[f"{key}_query_cmd"].endswith(f"--plugin /opt/tenantgate/plugins/{name}.py --dump")


def test_providers_certificates_are_checked() -> None:
    assert settings(kong_conf())["nginx_proxy_proxy_ssl_verify"] == "on"
    assert "nginx_proxy_proxy_ssl_verify" not in settings(kong_conf(KongConfOptions(ca_bundle=None)))


def test_the_egress_file_in_the_repository_is_what_render_writes() -> None:
    written = (ROOT / "tenantgate-egress.conf").read_text(encoding="utf-8")
    assert written == egress_conf(), "run: tenantgate render --egress-conf -o tenantgate-egress.conf"


def test_the_egress_server_checks_certificates_and_listens_on_loopback() -> None:
    text = egress_conf(KongConfOptions(egress_port=1234, ca_bundle="/ca.pem"))
    assert re.findall(r"listen (\S+);", text) == ["127.0.0.1:1234"]
    assert "lua_ssl_trusted_certificate /ca.pem;" in text
    assert "lua_ssl_trusted_certificate" not in egress_conf(KongConfOptions(ca_bundle=None))


def test_kong_tries_nothing_again_of_itself() -> None:
    found = settings(kong_conf())
    assert found["nginx_proxy_proxy_next_upstream"] == "error timeout http_503"
    assert found["nginx_http_include"] == str(KongConfOptions().egress_include)


def test_more_settings_and_other_values() -> None:
    found = settings(kong_conf(KongConfOptions(extra={"log_level": "debug", "nginx_user": "root"})))
    assert (found["log_level"], found["nginx_user"]) == ("debug", "root")


def test_a_path_too_long_for_a_socket() -> None:
    with pytest.raises(ConfigError, match="too long for a unix socket"):
        kong_conf(KongConfOptions(prefix="/tmp/" + "x" * 90))


@pytest.mark.parametrize("value", ["a#b", "a\nb"])
def test_values_that_kong_would_cut(value: str) -> None:
    with pytest.raises(ConfigError, match="log_level"):
        kong_conf(KongConfOptions(extra={"log_level": value}))


def test_lua_plugins_are_found() -> None:
    path = settings(kong_conf(KongConfOptions(plugins_dir=plugins_dir())))["lua_package_path"]
    for name in LUA_PLUGINS:
        for part in ("handler", "schema"):
            assert Path(path.removesuffix(";;").replace("?", f"kong/plugins/{name}/{part}")).is_file()
    for module in ("file", "file/schema"):
        assert Path(path.removesuffix(";;").replace("?", f"kong/vaults/{module}")).is_file()
