"""Requests made from a seed."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tenantgate.bench import workload
from tenantgate.bench.workload import KINDS, MIX, Ask
from tenantgate.devhost.mock_shapes import Reply

GAP = 40
ASKS = workload.make(2000, seed=3, tenants=3, gap=GAP)
BY_KIND = {kind: [a for a in ASKS if a.kind == kind] for kind in KINDS}


def earlier(ask: Ask) -> list[Ask]:
    return [a for a in ASKS[: ask.number] if a.group == ask.group]


def test_the_same_seed_gives_the_same_requests_and_another_others() -> None:
    assert workload.make(50, seed=3) == workload.make(50, seed=3) != workload.make(50, seed=4)


def test_the_mix_has_a_hundred_parts_and_every_kind_comes() -> None:
    assert sum(MIX.values()) == 100
    assert set(Counter(a.kind for a in ASKS)) == set(KINDS)


def test_numbers_are_places() -> None:
    assert [a.number for a in ASKS] == list(range(2000))


def test_a_repeat_has_the_very_words_of_an_earlier_request_of_its_tenant() -> None:
    for ask in BY_KIND["repeat"]:
        assert any(a.question == ask.question and a.tenant == ask.tenant for a in earlier(ask))


def test_a_paraphrase_means_the_same_in_other_words() -> None:
    for ask in BY_KIND["paraphrase"]:
        assert earlier(ask)
        assert all(a.question != ask.question for a in earlier(ask) if a.kind != "paraphrase")


@pytest.mark.parametrize("kind", ["repeat", "paraphrase"])
def test_what_is_asked_again_was_asked_long_enough_ago_to_be_stored(kind: str) -> None:
    for ask in BY_KIND[kind]:
        assert min(a.number for a in earlier(ask)) <= ask.number - GAP


@pytest.mark.parametrize("kind", [k for k in KINDS if k not in ("repeat", "paraphrase")])
def test_all_other_kinds_ask_what_nobody_has_asked(kind: str) -> None:
    for ask in BY_KIND[kind]:
        assert not earlier(ask)


def test_near_misses_come_in_pairs_that_differ_in_few_words() -> None:
    words = [Counter(a.question.rstrip("?.").split()) for a in BY_KIND["near"]]
    twins = [any(0 < max((w - o).total(), (o - w).total()) <= 2 for o in words if o is not w) for w in words]
    assert sum(twins) > len(twins) / 2


def test_a_follow_up_belongs_to_its_conversation() -> None:
    said = [a for a in BY_KIND["conversation"] if a.question == "And in winter?"]
    assert len({a.group for a in said}) == len(said) > 1


def test_tenants_never_share_a_group() -> None:
    owners: dict[str, set[int]] = {}
    for ask in ASKS:
        owners.setdefault(ask.group, set()).add(ask.tenant)
    assert all(len(tenants) == 1 for tenants in owners.values())


def test_some_questions_were_asked_by_another_tenant_in_the_same_words() -> None:
    fresh = BY_KIND["fresh"]
    said = [any(a.question == ask.question for a in ASKS[: ask.number]) for ask in fresh]
    assert 0.02 < sum(said) / len(said) < 0.25


def test_a_hundred_tokens_are_about_a_hundred_tokens() -> None:
    words = sorted(len(a.question.split()) for a in BY_KIND["hundred"])
    assert 45 < words[len(words) // 2] < 90


def test_personal_data_stand_where_the_mock_provider_quotes_them() -> None:
    for ask in BY_KIND["personal"]:
        assert ask.secret in Reply(ask.question, "m").text


def test_the_digest_is_the_mock_providers() -> None:
    assert ASKS[0].digest == Reply(ASKS[0].question, "m").digest


def test_bodies_are_chat_requests() -> None:
    stream = BY_KIND["stream"][0]
    assert json.loads(stream.body(model="m")) == {
        "messages": [{"role": "user", "content": stream.question}],
        "stream": True,
        "model": "m",
    }
    assert "stream" not in json.loads(BY_KIND["fresh"][0].body())


@pytest.mark.parametrize("kind", KINDS)
def test_one_kind_alone_comes_last_after_what_it_needs(kind: str) -> None:
    asks = list(workload.of_kind(kind, 5, seed=1))
    assert {a.kind for a in asks[-5:]} == {kind}
    assert {a.kind for a in asks[:-5]} <= {"fresh"}


def test_what_was_asked_before_is_not_asked_as_new() -> None:
    before = workload.make(2000, seed=7)
    texts = {text for ask in before for _, text in ask.messages}
    new = [a for a in workload.make(2000, seed=8, after=before) if a.kind in {"fresh", "stream", "attack"}]
    assert new
    assert not texts & {a.messages[0][1] for a in new}
    assert texts & {a.messages[0][1] for a in workload.make(2000, seed=8)}
