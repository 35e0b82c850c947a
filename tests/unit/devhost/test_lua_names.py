from __future__ import annotations

import pytest

from lua_rig import state
from tenantgate.devhost.lua_names import unknown

KNOWN = state().names


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("kong.request.get_method()", None),
        ("local r = kong.request; r.nothing()", None),  # raises when it runs
        ("kong.ctx.shared.anything.below = 1", None),
        ("kong.ctx.plugin.a = ngx.ctx.b", None),
        ("kong.ctx.shared", None),
        ("ngx.header.anything = 1", None),
        ("ngx.status = 200", None),
        ('return ngx.arg[1], ngx["anything"]', None),
        ("return ngx.var.http_x_a, ngx.var.upstream_via", None),
        ("-- kong.cache\nreturn", None),
        ("--[[ kong.cache\n ]] --[==[ kong.cache ]] ]==] return", None),
        ('return "kong.cache \\" kong.cache"', None),
        ("return 'kong.cache'", None),
        ("return [[kong.cache]]", None),
        ("return mine.kong.cache, mykong.cache, my_ngx.re", None),
        ("return kong.cache", "kong.cache"),
        ("return kong\n  . cache . get", "kong.cache.get"),
        ("--[[ a ]] kong.cache:get()", "kong.cache"),
        ("x = 'a' .. kong.cache", "kong.cache"),
        ("kong.request.get_nothing()", "kong.request.get_nothing"),
        ("kong.requests.get_method()", "kong.requests.get_method"),
        ("kong.ctx.core.x = 1", "kong.ctx.core.x"),
        ("ngx.var.upstream_status", "ngx.var.upstream_status"),
        ("ngx.shared.dict:get('a')", "ngx.shared.dict"),
        ("kong.log.inspect(1)", "kong.log.inspect"),
        ("kong.log('a') kong.log.err('b')", None),
    ],
)
def test_names_that_the_host_doesnt_have_are_found(code: str, name: str | None) -> None:
    assert unknown(code, KNOWN) == name
