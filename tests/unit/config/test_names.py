from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.config.model import ID_PATTERN, MODEL_PATTERN
from tenantgate.config.names import chat_path, consumer_name, route_name, route_parts
from tenantgate.config.providers import PROVIDERS

models = st.from_regex(MODEL_PATTERN, fullmatch=True)
tenants = st.from_regex(ID_PATTERN, fullmatch=True)
routes = st.tuples(st.sampled_from(sorted(PROVIDERS)), models, tenants)


@given(routes, routes)
def test_two_routes_never_share_a_name_or_a_path(
    one: tuple[str, str, str], two: tuple[str, str, str]
) -> None:
    def named(route: tuple[str, str, str]) -> tuple[str, str]:
        provider, model, tenant = route
        return (
            route_name(provider=provider, model=model, tenant=tenant),
            chat_path(provider=provider, model=model, tenant=tenant),
        )

    assert (named(one)[0] == named(two)[0]) == (one == two)
    assert (named(one)[1] == named(two)[1]) == (one == two)


@pytest.mark.parametrize("name", ["", "llm", "llm.a.b", "chat.a.b.c"])
def test_another_name_has_no_parts(name: str) -> None:
    assert route_parts(name) == ("", "", "")


@given(routes)
def test_names_are_what_kong_takes_and_tell_their_parts(route: tuple[str, str, str]) -> None:
    provider, model, tenant = route
    assert re.fullmatch(r"[\w.~-]+", route_name(provider=provider, model=model, tenant=tenant), re.ASCII)
    path = chat_path(provider=provider, model=model, tenant=tenant)
    assert re.fullmatch(r"/[\w.~/%:@!$&'()*+,;=-]*", path, re.ASCII)
    assert "//" not in path
    assert route_parts(route_name(provider=provider, model=model, tenant=tenant)) == route
    assert not re.search(r"/\.\.?(/|$)", path)


@pytest.mark.parametrize(
    ("model", "tenant", "name"),
    [
        ("gpt-4o-mini", "acme", "llm.openai.gpt-4o-mini.acme"),
        ("gpt-4.1", "acme.com", "llm.openai.gpt-4.1.acme~2Ecom"),
        ("openai/gpt-oss-20b", "acme", "llm.openai.openai~2Fgpt-oss-20b.acme"),
    ],
)
def test_names_stay_readable(model: str, tenant: str, name: str) -> None:
    assert route_name(provider="openai", model=model, tenant=tenant) == name


def test_a_consumer_is_called_after_its_tenant() -> None:
    assert consumer_name("acme") == "tenant_acme"
