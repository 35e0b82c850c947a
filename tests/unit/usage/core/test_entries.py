from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.usage.core.entries import (
    Certainty,
    Kind,
    Ledger,
    correction_of,
    correction_values,
    entries_of,
)
from usage_rig import FEW, record, records


def test_an_answer_is_an_entry_with_tokens_and_the_exact_cost() -> None:
    (entry,) = entries_of(record(1))
    assert (entry.id, entry.attempt, entry.final) == (f"{1:032x}:1", 1, True)
    assert entry.tokens == {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40}
    assert entry.cost is not None
    assert (entry.cost.femto, entry.cost.currency, entry.cost.book) == (
        123_400_000_000,
        "USD",
        "genai-prices 0.2.3",
    )
    assert (entry.key, entry.end_user, entry.certainty) == ("key-1", "ab" * 16, Certainty.EXACT)


@pytest.mark.parametrize(
    ("cost", "femto"),
    [
        ({"amount": 0.0002, "source": "prices"}, 200_000_000_000),
        ({"amount": 1e-09, "source": "kong"}, 1_000_000),
        ({"amount": 7, "source": "kong"}, 7 * 10**15),
    ],
)
def test_records_from_before_have_a_number(cost: dict[str, Any], femto: int) -> None:
    (entry,) = entries_of(record(1, cost=cost))
    assert entry.cost is not None
    assert entry.cost.femto == femto


def test_unknown_is_never_zero() -> None:
    (entry,) = entries_of(record(1, cost=None, gen_ai__usage={"output_tokens": 9, "lower_bound": True}))
    assert (entry.cost, entry.tokens, entry.certainty) == (None, {"output_tokens": 9}, Certainty.LOWER_BOUND)
    assert entry.unpriced


TIMEOUT = {"target": "azure/eu/gpt-4o#2", "outcome": "timeout", "ms": 60_000, "uncertain": True}
REFUSED = {"target": "openai/gpt-4o", "outcome": "http_429", "ms": 3, "status": 429}
OK = {"target": "anthropic/claude", "outcome": "ok", "ms": 3, "status": 200}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"tries": [TIMEOUT, REFUSED, OK]}, [Certainty.UNCERTAIN, None, Certainty.EXACT]),
        ({"tries": [OK, TIMEOUT], "gen_ai__usage": None, "cost": None}, [None, Certainty.UNCERTAIN]),
        ({"outcome": "client_gone", "gen_ai__usage": None, "cost": None}, [Certainty.UNCERTAIN]),
        (
            {"outcome": "upstream_error", "response__status": 504, "gen_ai__usage": None, "cost": None},
            [Certainty.UNCERTAIN],
        ),
        ({"outcome": "upstream_error", "response__status": 500, "gen_ai__usage": None, "cost": None}, [None]),
        (
            {
                "outcome": "blocked",
                "attempts": 0,
                "response": {"status": 403, "source": "kong"},
                "gen_ai__usage": None,
                "cost": None,
            },
            [None],
        ),
        ({"cost__certainty": "uncertain"}, [Certainty.UNCERTAIN]),
    ],
)
def test_tries_that_a_provider_may_have_billed_are_uncertain(
    changes: dict[str, Any], told: list[Certainty | None]
) -> None:
    found = entries_of(record(1, **changes))
    assert [entry.certainty for entry in found] == told
    assert [entry.final for entry in found] == [False] * (len(told) - 1) + [True]


def test_each_try_is_of_its_own_target() -> None:
    found = entries_of(record(1, tries=[TIMEOUT, OK]))
    assert [(e.provider, e.model) for e in found] == [("azure", "eu/gpt-4o"), ("anthropic", "claude")]
    assert found[0].tokens == {}


def test_a_cached_answer_came_from_no_provider() -> None:
    changes = {"attempts": 0, "response": {"status": 200, "source": "kong", "cache_status": "Hit"}}
    (entry,) = entries_of(record(1, outcome="cached", cost=None, gen_ai__usage=None, **changes))
    assert (entry.cached, entry.attempt, entry.certainty, entry.unpriced) == (True, 0, None, False)


@pytest.mark.parametrize("more", [{"gap": {"records": 2}}, {"event": {"type": "budget_crossed"}}])
def test_records_of_no_request_give_none(more: dict[str, Any]) -> None:
    assert entries_of({**record(1), **more}) == ()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id": None}, "id"),
        ({"tenant": None}, "tenant"),
        ({"time": "yesterday"}, "time"),
        ({"cost": {"exact": "1,5"}}, "cost"),
    ],
)
def test_what_is_no_record_is_named(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=f"^{told}: "):
        entries_of(record(1, **changes))


CORRECTION = {
    "kind": "correction",
    "id": "c1",
    "tenant": "acme",
    "time": "2026-11-05T12:00:00.000Z",
    "request": f"{1:032x}",
    "model": "gpt-4o",
    "provider": "openai",
    "certainty": "exact",
    "usage": {"output_tokens": -7},
    "cost": {"exact": "-0.0001", "currency": "USD", "source": "invoice"},
    "reason": "the provider's invoice",
}


def test_a_correction_survives_its_text() -> None:
    (entry,) = entries_of(CORRECTION)
    assert entry.kind is Kind.CORRECTION
    assert correction_values(entry) == CORRECTION
    with pytest.raises(ConfigError, match=r"usage\.pages"):
        correction_of({**CORRECTION, "usage": {"pages": 1}})


@FEW
@given(records(), st.randoms())
def test_order_and_doubles_change_nothing(found: list[dict[str, Any]], random: Any) -> None:
    once, twice = Ledger(), Ledger()
    mixed = [*found, *found[::2]]
    random.shuffle(mixed)
    for one in found:
        once.add_record(json.dumps(one).encode())
    for one in mixed:
        twice.add_record(json.dumps(one).encode())
    assert once.entries() == twice.entries()
    assert (once.conflicts, twice.conflicts) == (set(), set())


def test_of_two_entries_with_one_id_the_same_is_kept_in_any_order() -> None:
    pair = [record(1), record(1, cost={"exact": "9"})]
    kept = []
    for order in (pair, pair[::-1]):
        ledger = Ledger()
        for one in order:
            ledger.add_record(json.dumps(one).encode())
        assert ledger.conflicts == {f"{1:032x}:1"}
        kept.append(ledger.entries())
    assert kept[0] == kept[1]


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b'{"id": "x"}', b"\xff", b"[" * 9999])
def test_lines_that_are_no_records_are_counted(raw: bytes) -> None:
    ledger = Ledger()
    ledger.add_record(raw)
    assert (ledger.unreadable, ledger.entries()) == (1, [])
