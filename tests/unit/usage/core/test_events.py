from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given

from tenantgate.usage.core.entries import entries_of
from tenantgate.usage.core.events import FORMATS, Billing, cloudevents, posts
from usage_rig import FEW, chained, loaded, record, records


def usages(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in events if e["type"] == "tenantgate.usage.v1"]


def watermarks(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [e for e in events if e["type"] == "tenantgate.watermark.v1"]


def test_an_event_has_what_is_known_and_exact_texts() -> None:
    event, mark = cloudevents(loaded(chained([record(1)])))
    chain = json.loads(chained([record(1)])[0])["chain"]
    assert event == {
        "specversion": "1.0",
        "id": f"{1:032x}:1",
        "source": "/tenantgate/nodes/n1",
        "type": "tenantgate.usage.v1",
        "subject": "acme",
        "time": "2026-11-05T12:00:00.000Z",
        "datacontenttype": "application/json",
        "node": "n1",
        "sequence": "00000000000000000001",
        "data": {
            "request": f"{1:032x}",
            "attempt": 1,
            "final": True,
            "status": "success",
            "outcome": "answered",
            "cached": False,
            "key": "key-1",
            "provider": "openai",
            "model": "gpt-4o",
            "response_model": "gpt-4o-2024-08-06",
            "end_user": "ab" * 16,
            "certainty": "exact",
            "usage": {"input_tokens": 100, "output_tokens": 50, "cache_read_tokens": 40},
            "cost": {
                "exact": "0.0001234",
                "currency": "USD",
                "source": "prices",
                "book": "genai-prices 0.2.3",
            },
        },
    }
    assert mark["data"] == {"from": 1, "to": 1, "prev": "", "hash": chain["hash"]}


@FEW
@given(records())
def test_unknown_is_left_out_and_each_try_has_one_event(found: list[dict[str, Any]]) -> None:
    lines = loaded(chained(found))
    events = cloudevents(lines)
    entries = {entry.id: entry for one in lines for entry in entries_of(one)}
    told = usages(events)
    assert {e["id"] for e in told} == entries.keys()
    assert len({e["id"] for e in events}) == len(events)
    for event in told:
        entry, data = entries[event["id"]], event["data"]
        assert ("cost" in data) == (entry.cost is not None)
        assert data.get("usage", {}) == entry.tokens
        assert None not in data.values()
    assert sum(e["data"]["final"] for e in told) == len(lines)


@FEW
@given(records(most=20))
def test_watermarks_link_the_batches_of_a_chain_without_gaps(found: list[dict[str, Any]]) -> None:
    lines = loaded(chained(found))
    last: dict[str, dict[str, Any]] = {}
    for start in range(0, len(lines), 7):
        for mark in watermarks(cloudevents(lines[start : start + 7])):
            before = last.get(mark["subject"], {"to": 0, "hash": ""})
            assert (mark["data"]["from"], mark["data"]["prev"]) == (before["to"] + 1, before["hash"])
            last[mark["subject"]] = mark["data"]
    for tenant in {one["tenant"] for one in lines}:
        assert last[tenant]["to"] == sum(one["tenant"] == tenant for one in lines)


def test_a_number_that_is_missing_shows() -> None:
    lines = loaded(chained(record(n) for n in range(4)))
    del lines[1]
    assert [(m["data"]["from"], m["data"]["to"]) for m in watermarks(cloudevents(lines))] == [(1, 1), (3, 4)]


def test_records_of_no_request_count_in_the_watermark() -> None:
    gap = {**record(2), "gap": {"records": 1}}
    events = cloudevents(loaded(chained([record(1), gap])))
    assert len(usages(events)) == 1
    assert [m["data"]["to"] for m in watermarks(events)] == [2]


@pytest.mark.parametrize("form", FORMATS)
@FEW
@given(found=records())
def test_the_same_records_are_the_same_bytes_whatever_became_of_their_content(
    form: str, found: list[dict[str, Any]]
) -> None:
    lines = loaded(chained(found))
    shed = [{**one, "content": {"state": "shed"}} for one in json.loads(json.dumps(lines))]
    assert posts(form, lines, Billing()) == posts(form, shed, Billing())


def test_openmeter_gets_flat_data_of_its_customer() -> None:
    (post,) = posts("openmeter", [record(1)], Billing("tokens", {"acme": "cus_1"}))
    (event,) = json.loads(post.body)
    assert (post.content_type, event["type"], event["subject"]) == (
        "application/cloudevents-batch+json",
        "tokens",
        "cus_1",
    )
    assert (event["data"]["input_tokens"], event["data"]["cost"]) == (100, "0.0001234")


def test_lago_takes_a_hundred_at_once() -> None:
    found = posts("lago", [record(n) for n in range(150)], Billing(customers={"acme": "sub_1"}))
    assert [len(json.loads(post.body)["events"]) for post in found] == [100, 50]
    first = json.loads(found[0].body)["events"][0]
    assert first["transaction_id"] == f"{0:032x}:1"
    assert (first["external_subscription_id"], first["code"]) == ("sub_1", "llm_usage")
    assert first["timestamp"] == "1793880000.000"
    assert len({post.key for post in found}) == 2


def test_stripe_takes_one_whole_number_at_once() -> None:
    found = posts("stripe", [record(1, id="x" * 200)], Billing(customers={"acme": "cus_1"}))
    fields = [{k: v[0] for k, v in parse_qs(post.body.decode()).items()} for post in found]
    assert {f["event_name"]: f["payload[value]"] for f in fields} == {
        "llm_usage_input_tokens": "100",
        "llm_usage_output_tokens": "50",
        "llm_usage_cost": "123400",
    }
    assert {f["payload[stripe_customer_id]"] for f in fields} == {"cus_1"}
    assert all(len(f["identifier"]) <= 100 for f in fields)
    assert len({f["identifier"] for f in fields}) == 3


@pytest.mark.parametrize("form", ["openmeter", "lago", "stripe"])
def test_a_refusal_is_nothing_to_bill(form: str) -> None:
    refused = record(1, outcome="rate_limited", gen_ai__usage=None, cost=None)
    assert posts(form, [refused], Billing()) == []
