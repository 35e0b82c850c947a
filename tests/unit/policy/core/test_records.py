"""Records of the policy directory: what is written is read again, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.policy.core.records import (
    Catalog,
    ModelPolicy,
    Target,
    TenantPolicy,
    read_catalog,
    read_record,
    write_catalog,
    write_record,
)
from tenantgate.prices.core.price_list import KINDS, PriceList, Prices, Tier
from tenantgate.tenant import TenantId

TEXTS = st.text(max_size=20)
VALUES = st.recursive(
    st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)
TABLES = st.dictionaries(TEXTS, VALUES, max_size=3)
AMOUNTS = st.integers(0, 10**15)
KINDED = st.dictionaries(st.sampled_from(KINDS), AMOUNTS, max_size=3)
PRICES = st.builds(
    PriceList,
    book=TEXTS,
    periods=st.lists(
        st.builds(
            Prices,
            valid_from_ms=AMOUNTS,
            daily_s=st.none() | st.tuples(st.integers(0, 86_399), st.integers(0, 86_399)),
            prices=st.builds(lambda more, i, o: {**more, "input": i, "output": o}, KINDED, AMOUNTS, AMOUNTS),
            tiers=st.lists(st.builds(Tier, above=AMOUNTS, prices=KINDED), max_size=2).map(tuple),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
)
TARGETS = st.builds(
    Target,
    prices=st.none() | PRICES,
    max_output_tokens=st.none() | AMOUNTS,
    provider=TEXTS,
    name=TEXTS,
    options=TABLES,
    header_name=st.none() | TEXTS,
    credential=st.none() | TEXTS,
    bearer=st.booleans(),
    response_streaming=st.sampled_from(["allow", "deny", "always"]),
    accept_encoding=st.none() | TEXTS,
)
MODELS = st.builds(
    ModelPolicy,
    provider=TEXTS,
    model=TEXTS,
    route_name=TEXTS,
    aliases=st.lists(TEXTS, max_size=2).map(tuple),
    targets=st.lists(TARGETS, min_size=1, max_size=2).map(tuple),
    stages=st.dictionaries(TEXTS, TABLES, max_size=2),
    fail_closed=st.booleans(),
    reply_guard=st.booleans(),
    log_payloads=st.booleans(),
)
POLICIES = st.builds(
    TenantPolicy,
    tenant=st.text(min_size=1, max_size=20).map(TenantId),
    models=st.lists(MODELS, max_size=2).map(tuple),
    token_limits=st.lists(TABLES, max_size=2).map(tuple),
    budgets=st.lists(TABLES, max_size=2).map(tuple),
    end_user_header=st.none() | TEXTS,
)


@given(POLICIES)
def test_what_is_written_is_read_again(policy: TenantPolicy) -> None:
    raw = write_record(policy)
    assert read_record(str(policy.tenant), raw) == policy
    assert write_record(read_record(str(policy.tenant), raw)) == raw


@given(st.frozensets(TEXTS, max_size=5))
def test_the_catalog(names: frozenset[str]) -> None:
    assert read_catalog(write_catalog(Catalog(models=names))) == Catalog(models=names)


MINIMAL: dict[str, Any] = {
    "format": 1,
    "tenant": "acme",
    "models": [
        {
            "provider": "openai",
            "model": "m",
            "route_name": "llm.openai.m.acme",
            "targets": [{"provider": "openai", "name": "m"}],
        }
    ],
}


def changed(**members: Any) -> bytes:
    return json.dumps(MINIMAL | members).encode()


def changed_model(**members: Any) -> bytes:
    model = {k: v for k, v in (MINIMAL["models"][0] | members).items() if v is not None}
    return changed(models=[model])


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"", "isn't JSON"),
        (b"\xff", "isn't JSON"),
        (b"[" * 100_000, "isn't JSON"),
        (b"[]", "must be an object"),
        (changed(format=2), "format: 2 can't be read"),
        (changed(format=True), "format: must be a whole number"),
        (changed(tenant="globex"), "tenant: is another tenant's id"),
        (changed(tenant=None), "tenant: must be a text"),
        (changed(models={}), "models: must be a list"),
        (changed(more=1), "more: unknown member"),
        (changed_model(provider=None), r"models\[0\].provider: required"),
        (changed_model(fail_closed="no"), r"models\[0\].fail_closed: must be true or false"),
        (changed_model(fail_close=True), r"models\[0\].fail_close: unknown member"),
        (changed_model(targets=[]), r"models\[0\].targets: needs one"),
        (changed_model(targets=["x"]), r"targets\[0\]: must be an object"),
        (changed_model(stages={"cache": []}), r"stages.cache: must be an object"),
        (changed_model(aliases=[1]), "aliases: must be a list of texts"),
    ],
)
def test_anything_else_is_refused_by_its_name(raw: bytes, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        read_record("acme", raw)


def test_the_least_record() -> None:
    assert read_record("acme", changed()).models[0].qualified == "openai/m"


def test_a_record_of_an_earlier_version_is_read() -> None:
    """Targets without ids, weights and regions; no routing, no egress."""
    raw = (
        b'{"format":1,"models":[{"aliases":["fast"],"fail_closed":false,"log_payloads":false,"model":"gpt-4o",'
        b'"provider":"openai","reply_guard":false,"route_name":"llm.openai.gpt-4o.a","stages":{},"targets":[{"bearer":true,'
        b'"credential":"{vault://env/A}","header_name":"Authorization","name":"gpt-4o","options":{},"provider":"openai",'
        b'"response_streaming":"allow"}]}],"tenant":"a"}'
    )
    policy = read_record("a", raw)
    (target,) = policy.models[0].targets
    assert (target.id, target.weight, target.region, policy.models[0].routing, policy.egress) == (
        "",
        100,
        None,
        None,
        None,
    )
    assert read_catalog(b'{"format":1,"models":["m"]}') == Catalog(models=frozenset({"m"}))


def test_the_gateways_egress_list_is_kept() -> None:
    kept = Catalog(models=frozenset({"m"}), egress=("a.example",))
    assert read_catalog(write_catalog(kept)) == kept
