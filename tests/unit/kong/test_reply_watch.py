"""When a plugin is told that ai-proxy logs no payloads."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate.kong.reply_watch import ReplyWatch
from tenantgate.llm.log_record import LogRecord


def record(*, status: int = 200, source: str = "upstream", **proxy: Any) -> LogRecord:
    return LogRecord({"response": {"status": status}, "source": source, "ai": {"proxy": proxy}})


BARE, FULL = record(usage={}), record(payload={"response": "{}"})


def found(*records: LogRecord) -> list[bool]:
    watch = ReplyWatch()
    return [watch.finds_none(r) for r in records]


def test_it_is_found_once() -> None:
    assert found(*[BARE] * 6) == [False, False, True, False, False, False]


@pytest.mark.parametrize("before", [0, 1, 2])
def test_one_reply_ends_the_search(before: int) -> None:
    assert not any(found(*[BARE] * before, FULL, *[BARE] * 6))


@pytest.mark.parametrize("other", [record(status=400), record(source="kong"), LogRecord({})], ids=repr)
def test_only_answers_of_the_provider_count(other: LogRecord) -> None:
    assert not any(found(*[other] * 6))
    assert found(BARE, other, BARE, other, BARE)[-1]
