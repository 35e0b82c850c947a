from __future__ import annotations

import json

import pytest

from tenantgate.doctor.core.findings import Finding, Severity, exit_status, json_text, ok, text

WARN = Finding("redis", Severity.WARNING, "gateway.redis", "no append-only file", "set appendonly yes")
BAD = Finding("policies", Severity.ERROR, "file", "none", "run `tenantgate apply`")
UNKNOWN = Finding("kong", Severity.UNKNOWN, "version", "not told", "give --admin-url")
GOOD = ok("models", "built-in", "/models")


@pytest.mark.parametrize(
    ("findings", "plain", "strict"),
    [([], 0, 0), ([GOOD], 0, 0), ([GOOD, WARN], 0, 1), ([UNKNOWN], 0, 1), ([GOOD, BAD], 1, 1)],
)
def test_the_exit_status_is_that_of_the_worst(findings: list[Finding], plain: int, strict: int) -> None:
    assert exit_status(findings) == plain
    assert exit_status(findings, strict=strict == 1) == max(plain, strict)
    assert exit_status(findings, strict=True) == strict


def test_each_line_says_what_to_do_and_quiet_leaves_out_what_is_well() -> None:
    shown = text([GOOD, WARN], quiet=True)
    assert "models" not in shown
    assert "→ set appendonly yes" in shown
    assert shown.endswith("0 errors, 1 warnings, 0 unknown, 1 ok\n")


def test_the_answer_of_a_stranger_can_t_steer_the_terminal() -> None:
    assert "\x1b" not in text([Finding("kong", Severity.ERROR, "x\x1b[2J", "y\r\nz", "\x07")])


def test_json_has_all_findings() -> None:
    told = json.loads(json_text([GOOD, BAD]))
    assert told["status"] == "failed"
    assert told["findings"][1] == {
        "check": "policies",
        "severity": "error",
        "subject": "file",
        "what": "none",
        "do": "run `tenantgate apply`",
    }
