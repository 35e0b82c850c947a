"""Audit records of usage, in chains, for tests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st

from tenantgate.audit.core.chain import START, link
from tenantgate.audit.core.ports import Head
from tenantgate.tenant import TenantId

FEW = settings(max_examples=12)
"""For laws over whole records, of which each example has many."""

MODELS = (("openai", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("gcp.gemini", "gemini-2.5-pro"))


def record(number: int, **changes: Any) -> dict[str, Any]:
    """A request that was answered; `changes` by dotted name, None removes."""
    out: dict[str, Any] = {
        "version": 1,
        "id": f"{number:032x}",
        "time": "2026-11-05T12:00:00.000Z",
        "tenant": "acme",
        "outcome": "answered",
        "request": {"id": f"{number:032x}"},
        "response": {"status": 200, "source": "upstream"},
        "attempts": 1,
        "key": {"id": "key-1"},
        "end_user": {"hash": "ab" * 16},
        "gen_ai": {
            "provider": {"name": "openai"},
            "request": {"model": "gpt-4o"},
            "response": {"model": "gpt-4o-2024-08-06"},
            "usage": {"input_tokens": 100, "output_tokens": 50, "cache_read": {"input_tokens": 40}},
        },
        "cost": {
            "amount": 0.000123,
            "exact": "0.0001234",
            "currency": "USD",
            "source": "prices",
            "book": "genai-prices 0.2.3",
            "certainty": "exact",
        },
        "trace": {"trace_id": "a" * 32, "span_id": "b" * 16},
        "content": {"state": "off"},
    }
    for path, value in changes.items():
        *steps, last = path.split("__")
        node = out
        for step in steps:
            node = node.setdefault(step, {})
        if value is None:
            node.pop(last, None)
        else:
            node[last] = value
    return out


def chained(records: Iterable[dict[str, Any]], node: str = "n1") -> list[bytes]:
    """The records in their tenants' chains."""
    heads: dict[str, Head] = {}
    out = []
    for position, one in enumerate(records):
        tenant = one["tenant"]
        entry, heads[tenant] = link(
            one, heads.get(tenant, START), tenant=TenantId(tenant), node=node, position=position
        )
        out.append(entry.record)
    return out


def loaded(lines: Iterable[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines]


@st.composite
def records(
    draw: st.DrawFn, tenants: tuple[str, ...] = ("acme", "globex"), most: int = 12
) -> list[dict[str, Any]]:
    """Records of all kinds, each with an id of its own."""
    out = []
    for number in range(draw(st.integers(0, most))):
        provider, model = draw(st.sampled_from(MODELS))
        hour, day = draw(st.integers(0, 23)), draw(st.integers(24, 31))
        out.append(
            record(
                number,
                tenant=draw(st.sampled_from(tenants)),
                time=f"2026-10-{day}T{hour:02}:30:00.000Z",
                gen_ai__provider={"name": provider},
                gen_ai__request={"model": model},
                gen_ai__usage=draw(
                    st.none()
                    | st.fixed_dictionaries(
                        {"input_tokens": st.integers(0, 10**6), "output_tokens": st.integers(0, 10**5)}
                    )
                ),
                key={"id": draw(st.sampled_from(("k1", "k2")))},
                cost=draw(
                    st.none() | st.integers(0, 10**20).map(lambda f: {"exact": exact(f), "currency": "USD"})
                ),
                outcome=draw(
                    st.sampled_from(("answered", "cached", "client_gone", "upstream_error", "refused"))
                ),
                tries=draw(
                    st.none()
                    | st.just(
                        [
                            {"target": "openai/gpt-4o#2", "outcome": "timeout", "ms": 1, "uncertain": True},
                            {"target": "anthropic/claude-sonnet-4-5", "outcome": "ok", "ms": 2},
                        ]
                    )
                ),
            )
        )
    return out


def exact(femto: int) -> str:
    return f"{femto // 10**15}.{femto % 10**15:015}"
