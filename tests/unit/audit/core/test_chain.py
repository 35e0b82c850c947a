"""The chain: what was removed, altered, doubled or put in is found, in whatever order records come."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.audit.core.chain import START, FaultKind, link, merged, shed, verify
from tenantgate.audit.core.ports import Head
from tenantgate.audit.core.record import gap
from tenantgate.tenant import TenantId


def chain(count: int, *, tenant: str = "acme", node: str = "n", tag: str = "") -> list[bytes]:
    head, out = START, []
    for n in range(1, count + 1):
        record = {
            "id": f"{tenant}{tag}-{n}",
            "tenant": tenant,
            "content": {"state": "kept", "text": f"text {n}"},
        }
        entry, head = link(record, head, tenant=TenantId(tenant), node=node, position=n * 10)
        assert (entry.seq, entry.position, entry.hash) == (head.seq, head.position, head.hash)
        out.append(entry.record)
    return out


def kinds(records: list[bytes], **more: Any) -> list[tuple[str, int, int]]:
    return [(f.kind.value, f.seq, f.until) for f in verify(records, **more).faults]


def changed(record: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    found = json.loads(record)
    change(found)
    return json.dumps(found).encode()


def test_a_whole_chain_is_sound() -> None:
    report = verify(chain(50))
    assert report.sound
    assert (report.records, report.chains, report.beginnings, report.restarts) == (50, 1, {}, {})


def test_chains_of_tenants_and_nodes_are_apart() -> None:
    records = chain(5) + chain(5, tenant="bravo") + chain(5, node="m")
    random.Random(1).shuffle(records)
    report = verify(records)
    assert report.sound
    assert report.chains == 3


@pytest.mark.parametrize(
    ("do", "found"),
    [
        (lambda r: r.pop(4), [("missing", 5, 5)]),
        (lambda r: r.__delitem__(slice(2, 6)), [("missing", 3, 6)]),
        (lambda r: r.insert(7, r[3]), [("doubled", 4, 4)]),
        (lambda r: r.append(r[9]), [("doubled", 10, 10)]),
        (lambda r: r.__setitem__(4, changed(r[4], lambda x: x.update(id="other"))), [("altered", 5, 5)]),
        (lambda r: r.__setitem__(4, changed(r[4], lambda x: x.update(extra=1))), [("altered", 5, 5)]),
        (
            lambda r: r.__setitem__(4, changed(r[4], lambda x: x["content"].update(text="x"))),
            [("content_altered", 5, 5)],
        ),
        (lambda r: r.__setitem__(4, changed(r[4], lambda x: x.pop("content"))), [("content_altered", 5, 5)]),
        (lambda r: r.__setitem__(4, b"no record"), [("unreadable", 5, 5), ("missing", 5, 5)]),
        (lambda r: r.__setitem__(4, chain(5, tag="x")[4]), [("broken", 5, 5), ("broken", 6, 6)]),
        (lambda r: r.insert(5, chain(5, tag="x")[4]), [("forked", 5, 5)]),
    ],
)
def test_what_was_done_to_a_chain_is_found(do: Callable[[list[bytes]], Any], found: list[Any]) -> None:
    records = chain(10)
    do(records)
    assert kinds(records) == found


def test_the_end_can_be_cut_off_unseen_only_by_who_knows_no_head() -> None:
    heads = {("acme", "n"): Head(10, "", 0), ("bravo", "n"): Head(2, "", 0)}
    assert kinds(chain(10)[:7]) == []
    assert kinds(chain(10)[:7], heads=heads) == [("cut", 8, 10), ("cut", 1, 2)]


def test_the_beginning_may_be_gone_and_is_told() -> None:
    report = verify(chain(10)[6:])
    assert report.sound
    assert report.beginnings == {("acme", "n"): 7}


def test_a_chain_that_began_anew_is_told() -> None:
    report = verify(chain(5) + chain(3, tag="later"))
    assert report.sound
    assert report.restarts == {("acme", "n"): 1}


def test_content_that_was_taken_out_breaks_nothing() -> None:
    records = chain(5)
    records[2] = shed(records[2])
    assert b"text 3" not in records[2]
    report = verify(records)
    assert (report.sound, report.shed) == (True, 1)
    assert shed(records[2]) == records[2]


@given(st.permutations(range(20)), st.sets(st.integers(1, 18), max_size=5))
def test_any_order_finds_the_same(order: list[int], removed: set[int]) -> None:
    records = [r for n, r in enumerate(chain(20)) if n not in removed]
    faults = verify([records[i] for i in order if i < len(records)]).faults
    assert {f.kind for f in faults} <= {FaultKind.MISSING}
    assert {n - 1 for f in faults for n in range(f.seq, f.until + 1)} == removed


def test_a_message_names_no_content() -> None:
    records = chain(3)
    records[1] = changed(records[1], lambda x: x["content"].update(text="secret"))
    (fault,) = verify(records).faults
    assert str(fault) == "content_altered: tenant acme, node n, number 2, id acme-2"


def with_gap(records: list[bytes], *numbers: tuple[int, int]) -> list[bytes]:
    """The chain, and at its end a record which says that these were dropped."""
    last = json.loads(records[-1])["chain"]
    told = gap(numbers, tenant=TenantId("acme"), identifier="gap-1", now_ms=0)
    entry, _ = link(told, Head(last["seq"], last["hash"], 0), tenant=TenantId("acme"), node="n", position=999)
    return [*records, entry.record]


def test_what_a_later_record_says_was_dropped_is_not_missing() -> None:
    records = with_gap(chain(10), (3, 4), (6, 6))
    assert verify(records).dropped == {}, "it is here all the same"
    left = [r for n, r in enumerate(records, 1) if n not in (3, 4, 6)]
    for found in (left, left[::-1]):
        report = verify(found)
        assert report.sound
        assert report.dropped == {("acme", "n"): ((3, 4), (6, 6))}
    report = verify(with_gap(chain(10), (1, 5))[5:])
    assert (report.sound, report.dropped) == (True, {("acme", "n"): ((1, 5),)})


def test_only_what_it_says_and_only_while_it_is_whole() -> None:
    records = with_gap(chain(10), (3, 4), (6, 6), (11, 20))
    left = [r for n, r in enumerate(records, 1) if n not in (2, 3, 4, 5, 6, 7)]
    assert kinds(left) == [("missing", 2, 2), ("missing", 5, 5), ("missing", 7, 7)]
    left[-1] = changed(left[-1], lambda x: x["gap"]["numbers"].append({"from": 2, "to": 9}))
    assert kinds(left) == [("altered", 11, 11), ("missing", 2, 7)]
    later = with_gap(chain(10, tag="later"), (3, 4))
    assert kinds([*records[:2], *records[4:], *later[:2], *later[4:]]) == []
    assert kinds([*records[:2], *records[4:10], *later]) == [("missing", 3, 4)], (
        "an earlier chain's are others"
    )


@pytest.mark.parametrize(
    "numbers", [None, 7, [1], [{"from": 1}], [{"from": "1", "to": 2}], [{"from": 9, "to": 1}]]
)
def test_a_gap_that_is_none_says_nothing(numbers: Any) -> None:
    record = {"id": "x", "tenant": "acme", "content": {}, "gap": {"numbers": numbers}}
    entry, _ = link(record, Head(10, "", 0), tenant=TenantId("acme"), node="n", position=1)
    assert verify([entry.record]).sound


def test_a_number_of_any_size_costs_nothing() -> None:
    head = Head(10**15, "", 0)
    entry, _ = link({"id": "x", "tenant": "acme"}, head, tenant=TenantId("acme"), node="n", position=1)
    found = kinds([*chain(5), entry.record, *with_gap(chain(5), (1, 10**17))[-1:]])
    assert found[-1] == ("missing", 7, 10**15)


def test_numbers_are_merged_where_they_meet() -> None:
    assert merged([(5, 6), (1, 2), [3, 3], (9, 9), (2, 3)]) == ((1, 3), (5, 6), (9, 9))
