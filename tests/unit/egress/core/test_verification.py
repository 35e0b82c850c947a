from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tenantgate.egress.core.verification import Lists, Version, check

T = 1_800_000_000.0
TIME = "2027-01-15T08:00:00Z"  # is T
OPENAI = {
    "target": "openai/m",
    "outcome": "ok",
    "ms": 900,
    "host": "api.openai.com",
    "address": "20.51.1.1:443",
}
OLD = [Version(3, T - 86_400)]
ONE = Lists(["api.openai.com"])


def record(*tries: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    found = {"id": "r1", "time": TIME, "tenant": "acme", "request": {"id": "r1"}, "attempts": len(tries)}
    return {**found, **({"tries": list(tries)} if tries else {}), **more}


def whys(one: Mapping[str, Any], *lists: Lists, versions: list[Version] | None = None) -> list[str]:
    versions = versions or OLD
    by_version = dict(zip((v.number for v in versions), lists, strict=True))
    return [refused.why for refused in check(one, versions, lambda v, _: by_version[v]).refused]


HOST = "its host isn't in the list"
ADDRESS = "its address is neither public nor in a range of the list"


@pytest.mark.parametrize(
    ("change", "lists", "expected"),
    [
        ({}, ONE, []),
        ({"host": "API.openai.com"}, ONE, []),
        ({"host": "evil.example"}, ONE, [HOST]),
        ({"host": ""}, ONE, [HOST]),
        ({"address": "20.51.1.1:8443"}, ONE, [HOST]),
        ({"address": "10.0.0.1:443"}, ONE, [ADDRESS]),
        ({"address": "169.254.169.254:443"}, ONE, [ADDRESS]),
        ({"address": "[::ffff:10.0.0.1]:443"}, ONE, [ADDRESS]),
        ({"address": "[2606:4700::1]:443"}, ONE, []),
        ({"address": "10.0.0.1:443"}, Lists(["api.openai.com", "10.0.0.0/8"]), []),
        ({"address": "nonsense"}, ONE, ["its address can't be read"]),
        ({"address": "20.51.1.1"}, ONE, ["its address can't be read"]),
        ({"host": "10.0.0.1", "address": "10.0.0.1:443"}, Lists(["10.0.0.1"]), []),
        ({"host": "10.0.0.1", "address": "10.0.0.2:443"}, Lists(["10.0.0.1"]), ["its address isn't the one"]),
        ({"host": "plain.example", "address": "20.51.1.1:80"}, Lists(["http://plain.example"]), []),
        ({}, Lists(["api.openai.com"], ["other.example"]), [HOST]),
        ({}, Lists(["api.openai.com", "x.example"], ["api.openai.com"]), []),
        ({}, Lists([]), [HOST]),
        ({}, Lists(None), []),
    ],
)
def test_a_try_by_the_lists_of_its_time(change: dict[str, Any], lists: Lists, expected: list[str]) -> None:
    found = whys(record({**OPENAI, **change}), lists)
    assert len(found) == len(expected)
    assert all(why.startswith(start) for why, start in zip(found, expected, strict=True))


def test_each_try_is_judged_and_named() -> None:
    evil = {**OPENAI, "target": "x/y", "host": "evil.example"}
    verdict = check(record(OPENAI, evil, OPENAI), OLD, lambda _v, _t: ONE)
    (refused,) = verdict.refused
    assert (verdict.tries, refused.target, refused.asked) == (3, "x/y", "evil.example 20.51.1.1:443")
    assert (refused.record, refused.tenant, refused.time) == ("r1", "acme", TIME)


NONE = Lists([])


@pytest.mark.parametrize(
    ("at", "lists", "permitted"),
    [
        # One version: it must have been in force.
        ([-86_400], [ONE], True),
        ([86_400], [ONE], False),
        # The list was narrowed long before, just before, within the request, and long after it.
        ([-86_400, -3600], [ONE, NONE], False),
        ([-86_400, -30], [ONE, NONE], True),
        ([-86_400, 1], [ONE, NONE], True),
        ([-86_400, 3600], [ONE, NONE], True),
        # It was widened long before, just after the request came, and long after it.
        ([-86_400, -3600], [NONE, ONE], True),
        ([-86_400, 30], [NONE, ONE], True),
        ([-86_400, 3600], [NONE, ONE], False),
    ],
)
def test_the_versions_of_its_time(at: list[float], lists: list[Lists], permitted: bool) -> None:
    versions = [Version(i, T + seconds) for i, seconds in enumerate(at)]
    assert (whys(record(OPENAI), *lists, versions=versions) == []) is permitted


def test_a_time_of_which_nothing_is_kept_can_not_be_judged() -> None:
    (why,) = whys(record(OPENAI), ONE, versions=[Version(9, T + 86_400)])
    assert why == "no version of the policies of that time is kept"
    assert [r.why for r in check(record(OPENAI, time="?"), OLD, lambda _v, _t: ONE).refused] == [why]


def test_a_provider_that_was_asked_beside_the_list() -> None:
    direct = record(attempts=1)
    assert whys(direct, ONE) == ["the provider was asked directly, though there was an egress list"]
    assert whys(direct, Lists(None)) == []


@pytest.mark.parametrize(
    "one",
    [
        record(attempts=0),
        record({**OPENAI, "address": "", "outcome": "error"}),
        record({**OPENAI, "host": "evil.example", "address": "", "outcome": "refused"}),
        {"id": "gap", "time": TIME, "tenant": "acme", "lost": 3},
    ],
)
def test_what_asked_nobody_is_no_try(one: dict[str, Any]) -> None:
    verdict = check(one, OLD, lambda _v, _t: NONE)
    assert (verdict.tries, verdict.refused) == (0, ())
