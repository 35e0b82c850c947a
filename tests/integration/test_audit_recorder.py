"""Redaction in the worker: no personal data and no secret gets into the spool."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from audit_rig import Rig, journal_line, only, text_of
from tenantgate.audit.recorder import interrupt
from tenantgate.pii.core import Finding

SECRET = "sk-proj-" + "aB3dE5gH7jK9mN1pQ2sT" * 2


CANARIES = ("jane.roe@example.org", "4111 1111 1111 1111", SECRET)


@pytest.mark.parametrize("redaction", ["placeholder", "hash", "remove"])
def test_no_personal_data_and_no_secret_gets_into_the_spool(rig: Rig, redaction: str) -> None:
    rig.policy(redaction=redaction, headers=["x-user"])
    prompt = f"I am {CANARIES[0]}, my card is {CANARIES[1]}, the key {CANARIES[2]}"
    rig.content(1, prompt, f"Hello {CANARIES[0]}", **{"x-user": CANARIES[0]})
    rig.write(journal_line(1))
    rig.step()
    (entry,) = rig.spool.entries
    assert not [c for c in CANARIES if c.encode() in entry.record]
    record = only(rig)
    assert record["content"]["state"] == "kept"
    assert record["content"]["redactions"].pop("EMAIL_ADDRESS") == 3
    assert sorted(record["content"]["redactions"].values()) == [1, 1]


def test_escapes_in_the_body_hide_nothing(rig: Rig) -> None:
    rig.policy()
    hidden = "".join(f"\\u{ord(c):04x}" for c in CANARIES[0])
    rig.content(1, b'{"messages":[{"role":"user","content":"' + hidden.encode() + b'"}]}')
    rig.write(journal_line(1))
    rig.step()
    assert text_of(only(rig)) == "[EMAIL_ADDRESS_1]"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"jane.roe@example.org",
        b"\x1f\x8b\x08jane.roe@example.org",
        b'{"messages": 3, "x": "jane.roe@example.org"}',
        b'["jane.roe@example.org"]',
        b'{"messages":[{"content":"\xff jane.roe@example.org"}]}',
    ],
)
def test_a_body_that_is_no_chat_is_not_kept_at_all(rig: Rig, raw: bytes) -> None:
    rig.policy()
    rig.content(1, raw)
    rig.write(journal_line(1, response__status=400, source="kong"))
    rig.step()
    record = only(rig)
    assert record["content"]["state"] == "unreadable"
    assert b"jane" not in rig.spool.entries[0].record


def test_equal_values_have_equal_hashes_within_a_tenant_only(rig: Rig) -> None:
    rig.policy(redaction="hash")
    for n, tenant in ((1, "acme"), (2, "acme"), (3, "bravo")):
        rig.content(n, f"{n}: mail {CANARIES[0]}")
        rig.write(journal_line(n, tenant=tenant))
    rig.step()
    one, two, other = (text_of(r).split(" ", 2)[2] for r in rig.records())
    assert one == two != other


def test_hashed_content_holds_no_text(rig: Rig) -> None:
    rig.policy(content="hashed")
    rig.content(1, "What is a sextant?", "An instrument.")
    rig.content(2, "What is a sextant?", "A thing.")
    rig.write(journal_line(1), journal_line(2))
    rig.step()
    one, two = (r["content"] for r in rig.records())
    assert one["state"] == "hashed"
    assert one["input_messages"] == two["input_messages"]
    assert one["output_messages"] != two["output_messages"]
    assert b"sextant" not in rig.spool.entries[0].record


class _Names:
    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
        if self._error:
            raise self._error
        at = text.find("Zenobia")
        return (Finding(at, at + 7, "PERSON", 0.9),) if at >= 0 else ()


@pytest.mark.parametrize(
    ("names", "state", "reason"),
    [
        (_Names(), "kept", None),
        (None, "redaction_failed", "names_unavailable"),
        (_Names(ValueError("about Zenobia")), "redaction_failed", "error"),
    ],
)
def test_names_are_redacted_or_nothing_is_kept(
    tmp_path: Path, names: _Names | None, state: str, reason: str | None
) -> None:
    rig = Rig(tmp_path, names=names)
    rig.policy(names=True)
    rig.content(1, "I am Zenobia")
    rig.write(journal_line(1))
    rig.step()
    content = only(rig)["content"]
    assert (content["state"], content.get("reason")) == (state, reason)
    assert b"Zenobia" not in rig.spool.entries[0].record
    rig.close()


def test_a_detector_that_never_ends_is_stopped(rig: Rig) -> None:
    class Endless:
        def find(self, text: str, kinds: frozenset[str]) -> tuple[Finding, ...]:
            while True:
                pass

    rig.names = Endless()
    rig.policy(names=True, redaction_timeout_ms=50)
    rig.content(1, "I am Zenobia")
    rig.write(journal_line(1))
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        rig.step()
    finally:
        signal.signal(signal.SIGALRM, before)
    assert only(rig)["content"] == {"state": "redaction_failed", "reason": "timeout"}


def test_a_prompt_beyond_the_bound_is_cut_where_nothing_is_cut_in_two(rig: Rig) -> None:
    rig.policy(max_content_bytes=1000)
    rig.content(1, "x" * 990 + " " + CANARIES[0] + " y" * 5000)
    rig.write(journal_line(1))
    rig.step()
    record = only(rig)
    assert record["content"]["prompt_truncated"] is True
    assert len(text_of(record)) <= 1000
    assert "jane" not in text_of(record)
