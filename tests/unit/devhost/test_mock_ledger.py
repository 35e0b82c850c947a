from __future__ import annotations

import json
from typing import Any

import pytest

from tenantgate.devhost import mock_ledger
from tenantgate.devhost.mock_ledger import SECRETS, Asked, Ledger


def asked(question: str = "q", **more: Any) -> Asked:
    made: dict[str, Any] = {
        "port": 1, "path": "/a", "query": "", "model": "m", "stream": False, "question": question, "headers": (),
        "billed": True,
    }  # fmt: skip
    return Asked(**{**made, **more})


def test_credentials_are_hashes() -> None:
    ledger = Ledger()
    ledger.note(
        asked(headers=[("Host", "h"), *((name.title(), "secret") for name in SECRETS), ("X", "y")]), 0
    )
    (record,) = ledger.summary()["records"]
    assert "secret" not in json.dumps(ledger.summary())
    assert record["credentials"].keys() == SECRETS
    assert (record["host"], record["headers"]) == ("h", {"Host": "h", "X": "y"})


def test_questions_that_were_billed_twice() -> None:
    ledger = Ledger()
    for question, billed in (("a", True), ("b", False), ("b", True), ("a", True), ("a", True), ("c", False)):
        ledger.note(asked(question, billed=billed), 0)
    sums = {"requests": 6, "billed": 2, "billed_twice": 1, "next_try_ms": []}
    assert ledger.billing().items() >= sums.items()
    ledger.forget()
    assert ledger.billing().items() >= {**sums, "requests": 0, "billed": 0, "billed_twice": 0}.items()


def test_from_a_refusal_to_the_next_try() -> None:
    ledger = Ledger()
    ledger.refused("a", 1.0)
    ledger.refused("b", 2.0)
    for question, now in (("b", 2.5), ("a", 2.0), ("a", 9.0), ("c", 9.0)):
        ledger.note(asked(question), now)
    assert ledger.billing()["next_try_ms"] == [500.0, 1000.0]


def test_its_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, most in (("_KEPT", 5), ("_KEPT_BYTES", 100), ("_QUESTIONS", 3)):
        monkeypatch.setattr(mock_ledger, name, most)
    ledger = Ledger()
    for n in range(20):
        ledger.note(asked(str(n)), 0)
        ledger.refused(str(n), 0)
    assert len(ledger.records) == 5
    assert ledger.billing()["billed"] == 3
    for n in range(20):
        ledger.note(asked(str(n), body=b"x" * 30), 0)
    assert sum(len(record["body"]) for record in ledger.records) <= 100
    ledger.note(asked(body=b"x" * 1000), 0)
    assert len(ledger.records) == 1
    assert ledger.summary()["total"] == 41
