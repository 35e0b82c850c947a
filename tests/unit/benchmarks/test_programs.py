"""What the longer benchmarks make of their measurements: growth, cores on paper, peers' blanks."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType
from typing import Any

import pytest

from tenantgate.bench.load import Shot

from support import ROOT

BENCHMARKS = ROOT / "benchmarks"
sys.path.append(str(BENCHMARKS))  # they import each other, as programs do


def program(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"tests_{name}", BENCHMARKS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


SOAK, SCALE, PEERS, CHAOS = (program(name) for name in ("soak", "bench_scale", "bench_peers", "chaos"))
LIVE = program("live_changes")
GATEWAYS = sys.modules["peer_gateways"]


# -- soak


def soaked(events: int = 1_000_000, **last: float) -> dict[str, Any]:
    """Flat measurements but for what the last third has."""
    flat = {"events": 1.0, "rss_mb": 100.0, "threads": 12.0, "files": 40.0, "keys": 2000.0, "redis_mb": 5.0}
    samples = [flat] * 20 + [flat | last] * 10
    server = {"failed": {}, "said": [], "phases_failed": 0, "phases_late": 3, "samples": samples, "events": 1}
    return {"events": events, "servers": {"it": server}}


@pytest.mark.parametrize(
    ("last", "said"),
    [
        ({}, None),
        ({"threads": 14, "files": 45, "rss_mb": 105, "keys": 2050}, None),
        ({"threads": 40}, "threads grew from 12 to 40"),
        ({"files": 400}, "files grew"),
        ({"keys": 9000}, "keys grew"),
        ({"rss_mb": 130}, "memory grew from 100 to 130 MiB"),
    ],
)
def test_growth_after_the_first_third_is_a_fault(last: dict[str, float], said: str | None) -> None:
    found = SOAK.gates(soaked(**last))
    assert [said in line for line in found] == ([True] if said else [])


def test_while_caches_still_fill_growth_is_none() -> None:
    assert SOAK.gates(soaked(events=5000, keys=9000)) == []


def test_a_failed_event_is_a_fault_and_a_late_phase_is_not() -> None:
    result = soaked(events=5000)
    assert SOAK.gates(result) == []
    result["servers"]["it"]["failed"] = {"log: KongError": 1}
    assert len(SOAK.gates(result)) == 1


def test_the_page_shows_what_was_sampled() -> None:
    about = {"date": "today", "machine": "this", "commit": "c"}
    text = SOAK.html_page({**soaked(), "about": about, "seconds": 9.0})
    assert text.count("<polyline") == 4


def test_references_to_secrets_become_what_they_stand_for() -> None:
    value = {"a": ["{vault://env/some-key}", 1], "b": {"c": "plain"}}
    assert SOAK._resolved(value, {"SOME_KEY": "s"}) == {"a": ["s", 1], "b": {"c": "plain"}}


# -- scale

CELL = SCALE.Cell(
    "one Redis",
    100,
    10_000,
    *[{"p50": 1.0, "p95": 2.0, "p99": 3.0}] * 3,
    20.0,
    80.0,
    900.0,
    2500.0,
    5,
    300,
    0,
)


def test_cores_on_paper_are_processor_time_times_requests() -> None:
    cost = {"cpu_ms_per_request": {"gateway": 0.5, "mock provider": 9.0, "redis": 0.01}}
    bench = {"configurations": {"cache": {"sections": {"cache": {}}, "cost": cost}}}
    assert SCALE.paper(bench, [CELL]) == [
        {"configuration": "cache", "cores": {"gateway": 5.0, "redis": pytest.approx(1.0)}}
    ]


@pytest.mark.parametrize(("missed", "scattered", "faults"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_what_was_stored_is_found_and_a_tenant_is_on_one_node(
    missed: int, scattered: int, faults: int
) -> None:
    cell = {"where": "one Redis", "entries": 10, "missed": missed, "lookups": 300}
    assert len(SCALE.gates({"cells": [cell], "cluster": {"scattered": scattered}})) == faults


# -- peers


def test_a_peers_hit_reads_as_ours_do() -> None:
    plain = Shot("ours", 0, 0.0, 0.0, 0.1, 0.1, 0.1, 200, "", {}, "d", clear=False)
    hit = Shot("ours", 1, 0.0, 0.0, 0.1, 0.1, 0.1, 200, "", {"x-litellm-cache-key": "k"}, "d", clear=False)
    bare = Shot("bare", 1, 0.0, 0.0, 0.1, 0.1, 0.1, 200, "", {}, "d", clear=False)
    assert [s.headers.get("x-cache-status") for s in PEERS._hits([plain, bare, hit], "ours")] == [None, "Hit"]


def test_what_a_peer_cannot_do_is_a_blank() -> None:
    none = {"added": {}}
    entry = {
        "name": "Peer",
        "version": "1",
        "latency": none,
        "first_token": none,
        "throughput": 5.0,
        "cpu_ms": 1.0,
        "rss_mb": 9.0,
        "hits": 0,
        "hit_ms": 0.0,
        "repeats": [0, 9],
        "paraphrases": [0, 9],
        "wrong": 0,
        "foreign": 0,
        "near_wrong": [0, 2],
        "rewritten": [0, 8],
        "attacks_blocked": [0, 3],
        "personal_in_clear": [3, 3],
        "errors": 0,
    }
    peer, blank = PEERS.rows({"gateways": [entry], "blanks": {"Peer, cache": "has none"}})
    assert peer[:6] == ("Peer", "1", "", "", "", "")
    shown = {head: cell for head, cell in zip(PEERS._HEAD, peer, strict=True) if cell}
    assert not {"a hit takes p50", "hits wrong", "near misses wrong", "hits of others"} & set(shown)
    assert set(blank[1:]) == {""}


def test_a_cache_without_wrong_hits_shows_how_many_there_were() -> None:
    none = {"added": {}}
    entry = {
        "name": "Peer",
        "version": "1",
        "latency": none,
        "first_token": none,
        "throughput": 5.0,
        "cpu_ms": 1.0,
        "rss_mb": 9.0,
        "hits": 7,
        "hit_ms": 3.0,
        "repeats": [7, 9],
        "paraphrases": [0, 9],
        "wrong": 0,
        "foreign": 0,
        "near_wrong": [0, 2],
        "rewritten": [0, 8],
        "attacks_blocked": [0, 3],
        "personal_in_clear": [3, 3],
        "errors": 0,
    }
    shown = dict(zip(PEERS._HEAD, PEERS.rows({"gateways": [entry], "blanks": {}})[0], strict=True))
    assert (shown["hits wrong"], shown["near misses wrong"], shown["hits of others"]) == ("0/7", "0/2", "0")


def test_the_keys_of_our_own_proxy_are_not_in_the_sources() -> None:
    source = (BENCHMARKS / "peer_gateways.py").read_text()
    assert not [key for key in (GATEWAYS._MASTER, *GATEWAYS._KEYS) if key in source]


def answers(*ends: tuple[str, float, str]) -> Any:
    """Each a kind, the second in which it was asked and answered, and its end; from 10 to 20 a part is down."""
    found = [CHAOS.Answer(kind, at, at + 0.5, end) for kind, at, end in ends]
    return CHAOS.Seen(answers=found, outages=[(10.0, 20.0)])


def test_chaos_tells_a_failed_request_and_an_attack_that_came_through() -> None:
    fine = answers(
        ("noted attack", 1, "200"),
        ("noted", 15, "200"),
        ("attack", 1, "400"),
        ("attack", 15, "503"),
        ("checked", 9.6, "503"),
        ("paid", 1, "429"),
        ("tool attack", 1, "refused"),
        ("tool", 15, "refused"),
    )
    assert CHAOS.request_faults(fine) == []
    bad = answers(
        ("noted", 15, "503"),
        ("attack", 15, "200"),
        ("tool attack", 15, "200"),
        ("checked", 26, "503"),
        ("checked", 15, "500"),
        ("tool", 1, "refused"),
        ("several", 15, "ConnectionResetError"),
    )
    assert len(CHAOS.request_faults(bad)) == 7


@pytest.mark.parametrize(
    ("first", "second", "billed", "used", "held", "faults"),
    [
        (CHAOS.BUDGET, CHAOS.BUDGET, 2 * CHAOS.BUDGET, CHAOS.BUDGET, 0, 0),
        (CHAOS.BUDGET + 1, 5, CHAOS.BUDGET + 6, 5, 0, 1),
        (5, 0, 5, 0, 0, 1),
        (5, 5, 2 * CHAOS.BUDGET + 1, 5, 0, 1),
        (5, 5, 10, CHAOS.BUDGET, 1, 2),
    ],
)
def test_chaos_tells_a_budget_that_did_not_hold(
    first: int, second: int, billed: int, used: int, held: int, faults: int
) -> None:
    seen = answers(*[("paid", 1.0, "200")] * first, *[("paid", 100.0, "200")] * second)
    found = CHAOS.budget_faults(seen, [50_000], billed, (used * CHAOS.COST, held * CHAOS.COST))
    assert len(found) == faults


def test_chaos_tells_what_grew() -> None:
    first = {"processes": 8.0, "files": 200.0, "threads": 60.0, "keys": 900.0, "cached": 300.0, "MB": 500.0}
    assert CHAOS.growth_faults(first, first | {"files": 230.0, "cached": 400.0, "MB": 900.0}) == []
    assert len(CHAOS.growth_faults(first, first | {"files": 300.0, "keys": 1200.0})) == 2
    assert len(CHAOS.growth_faults(first, first | {"cached": CHAOS.CACHED + 11.0})) == 1


# -- live_changes


@pytest.mark.parametrize(
    ("failed", "acted", "said"),
    [
        ({}, {"rule blocks": 1.9, "key comes": 9.0, "tenant goes": 9.9}, None),
        ({"503": 2}, {}, "2 requests failed: 503"),
        ({}, {"rule blocks": 2.1}, "rule blocks: acted after 2.1 s"),
        ({}, {"key goes": 10.5}, "key goes: acted after 10.5 s"),
    ],
)
def test_a_failed_request_or_a_late_change_is_a_fault(
    failed: dict[str, int], acted: dict[str, float], said: str | None
) -> None:
    times = {name: {"most": most} for name, most in acted.items()}
    found = {"gateway": "Kong (with PostgreSQL)", "failed": failed, "acts_after_s": times}
    assert [said in line for line in LIVE.gates(found)] == ([True] if said else [])


def test_without_a_database_keys_act_as_soon_as_rules() -> None:
    found = {"gateway": "Kong", "failed": {}, "acts_after_s": {"key goes": {"most": 2.5}}}
    assert len(LIVE.gates(found)) == 1
