from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.config.kong_conf import KongConfOptions, kong_conf
from tenantgate.doctor.core.findings import Severity
from tenantgate.doctor.core.kong import KongFacts, check_kong, conf_settings, size

WANTED = conf_settings(kong_conf(KongConfOptions()))
Change = Callable[[dict[str, str]], object]


def facts(change: Change = lambda _: None, **more: object) -> KongFacts:
    settings = dict(WANTED)
    change(settings)
    told = {
        "version": "3.9.3",
        "ready": True,
        "plugins": settings.get("plugins", "").split(","),
        "settings": settings,
        **more,
    }
    return KongFacts(where="kong.conf", **told)  # type: ignore[arg-type]


def test_the_rendered_kong_conf_has_nothing_wrong() -> None:
    found = list(check_kong(facts(), WANTED))
    assert {f.severity for f in found} == {Severity.OK}


@pytest.mark.parametrize(
    ("change", "subject", "severity"),
    [
        (
            lambda s: s.pop("nginx_http_client_body_buffer_size"),
            "nginx_http_client_body_buffer_size",
            "error",
        ),
        (
            lambda s: s.update(nginx_http_client_body_buffer_size="8k"),
            "nginx_http_client_body_buffer_size",
            "error",
        ),
        (
            lambda s: s.update(nginx_http_client_max_body_size="1m"),
            "nginx_http_client_max_body_size",
            "error",
        ),
        (lambda s: s.pop("nginx_http_include"), "nginx_http_include", "error"),
        (lambda s: s.pop("nginx_http_lua_shared_dict"), "nginx_http_lua_shared_dict", "error"),
        (lambda s: s.pop("nginx_proxy_proxy_next_upstream"), "nginx_proxy_proxy_next_upstream", "error"),
        (lambda s: s.update(untrusted_lua="off"), "untrusted_lua", "error"),
        (
            lambda s: s.pop("nginx_http_lua_socket_read_timeout"),
            "nginx_http_lua_socket_read_timeout",
            "warning",
        ),
        (lambda s: s.pop("nginx_proxy_proxy_ssl_verify"), "nginx_proxy_proxy_ssl_verify", "warning"),
        (lambda s: s.update(admin_listen="0.0.0.0:8001"), "admin_listen", "warning"),
        (lambda s: s.update(plugins="bundled,tenantgate"), "plugins", "error"),
    ],
)
def test_each_setting_is_missed(change: Change, subject: str, severity: str) -> None:
    bad = [f for f in check_kong(facts(change), WANTED) if f.severity is not Severity.OK]
    assert [(f.subject, f.severity.value) for f in bad] == [(subject, severity)]
    assert bad[0].do


@pytest.mark.parametrize(
    ("more", "subject", "severity"),
    [
        ({"version": "3.8.0"}, "version", "error"),
        ({"version": None}, "version", "unknown"),
        ({"ready": False}, "status", "error"),
        ({"root_status": 500}, "GET /", "warning"),
        ({"plugins": None}, "plugins", "unknown"),
        (
            {"missing_files": ["/etc/kong/tenantgate-egress.conf"]},
            "/etc/kong/tenantgate-egress.conf",
            "error",
        ),
    ],
)
def test_what_kong_tells_of_itself(more: dict[str, object], subject: str, severity: str) -> None:
    bad = [f for f in check_kong(facts(**more), WANTED) if f.severity is not Severity.OK]
    assert [(f.subject, f.severity.value) for f in bad] == [(subject, severity)]


@given(st.integers(0, 10**6), st.sampled_from(["", "k", "m", "g", "K", "M"]))
def test_sizes_are_read_as_nginx_reads_them(number: int, unit: str) -> None:
    assert size(f" {number}{unit}") == number * {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}[unit.lower()]


def test_a_variable_comes_before_the_file() -> None:
    assert conf_settings("# a = 1\nprefix = /a  # there\n", {"KONG_PREFIX": "/b", "HOME": "/"}) == {
        "prefix": "/b"
    }
