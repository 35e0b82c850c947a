from __future__ import annotations

from datetime import UTC
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.usage.core.entries import Ledger, correction_of, correction_values
from tenantgate.usage.core.ledgers import Figures, Key, Reading, Rows, of_entries
from tenantgate.usage.core.reconciliation import (
    Status,
    compare,
    corrections,
    metrics_text,
    report_text,
    report_values,
)

KEY = Key("acme", "m", "2026-11-05")
NAMES = {"source": "platform", "currency": "USD"}
FIGURES = st.builds(Figures, cost=st.none() | st.integers(0, 10**18), uncertain=st.integers(0, 3))
LEDGERS = st.dictionaries(
    st.builds(
        Key,
        st.sampled_from(("acme", "globex")),
        st.sampled_from(("m", "n")),
        st.sampled_from(("2026-10-25", "2026-11-05")),
    ),
    FIGURES,
    max_size=6,
)


def rows(found: dict[Key, Figures]) -> Rows:
    return Rows(dict(found))


@pytest.mark.parametrize(
    ("ours", "theirs", "status"),
    [
        (Figures(cost=1000), Figures(cost=1000), Status.AGREES),
        (Figures(cost=1000), Figures(cost=1001), Status.AGREES),
        (Figures(cost=1000), Figures(cost=1002), Status.DRIFT),
        (Figures(cost=1000, uncertain=1), Figures(cost=1300), Status.UNCERTAIN),
        (Figures(cost=1000, uncertain=1), Figures(cost=700), Status.DRIFT),
        (Figures(cost=1000), None, Status.ONLY_OURS),
        (Figures(uncertain=2), None, Status.UNCERTAIN),
        (None, Figures(cost=1000), Status.ONLY_THEIRS),
        (Figures(1, 10, 5), Figures(1, 10, 5), Status.AGREES),
        (Figures(1, 10, 5, cost=7), Figures(1, 10, 6), Status.DRIFT),
        (Figures(3), Figures(3), Status.AGREES),
        (Figures(3), Figures(cost=3), Status.DRIFT),
        (Figures(cost=0), Figures(cost=0), Status.AGREES),
    ],
)
def test_what_sets_two_lines_apart(ours: Figures | None, theirs: Figures | None, status: Status) -> None:
    sides = [rows({KEY: f} if f is not None else {}) for f in (ours, theirs)]
    (one,) = compare(*sides, Fraction(1, 1000))
    assert one.status is status


@settings(max_examples=40)
@given(LEDGERS, LEDGERS)
def test_after_the_corrections_the_costs_agree_and_no_further_ones_follow(
    ours: dict[Key, Figures], theirs: dict[Key, Figures]
) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    found = compare(rows(ours), rows(theirs), Fraction(0))
    made = list(corrections(found, zone=berlin, **NAMES))
    assert [correction_of(correction_values(entry)) for entry in made] == made
    assert list(corrections(found, zone=berlin, **NAMES)) == made
    ledger = Ledger()
    for entry in [*made, *made]:
        ledger.add(entry)
    after = rows({key: Figures(cost=f.cost, uncertain=f.uncertain) for key, f in ours.items()})
    for key, figures in of_entries(ledger.entries(), Reading(berlin), tenants=True).figures.items():
        after.add(key, figures)
    for key, figures in theirs.items():
        if figures.cost is not None:
            assert (after.figures.get(key, Figures()).cost or 0) == figures.cost
    assert list(corrections(compare(after, rows(theirs), Fraction(0)), zone=berlin, **NAMES)) == []


def test_no_tenant_no_correction() -> None:
    found = compare(rows({}), rows({Key("", "m", "2026-11-05"): Figures(cost=5)}), Fraction(0))
    assert list(corrections(found, zone=UTC, **NAMES)) == []


def samples(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_report_and_metrics() -> None:
    ours: dict[Key, Figures] = {KEY: Figures(2, 100, 50, 10**15, uncertain=1, uncertain_cost=10**14)}
    found = compare(
        rows(ours),
        rows({KEY: Figures(cost=3 * 10**15), Key("b", "m", "d"): Figures(cost=10**15)}),
        Fraction(0),
    )
    values: dict[str, Any] = report_values(found, **NAMES)
    assert values["total"] == {
        "ours": "1",
        "theirs": "4",
        "difference": "3",
        "apart": "3",
        "uncertain": 1,
        "rows": {"only_theirs": 1, "uncertain": 1},
    }
    assert values["rows"][0]["ours"] == {
        "requests": 2,
        "input_tokens": 100,
        "output_tokens": 50,
        "cost": "1",
        "uncertain_cost": "0.1",
    }
    text = report_text(found, **NAMES)
    assert "only_theirs" in text
    assert "1 uncertain tries" in text
    told = samples(metrics_text(found, now_s=7, **NAMES))
    assert told['tenantgate_reconcile_drift_ratio{source="platform",currency="USD"}'] == 0.25
    assert told['tenantgate_reconcile_lines{source="platform",status="uncertain"}'] == 1
    assert told['tenantgate_reconcile_cost{source="platform",currency="USD",side="theirs"}'] == 4
    assert told['tenantgate_reconcile_time_seconds{source="platform"}'] == 7
