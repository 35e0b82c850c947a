from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.doctor.core import node
from tenantgate.doctor.core.findings import Finding, Severity

GOOD_SERVER = node.ServerFacts(
    name="tenantgate", socket="/k/tenantgate.socket", mode=0o600, accepts=True, ready=True, version="1.0.0"
)
GOOD_REDIS = node.RedisFacts(
    where="gateway.redis", use="rate limits", version="7.2.4", appends=True, keeps=True
)
GOOD_POLICIES = node.PoliciesFacts(where="Redis", version=3, nodes=2, pending=False)
GOOD_FOLDER = node.FolderFacts(path="/a", use="audit", writable=True, mode=0o750, free=50 << 30, private=True)


def bad(found: Iterable[Finding]) -> list[str]:
    found = list(found)
    assert found, "a check says something of everything"
    assert all(f.do for f in found if f.severity is not Severity.OK)
    return [f.severity.value for f in found if f.severity is not Severity.OK]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"mode": 0o660}, []),
        ({"mode": 0o777}, ["error"]),
        ({"mode": None}, ["error"]),
        ({"accepts": False}, ["error"]),
        ({"ready": False, "reason": "models"}, ["error"]),
        ({"ready": False, "reason": "policies"}, ["error"]),
        ({"ready": None}, ["warning"]),
        ({"version": "0.9.0"}, ["warning"]),
        ({"errors": 3}, ["warning"]),
    ],
)
def test_plugin_servers(change: dict[str, object], said: list[str]) -> None:
    assert bad(node.check_server(replace(GOOD_SERVER, **change), "1.0.0")) == said  # type: ignore[arg-type]


@pytest.mark.parametrize(("reachable", "said"), [(True, ["warning"]), (False, [])])
def test_the_socket_of_kongs_workers(reachable: bool, said: list[str]) -> None:
    assert bad([node.check_worker_events("/k", reachable)]) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"maxmemory": 10, "eviction": "noeviction"}, []),
        ({"maxmemory": 10, "eviction": "allkeys-lru"}, ["error"]),
        ({"maxmemory": 10, "eviction": "volatile-ttl"}, ["error"]),  # what was spent has an expiry
        ({"maxmemory": 0, "eviction": "allkeys-lru"}, []),
        ({"appends": False}, ["warning"]),
        (
            {"maxmemory": 10, "eviction": "allkeys-lru", "appends": False, "keeps": False},
            [],
        ),  # a cache may forget
        ({"version": "6.2.1"}, ["error"]),
        ({"problem": "can't be reached"}, ["error"]),
    ],
)
def test_redis(change: dict[str, object], said: list[str]) -> None:
    assert bad(node.check_redis(replace(GOOD_REDIS, **change))) == said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"version": 0, "nodes": 0}, ["error"]),
        ({"problem": "unreachable"}, ["error"]),
        ({"behind": ["a (version 2)"]}, ["error"]),
        ({"ahead": True}, ["error"]),
        ({"nodes": 0}, ["warning"]),
        ({"pending": True}, ["warning"]),
        ({"pending": None}, []),
    ],
)
def test_policies(change: dict[str, object], said: list[str]) -> None:
    assert bad(node.check_policies(replace(GOOD_POLICIES, **change))) == said  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"there": False}, ["error"]),
        ({"writable": False}, ["error"]),
        ({"writable": None}, []),
        ({"mode": 0o755}, ["warning"]),
        ({"mode": 0o755, "private": False}, []),
        ({"free": 500 << 20}, ["warning"]),
        ({"free": 5 << 20}, ["error"]),
    ],
)
def test_folders(change: dict[str, object], said: list[str]) -> None:
    assert bad(node.check_folder(replace(GOOD_FOLDER, **change))) == said  # type: ignore[arg-type]


@given(st.sets(st.text(min_size=1)), st.sets(st.text(min_size=1)))
def test_exactly_the_missing_variables_are_named(named: set[str], there: set[str]) -> None:
    found = [f for f in node.check_secrets(named, there) if f.severity is not Severity.OK]
    assert {f.subject for f in found} == named - there


@given(st.dictionaries(st.text(min_size=1), st.none() | st.text(min_size=1)))
def test_exactly_the_files_with_a_problem_are_named(problems: dict[str, str | None]) -> None:
    found = [f for f in node.check_secret_files("/s", problems) if f.severity is not Severity.OK]
    assert {f.subject for f in found} == {f"/s/{name}" for name, problem in problems.items() if problem}


@given(st.floats(-1e6, 1e6))
def test_a_clock_is_judged_alike_in_both_directions(offset: float) -> None:
    assert node.check_clock(offset, "r").severity is node.check_clock(-offset, "r").severity
    assert (node.check_clock(offset, "r").severity is Severity.OK) == (abs(offset) < 1)


@pytest.mark.parametrize(
    ("days", "said"),
    [(90, Severity.OK), (20, Severity.WARNING), (-1, Severity.ERROR), (None, Severity.ERROR)],
)
def test_certificates(days: int | None, said: Severity) -> None:
    found = node.check_certificate("cert.pem", None if days is None else days * 86_400.0)
    assert found.severity is said


@pytest.mark.parametrize(
    ("vaults", "wrong"), [("bundled,file", 0), ("file", 0), ("bundled", 1), ("bundled, files", 1)]
)
def test_a_kong_without_the_vault_of_files_is_named(vaults: str, wrong: int) -> None:
    found = list(node.check_secret_files("/s", {"acme": None}, vaults=vaults))
    assert [f.subject for f in found if f.severity is Severity.ERROR] == ["vaults"] * wrong
