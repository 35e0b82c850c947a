from __future__ import annotations

import json
from typing import Any

import pytest

from audit_rig import journal_line
from tenantgate.audit.core.journal import parse_line
from tenantgate.audit.core.usage import usage_of, usage_schema


def used(note: Any) -> dict[str, Any]:
    record = json.loads(journal_line(1))
    if note is not None:
        record.setdefault("tenantgate", {})["usage"] = note
    line = parse_line(json.dumps(record).encode())
    assert line is not None
    return usage_of(line)


def note(**counts: Any) -> dict[str, Any]:
    return {"format": "openai", "stream": True, "complete": True, "counts": counts}


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (note(prompt_tokens=9, completion_tokens=3), {"input_tokens": 9, "output_tokens": 3}),
        (
            note(
                prompt_tokens=9,
                completion_tokens=3,
                prompt_tokens_details={"cached_tokens": 4, "audio_tokens": 2},
                completion_tokens_details={"reasoning_tokens": 1, "audio_tokens": 0},
            ),
            {
                "input_tokens": 9,
                "output_tokens": 3,
                "cache_read": {"input_tokens": 4},
                "reasoning": {"output_tokens": 1},
                "audio": {"input_tokens": 2},
            },
        ),
        (
            {**note(prompt_tokens=9, completion_tokens=3), "complete": False},
            {"input_tokens": 9, "output_tokens": 3, "lower_bound": True},
        ),
    ],
)
def test_the_usage_in_a_record(given: Any, told: dict[str, Any]) -> None:
    assert used(given) == told


def test_without_a_provider_s_count_it_is_kongs() -> None:
    plain, guess = used(None), used({"format": "openai", "stream": True, "complete": True})
    assert guess == {**plain, "estimated": True}
    assert plain.keys() == {"input_tokens", "output_tokens"}


def test_the_schema_knows_all_that_a_record_may_have() -> None:
    known = usage_schema()["properties"]
    everything = note(
        prompt_tokens=9,
        completion_tokens=9,
        prompt_tokens_details={"cached_tokens": 1, "cache_write_tokens": 1, "audio_tokens": 1},
        completion_tokens_details={"reasoning_tokens": 1, "audio_tokens": 1},
    )
    assert used({**everything, "complete": False}).keys() <= known.keys()
