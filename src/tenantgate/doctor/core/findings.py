"""Findings: what one check says of one thing, in words that hold no secret."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

__all__ = ["Finding", "Severity", "exit_status", "json_text", "ok", "text"]


class Severity(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    UNKNOWN = "unknown"  # couldn't be looked at from here
    WARNING = "warning"  # requests are answered; something is at risk
    ERROR = "error"  # requests fail, or what was promised doesn't hold


_WORST: dict[Severity, int] = {s: n for n, s in enumerate(Severity)}
_MARK: dict[Severity, str] = {
    Severity.OK: "ok  ",
    Severity.UNKNOWN: "?   ",
    Severity.WARNING: "warn",
    Severity.ERROR: "FAIL",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check says.

    Attributes:
        check: of what: kong, plugin-servers, redis, policies, secrets, clock, certificates, audit, models, disk.
        severity: how bad it is.
        subject: the thing itself, such as a setting, a path or a field of tenants.yaml.
        what: what is so, and what it means.
        do: what to do; empty where nothing is to be done.
    """

    check: str
    severity: Severity
    subject: str
    what: str
    do: str = ""


def ok(check: str, subject: str, what: str) -> Finding:
    """A finding of a thing that is as it must be."""
    return Finding(check, Severity.OK, subject, what)


def exit_status(findings: Iterable[Finding], *, strict: bool = False) -> int:
    """1 if there is an error, or with `strict` a warning or something unknown; else 0."""
    least = Severity.UNKNOWN if strict else Severity.ERROR
    return int(any(_WORST[f.severity] >= _WORST[least] for f in findings))


def text(findings: Sequence[Finding], *, quiet: bool = False) -> str:
    """A line for each finding, with what to do below; a last line with the counts. `quiet`: without what is ok."""
    lines: list[str] = []
    for f in findings:
        if quiet and f.severity is Severity.OK:
            continue
        lines.append(f"{_MARK[f.severity]}  {f.check}: {_plain(f.subject)}: {_plain(f.what)}")
        if f.do:
            lines.append(f"      → {_plain(f.do)}")
    counts = {s: sum(f.severity is s for f in findings) for s in Severity}
    lines.append(
        f"{counts[Severity.ERROR]} errors, {counts[Severity.WARNING]} warnings, "
        f"{counts[Severity.UNKNOWN]} unknown, {counts[Severity.OK]} ok"
    )
    return "\n".join(lines) + "\n"


def json_text(findings: Sequence[Finding], *, strict: bool = False) -> str:
    """One object: ``status`` (ok or failed) and ``findings``."""
    status = "failed" if exit_status(findings, strict=strict) else "ok"
    return json.dumps({"status": status, "findings": [asdict(f) for f in findings]}, indent=2) + "\n"


def _plain(text: str) -> str:
    """What an answer of another program holds can't steer the terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
