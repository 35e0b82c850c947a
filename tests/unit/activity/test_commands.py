from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tenantgate import cli
from usage_rig import record


@pytest.fixture
def records(tmp_path: Path) -> Path:
    path = tmp_path / "records.jsonl"
    now = datetime.now(UTC)
    ages = [("acme", 1), ("acme", 2), ("globex", 3), ("acme", 4000)]
    lines = [
        json.dumps(record(n, tenant=t, time=(now - timedelta(seconds=age)).isoformat()))
        for n, (t, age) in enumerate(ages)
    ]
    path.write_text("\n".join([*lines, "no json", '{"id": 1}', "[]"]) + "\n")
    return path


def test_top_counts_the_span_alone(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--once", "--records", str(records), "--span", "600"]) == 0
    rows = {line.split()[0]: line.split()[1] for line in capsys.readouterr().out.splitlines() if line}
    assert (rows["acme"], rows["globex"], rows["all"]) == ("2", "1", "3")


def test_top_without_a_terminal_asks_for_once(records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["top", "--records", str(records)]) == 2
    assert "--once" in capsys.readouterr().err


def test_a_report_is_of_its_span_and_tenant(records: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert cli.main(["report", "--records", str(records), "-o", str(out), "--tenant", "acme"]) == 0
    text = out.read_text()
    assert "globex" not in text
    assert "<b>3</b>requests" in text


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--since", "2026-02-01", "--until", "2026-01-01"], "--since"),
        (["--since", "soon"], "--since"),
        (["-o", "/nowhere/at/all.html"], "--out"),
    ],
)
def test_bad_arguments_are_named(
    records: Path, tmp_path: Path, more: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", "--records", str(records), "-o", str(tmp_path / "x.html"), *more]) == 2
    assert said in capsys.readouterr().err
