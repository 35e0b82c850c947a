from __future__ import annotations

import csv
import io
from dataclasses import replace
from datetime import date
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.errors import ConfigError
from tenantgate.usage.core.entries import entries_of
from tenantgate.usage.core.ledgers import (
    Figures,
    Key,
    Reading,
    Rows,
    csv_rows,
    json_rows,
    of_entries,
    pairs,
    plain_model,
)
from tenantgate.usage.core.reconciliation import compare, metrics_text, report_text
from usage_rig import FEW, record

UTC = Reading()
OPENAI_USAGE = """start_time,end_time,start_time_iso,project_id,num_model_requests,model,input_tokens,output_tokens
1793836800,1793923200,2026-11-05T00:00:00+00:00,p,3,gpt-4o-2024-08-06,300,150
1793836800,1793923200,2026-11-05T00:00:00+00:00,q,1,gpt-4o-2024-08-06,10,5
"""
OPENAI_COSTS = """start_time,end_time,start_time_iso,amount_value,amount_currency,line_item
1793836800,1793923200,2026-11-05T00:00:00+00:00,0.0000750000000000000001,usd,"gpt-4o-2024-08-06, input"
1793836800,1793923200,2026-11-05T00:00:00+00:00,5e-05,usd,"gpt-4o-2024-08-06, output"
1793836800,1793923200,2026-11-05T00:00:00+00:00,5,eur,"gpt-4o-2024-08-06, output"
"""
ANTHROPIC_USAGE = """usage_date_utc,model_version,api_key,workspace,usage_type,context_window,\
usage_input_tokens_no_cache,usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,\
usage_input_tokens_cache_read,usage_output_tokens,web_search_count
2026-11-05,claude-sonnet-4-5-20250929,k,Default,standard,≤ 200k,1,2,3,4,5,0
"""
ANTHROPIC_COSTS = """usage_date_utc,model,workspace,api_key,token_type,cost_usd
2026-11-05,claude-sonnet-4-5-20250929,Default,k,output_tokens,1.25
2026-11-05,claude-sonnet-4-5-20250929,Default,k,uncached_input_tokens,0.75
"""
OWN = """\ufefftenant,model,day,requests,input_tokens,output_tokens,cost,currency
acme,openai/gpt-4o,2026-11-05,1,100,50,0.0001234,USD

acme,gpt-4o,2026-11-05,1,,,,
"""


@pytest.mark.parametrize(
    ("text", "key", "figures"),
    [
        (OPENAI_USAGE, Key("", "gpt-4o", "2026-11-05"), Figures(4, 310, 155, None)),
        (OPENAI_COSTS, Key("", "gpt-4o", "2026-11-05"), Figures(cost=125 * 10**9)),
        (ANTHROPIC_USAGE, Key("", "claude-sonnet-4-5", "2026-11-05"), Figures(None, 10, 5, None)),
        (ANTHROPIC_COSTS, Key("", "claude-sonnet-4-5", "2026-11-05"), Figures(cost=2 * 10**15)),
        (OWN, Key("acme", "gpt-4o", "2026-11-05"), Figures(2, 100, 50, 123_400_000_000)),
    ],
)
def test_known_exports_need_no_mapping(text: str, key: Key, figures: Figures) -> None:
    assert csv_rows(text.splitlines(), {}, UTC).figures == {key: figures}


def test_other_exports_need_one() -> None:
    text = "DATE;x\n".replace(";", ",") + "2026-11-05,1\n"
    with pytest.raises(ConfigError, match=r"model.*--columns"):
        csv_rows(text.splitlines(), {"day": "DATE"}, UTC)
    sku = "DATE,SKU,KEY,AMOUNT\n2026-11-05T23:30:00Z,gpt-4o,prod,1.5\n"
    mapping = {"day": "DATE", "model": "SKU", "cost": "AMOUNT", "tenant": "KEY"}
    reading = Reading(ZoneInfo("Europe/Berlin"), tenants={"prod": "acme"})
    assert csv_rows(sku.splitlines(), mapping, reading).figures == {
        Key("acme", "gpt-4o", "2026-11-06"): Figures(cost=15 * 10**14)
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("day,model,cost\n2026-11-05,m,$1\n", "row 2: cost"),
        ("day,model,cost\nsoon,m,1\n", "row 2: day"),
        ("day,model,requests\n2026-11-05,m,1.5\n", "row 2: requests"),
        ("", "no known export"),
        ("day,model,cost,cost\n2026-11-05,m,1,2\n", "'cost' twice"),
        ("day,model,requests\n2026-11-05,m,-1\n", "row 2: requests"),
        ("day,model,requests\n2026-11-05,m,1_000\n", "row 2: requests"),
        ("day,model,requests\n2026-11-05,m,١٢\n", "row 2: requests"),
        ("day,model,cost\n2026-11-05,m,1e99\n", "row 2: cost"),
        ("day,model,cost\n2026-02-30,m,1\n", "row 2: day"),
        ("day,model,cost\n0001-01-01T00:00+14:00,m,1\n", "row 2: day"),
        ("day,model,cost\n2026-11-05," + "m" * 200_000 + ",1\n", "line 2: field larger"),
    ],
)
def test_what_can_t_be_read_is_named(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        csv_rows(text.splitlines(), {}, UTC)


CELLS = st.text(max_size=8) | st.from_regex(
    r"-?[0-9]{1,12}(\.[0-9]{1,3})?(e[0-9]{1,3})?|[0-9]{4}-[0-9]{2}-[0-9]{2}"
)


@FEW
@given(st.lists(st.lists(CELLS, min_size=3, max_size=5), max_size=3), st.sampled_from(["cost", "requests"]))
def test_whatever_a_file_holds_it_is_read_or_named(rows: list[list[str]], amount: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["day", "model", amount, "tenant"], *rows])
    text.seek(0)
    try:
        found = csv_rows(text, {}, UTC)
    except ConfigError:
        return
    differences = compare(Rows(), found, Fraction(0))
    shown = report_text(differences, source="other", currency="USD")
    assert all(c.isprintable() for c in shown.replace("\n", ""))
    assert metrics_text(differences, source="other", currency="USD", now_s=1)
    assert all(date.fromisoformat(key.day).year >= 1970 for key in found.figures)


@pytest.mark.parametrize("cost", ["0.5", 0.5, {"exact": "0.5", "currency": "USD"}])
@pytest.mark.parametrize(
    "wrap", [lambda rows: rows, lambda rows: {"rows": rows}, lambda rows: {"data": rows}]
)
def test_a_ledger_as_json(cost: Any, wrap: Any) -> None:
    rows = [{"tenant": "acme", "model": "m", "day": "2026-11-05", "requests": 2, "cost": cost, "more": None}]
    assert json_rows(wrap(rows), UTC).figures == {
        Key("acme", "m", "2026-11-05"): Figures(requests=2, cost=5 * 10**14)
    }
    assert json_rows([{**rows[0], "currency": "EUR", "cost": "1"}], UTC).skipped == 1


@pytest.mark.parametrize("value", [{}, {"rows": 3}, [1], "x", None])
def test_what_is_no_ledger(value: Any) -> None:
    with pytest.raises(ConfigError, match="list of objects"):
        json_rows(value, UTC)


def test_a_provider_sees_only_what_came_to_it() -> None:
    cached = record(
        2, outcome="cached", cost=None, gen_ai__usage=None, attempts=0, response={"source": "kong"}
    )
    lost = record(3, outcome="client_gone", cost=None, gen_ai__usage=None)
    entries = [e for one in (record(1), cached, lost) for e in entries_of(one)]
    ours = Figures(3, 100, 50, 123_400_000_000, uncertain=1)
    assert of_entries(entries, UTC, tenants=True).figures == {Key("acme", "gpt-4o", "2026-11-05"): ours}
    seen = replace(ours, requests=2)
    assert of_entries(entries, UTC, tenants=False).figures == {Key("", "gpt-4o", "2026-11-05"): seen}
    assert of_entries(entries, replace(UTC, currency="EUR"), tenants=True).skipped == 1


def test_a_ledger_of_the_platform_api() -> None:
    row = {
        "tenant": "acme",
        "day": "2026-11-05",
        "provider": "openai",
        "model": "gpt-4o",
        "requests": 3,
        "usage": {"input_tokens": 100},
        "costs": [{"currency": "EUR", "exact": "7"}, {"currency": "USD", "exact": "0.5"}],
    }
    found = json_rows({"data": [row, {**row, "costs": []}], "next_cursor": None}, UTC)
    assert found.figures == {Key("acme", "gpt-4o", "2026-11-05"): Figures(6, 200, None, 5 * 10**14)}
    assert found.skipped == 1


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic/claude-sonnet-4-5@20250929", "claude-sonnet-4-5"),
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("o3", "o3"),
    ],
)
def test_models_by_their_plain_names(name: str, plain: str) -> None:
    assert plain_model(name) == plain


def test_pairs() -> None:
    assert dict(pairs("a=b, c = d", "--x")) == {"a": "b", "c": "d"}
    with pytest.raises(ConfigError, match="--x"):
        list(pairs("a", "--x"))
