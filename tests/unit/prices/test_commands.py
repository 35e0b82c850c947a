"""What models cost, and corrections of past usage, on the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tenantgate.cli import main
from tenantgate.prices.book import version

FILE = """
version: 1
gateway: {prices: {book: none, overrides: [
  {provider: openai, model: gpt, input: 1, output: 2, cache_read: 0.5, tiers: [{above: 1000, input: 3}]},
  {provider: openai, model: gpt, valid_from: 2026-06-01, input: 4, output: 8}]}}
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_A" }}']
    models:
      - {provider: openai, model: gpt, credential: "{vault://env/A}"}
      - {provider: mock, model: free}
      - {name: two, targets: [{provider: mock, model: x, input_cost: 1, output_cost: 1}, {provider: mock, model: y}]}
"""


def record(number: int, **more: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "id": f"r{number}",
        "time": "2026-11-01T10:00:00.000Z",
        "tenant": "acme",
        "outcome": "answered",
        "route": {"name": "llm.openai.gpt.acme"},
        "gen_ai": {"usage": {"input_tokens": 1000, "output_tokens": 100}},
        "cost": {"amount": 0.001, "exact": "0.001", "currency": "USD"},
        **more,
    }


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "tenants.yaml"
    path.write_text(FILE, encoding="utf-8")
    return str(path)


def test_what_models_cost_is_a_table(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cost", "prices", "-f", file]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[2:]]
    assert rows == [
        ["openai/gpt", "1", "2", "0.5", "-", "else", "tenants.yaml"],
        ["3", "-", "-", "-", "above", "1000", "tokens"],
        ["4", "8", "-", "-", "from", "2026-06-01"],
        [
            "mock/free",
            "-",
            "-",
            "-",
            "-",
            "not",
            "known:",
            "gateway.prices.overrides",
            "doesn't",
            "have",
            "it",
        ],
        ["mock/x", "1", "1", "-", "-", "tenants.yaml"],
        ["mock/y", "-", "-", "-", "-", "not", "known:", "gateway.prices.overrides", "doesn't", "have", "it"],
    ]
    assert main(["cost", "prices", "-f", file, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(f["model"], f.get("book"), "unknown" in f) for f in found] == [
        ("gpt", "tenants.yaml", False),
        ("free", None, True),
        ("x", "tenants.yaml", False),
        ("y", None, True),
    ]


def test_the_book_and_its_name_of_a_model_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "{provider: openai, model: gpt-4o-2024-08-06, credential: '{vault://env/A}'}"
    text = (
        f"version: 1\ntenants:\n  - {{id: a, api_keys: ['${{{{ env \"DECK_A\" }}}}'], models: [{model}]}}\n"
    )
    path = tmp_path / "tenants.yaml"
    path.write_text(text, encoding="utf-8")
    assert main(["cost", "prices", "-f", str(path)]) == 0
    assert f"{version()} (openai/gpt-4o)" in capsys.readouterr().out


def test_past_usage_is_corrected_once(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = [
        record(1),
        record(1),  # delivered twice
        record(2, cost={"exact": "0.0048"}),  # as it costs now
        record(
            3, tenant="globex", route={"name": "llm.openai.gpt.globex"}, cost=None
        ),  # no longer in the file
        record(4, response={"target": "mock/x#2"}, route={"name": "llm.tenantgate.two.acme"}),
        record(5, response={"target": "mock/y"}, route={"name": "llm.tenantgate.two.acme"}),
        record(6, outcome="cached"),
        {"id": "g", "tenant": "acme", "gap": {}},
    ]
    log, out = tmp_path / "log.jsonl.gz", tmp_path / "corrections.jsonl"
    with gzip.open(log, "wt", encoding="utf-8") as written:
        written.writelines(json.dumps(one) + "\n" for one in records)
    asked = ["cost", "rerate", "-f", file, "--records", str(log), "-o", str(out)]
    assert main(asked) == 0
    made = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [(m["request"], m["tenant"], m["cost"]["exact"]) for m in made] == [
        ("r1", "acme", "0.0038"),
        ("r3", "globex", "0.0048"),
        ("r4", "acme", "0.0001"),
    ]
    assert [(m["provider"], m["model"]) for m in made][2] == ("mock", "x")
    told = capsys.readouterr().err
    assert "acme: +0.0039 dollars" in told
    assert "5 records with usage, 3 corrections, 1 without a known price" in told
    assert main(asked) == 0
    assert len(out.read_text("utf-8").splitlines()) == 3
    # Another tenant's, and with the corrections among the records.
    assert (
        main(["cost", "rerate", "-f", file, "--records", str(log), "--records", str(out), "--tenant", "acme"])
        == 0
    )
    assert capsys.readouterr().out == ""
    Path(file).write_text(FILE.replace("input: 4", "input: 3"), encoding="utf-8")
    assert main(asked) == 0
    assert [json.loads(line)["cost"]["exact"] for line in out.read_text("utf-8").splitlines()[3:]] == [
        "-0.001",
        "-0.001",
        "-0.001",
    ]


def test_a_line_that_is_no_record_is_named(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(record(1)) + "\n[]\n", encoding="utf-8")
    assert main(["cost", "rerate", "-f", file, "--records", str(log)]) == 2
    assert "log.jsonl:2: isn't an audit record" in capsys.readouterr().err
