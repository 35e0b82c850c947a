"""What a miss leaves for its log phase: a value that comes back as it was, or not at all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.cache.core.cache_control import CacheControl
from tenantgate.cache.core.evidence import BINS
from tenantgate.cache.core.fitness import Unfit
from tenantgate.cache.core.outcome import Miss
from tenantgate.cache.core.partition import Keys, Partition
from tenantgate.cache.core.pending import Doubt, Pending, pending_of, read, written
from tenantgate.cache.core.question import Question
from tenantgate.cache.core.similar import Place
from tenantgate.kong.host import kept_text, kept_value
from tenantgate.llm.chat import ChatRequest
from tenantgate.tenant import TenantId

KEYS = Keys(TenantId("acme"))
NAME, OTHER = "0" * 32, "f" * 32
PARTITION = Partition(KEYS.tenant, "ab" * 16, b"")
BUCKET = KEYS.bucket("cd" * 16)
WHOLE = Pending(
    KEYS,
    NAME,
    "q",
    stream=True,
    bucket=BUCKET,
    damaged=(OTHER,),
    comparison=Doubt(OTHER, 3, probe=True),
    lease="12" * 16,
)


def carried(value: dict[str, Any]) -> Any:
    """As it comes back from Kong's memory."""
    return kept_value(kept_text(value))


NAMES = st.text("0123456789abcdef", min_size=32, max_size=32)
# Whatever a consumer's custom_id is, and whatever JSON may spell: surrogates, too.
TEXTS = st.text(st.characters(exclude_categories=()))


@st.composite
def misses(draw: st.DrawFn) -> Pending:
    keys = Keys(TenantId(draw(TEXTS.filter(bool))))
    text, bucket = None, None
    if draw(st.booleans()):
        text, bucket = draw(TEXTS), keys.bucket(draw(NAMES))
    doubts = st.builds(Doubt, NAMES, st.none() | st.integers(0, BINS - 1), probe=st.booleans())
    return Pending(
        keys,
        draw(NAMES),
        text,
        draw(st.booleans()),
        bucket,
        tuple(draw(st.lists(NAMES, max_size=3))),
        draw(st.none() | doubts),
        draw(st.none() | NAMES),
    )


@given(misses())
def test_what_is_carried_through_kong_is_what_was_left(pending: Pending) -> None:
    assert read(carried(written(pending))) == pending


@pytest.mark.parametrize(
    "change",
    [
        {"version": 0},
        {"version": 1},
        {"version": "2"},
        {"version": None},
        {"tenant": ""},
        {"tenant": None},
        {"tenant": b"acme"},
        {"name": NAME[1:]},
        {"name": NAME.upper().replace("0", "A")},
        {"name": NAME[1:] + "\n"},
        {"name": None},
        {"question": None},
        {"question": b"q"},
        {"stream": 1},
        {"stream": None},
        {"bucket": None},
        {"bucket": BUCKET},
        {"bucket": ""},
        {"bucket": "*"},
        {"bucket": b"cd" * 16},
        {"damaged": None},
        {"damaged": OTHER},
        {"damaged": ["*"]},
        {"damaged": [OTHER, 7]},
        {"comparison": []},
        {"comparison": [OTHER, 3]},
        {"comparison": [OTHER, 3, 1]},
        {"comparison": [OTHER, -1, True]},
        {"comparison": [OTHER, BINS, True]},
        {"comparison": [OTHER, 3.0, True]},
        {"comparison": ["..", 3, True]},
        {"comparison": {"name": OTHER}},
        {"lease": ""},
        {"lease": "*"},
        {"lease": 7},
    ],
    ids=repr,
)
def test_what_was_not_written_so_is_not_read(change: dict[str, Any]) -> None:
    assert read(carried({**written(WHOLE), **change})) is None


@pytest.mark.parametrize("member", written(WHOLE))
def test_no_member_may_be_missing(member: str) -> None:
    value = written(WHOLE)
    del value[member]
    assert read(carried(value)) is None


@pytest.mark.parametrize("value", [None, {}, {"status": "miss", "token": NAME}])
def test_nothing_is_read_from_nothing(value: dict[str, Any] | None) -> None:
    assert read(value) is None


def test_all_keys_are_the_tenants_that_it_names() -> None:
    found = read({**written(WHOLE), "tenant": "globex"})
    assert found is not None
    assert found.bucket == Keys(TenantId("globex")).bucket("cd" * 16)


def test_it_is_hardly_larger_than_its_question() -> None:
    assert len(kept_text(written(replace(WHOLE, question="q" * 400)))) <= 850


@pytest.mark.parametrize(
    ("place", "text", "bucket"), [(Place(BUCKET), "q", BUCKET), (Place(unfit=Unfit.TOO_LONG), None, None)]
)
def test_a_miss_leaves_what_its_answer_needs(place: Place, text: str | None, bucket: str | None) -> None:
    request = ChatRequest({"stream": True}, ({"role": "user", "content": "q"},))
    question = Question(PARTITION, KEYS, NAME, request, CacheControl())
    doubt = Doubt(OTHER, 3, probe=True)
    pending = pending_of(question, Miss(place=place, comparison=doubt), (OTHER,), "12" * 16)
    assert pending == Pending(
        KEYS, NAME, text, stream=True, bucket=bucket, damaged=(OTHER,), comparison=doubt, lease="12" * 16
    )
