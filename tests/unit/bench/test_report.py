"""What people read: the table, the page, the gates, two results side by side."""

from __future__ import annotations

import copy
import functools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from tenantgate.bench import compare, page, plots, report, running, workload
from tenantgate.bench.configurations import BARE, Configuration
from tenantgate.bench.counters import parse
from tenantgate.bench.load import Shot
from tenantgate.bench.procs import Usage
from tenantgate.bench.running import Settings
from tenantgate.bench.sites import ENGINE, Counts
from tenantgate.errors import ConfigError

CACHE = "tenant-semantic-cache"

SETTINGS = Settings()
ASKS = workload.make(300, gap=20)
CONFIGURATION = Configuration(name="cache", title="the <cache>", sections={"cache": {}})
METRICS = """tenantgate_pdk_calls_total{plugin="tenantgate",phase="access"} %d
tenantgate_phases_total{plugin="tenantgate",phase="access",outcome="done"} %d
tenantgate_phases_total{plugin="tenant-semantic-cache",phase="access",outcome="done"} %d
"""


def counts(n: int, cpu_s: float) -> Counts:
    return Counts(
        {"gateway": Usage(cpu_s, 50.0, 5, 20), ENGINE: Usage(cpu_s, 200.0, 12, 40)},
        {ENGINE: parse(METRICS % (5 * n, n, n))},
        {"trips": 3.0 * n, "commands": 4.0 * n, "keys": n, "megabytes": 1.0 + n / 100},
        n,
    )


def shots(target: str, added_s: float) -> list[Shot]:
    out = []
    for ask in ASKS:
        hit = target == "ours" and ask.kind == "repeat"
        total = 0.004 if hit else 0.055 + added_s + 0.0001 * (ask.number % 7)
        headers = {"x-cache-status": "Hit"} if hit else {}
        out.append(
            Shot(
                target,
                ask.number,
                ask.number * 0.05,
                0.0,
                total,
                total,
                total,
                200,
                "",
                headers,
                ask.digest,
                bool(ask.secret),
            )
        )
    return out


def made(configuration: Configuration = CONFIGURATION, added_s: float = 0.01) -> dict[str, Any]:
    found = running._result(
        ASKS,
        [*shots("bare", 0.0), *shots("ours", added_s)],
        configuration,
        SETTINGS,
        (counts(0, 1.0), counts(300, 4.0)),
    )
    return json.loads(json.dumps(found))


@functools.cache
def usual() -> dict[str, Any]:
    return {
        "about": running.about(SETTINGS),
        "configurations": {"bare again": made(BARE, 0.0), "cache": made()},
        "traces": {
            "cache": [
                {
                    "kind": "fresh",
                    "outcomes": {"200 Miss": 3},
                    "total_ms": 9.0,
                    "after_ms": {CACHE: 1.2},
                    "parts": [
                        {"plugin": CACHE, "part": "embedding", "ms": 4.0},
                        {"plugin": "", "part": "provider", "ms": 5.0},
                    ],
                    "methods": {CACHE: ["client.get_consumer"]},
                }
            ]
        },
    }


def changed(path: str, value: Any) -> dict[str, Any]:
    result = copy.deepcopy(usual())
    at: Any = result["configurations"]["cache"]
    *way, last = path.split(".")
    for step in way:
        at = at[step]
    at[last] = value
    return result


def test_what_was_added_is_found_for_what_reached_the_provider_and_hits_are_apart() -> None:
    latency = usual()["configurations"]["cache"]["latency"]
    assert latency["pass"]["added"]["p50"]["value"] == pytest.approx(10, abs=0.5)
    assert latency["hit"]["ratio"]["p50"]["value"] < 0.1
    assert sum(latency[c]["pairs"] for c in ("pass", "pass, long", "hit")) == latency["all"]["pairs"]


def test_costs_are_per_request() -> None:
    cost = usual()["configurations"]["cache"]["cost"]
    assert cost["cpu_ms_per_request"]["gateway"] == pytest.approx(10)
    assert cost["pdk_calls_per_request"] == {"access": 5.0}
    assert cost["redis_per_request"] == {"trips": 3.0, "commands": 4.0}


def test_the_table_has_a_line_for_each_configuration() -> None:
    lines = report.table(usual()).splitlines()
    assert [line.split("  ")[0] for line in lines] == ["configuration", "bare again", "cache"]


def test_all_gates_hold_where_nothing_is_wrong() -> None:
    assert report.gates(usual()) == []


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("errors", {"timeout": 2, "status 502": 1}, "3 errors (2 timeout, 1 status 502)"),
        ("bare_errors", {"timeout": 1}, "errors on the bare route"),
        ("quality.wrong_passes", 1, "another request's"),
        ("quality.foreign", 1, "another tenant"),
        ("quality.wrong_hits", [9, 60], "9 of 60 hits"),
        ("quality.repeats", [0, 60], "no repeat"),
        (f"cost.phases.{CACHE}", {"done": 290, "failed": 4, "late": 1}, "5 phases"),
        (f"cost.phases.{CACHE}", {"done": 0, "answered": 0}, "never ran"),
    ],
)
def test_each_gate_says_what_is_wrong(path: str, value: Any, said: str) -> None:
    found = report.gates(changed(path, value))
    assert len(found) == 1
    assert found[0].startswith("cache: ")
    assert said in found[0]
    assert said.replace("&", "&amp;").replace("'", "&#x27;") in page.page(changed(path, value))


def test_personal_data_in_clear_is_a_fault_only_where_it_is_to_be_hidden() -> None:
    assert usual()["configurations"]["cache"]["quality"]["personal_in_clear"][0] > 0
    assert report.gates(changed("quality.hides_personal", value=True)) != []


def test_as_many_wrong_hits_as_the_bound_allows_are_no_fault() -> None:
    assert report.gates(changed("quality.wrong_hits", [4, 60])) == []


def test_times_are_never_a_gate() -> None:
    slow = copy.deepcopy(usual())
    slow["configurations"]["cache"] = made(added_s=2.0)
    assert report.gates(slow) == []


class _Balanced(HTMLParser):
    VOID = frozenset({"meta", "rect", "line", "circle", "br", "i"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag


def test_the_page_needs_nothing_from_elsewhere() -> None:
    text = page.page(usual())
    assert not re.search(r"(src|href)=|<script|@import|url\(", text)
    assert text.count("<svg") > 4
    parser = _Balanced()
    parser.feed(text)
    assert parser.open == []


def test_names_are_escaped() -> None:
    result = copy.deepcopy(usual())
    result["configurations"]["<b>"] = result["configurations"].pop("cache")
    assert "<b>" not in page.page(result)


def test_a_run_without_traces_or_pairs_still_makes_a_page() -> None:
    empty = copy.deepcopy(usual())
    del empty["traces"]
    nothing = {"pairs": 0, "bare": {}, "with_us": {}, "added": {}, "by_pair": {}, "ratio": {}}
    entry = empty["configurations"]["cache"]
    entry["latency"] = dict.fromkeys(entry["latency"], nothing)
    entry["first_token"], entry["curve"] = nothing, {"bare": [], "ours": []}
    assert "cache" in page.page(empty)
    assert "–" in report.table(empty)


def test_plots_of_nothing_are_plots() -> None:
    assert plots.bars([], {}, unit="ms").startswith("<svg")
    assert plots.curves([], x_label="x", y_label="y").startswith("<svg")
    assert (
        plots.curves([("one", [(1000.0, 2.0)])], x_label="x", y_label="y", log_x=True).count("<polyline") == 1
    )


def test_two_results_side_by_side_mark_what_differs(tmp_path: Path) -> None:
    other = changed("latency", made(added_s=0.03)["latency"])
    files = []
    for name, result in (("a", usual()), ("b", other)):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(result))
    lines = compare.side_by_side(*files).splitlines()
    marked = [line for line in lines if line.endswith("*")]
    assert marked
    assert all(line.startswith("cache") and "pass" in line for line in marked)
    assert lines[-1].startswith(f"{len(marked)} of")
    assert not any("ms" in line for line in marked)


def test_a_file_that_is_no_result_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"a\.json: isn't a result"):
        compare.side_by_side(tmp_path / "a.json", tmp_path / "a.json")
