"""``tenantgate compress``."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from tenantgate.cli import main
from tenantgate.compress.commands import coloured_diff

FACTS = json.dumps({"rooms": list(range(40)), "owner": {"name": "n", "age": 44}}, indent=4)
PROMPT = f"These are the facts about the house.\n\n{FACTS}\n\nWho is the owner?"


def run(*argv: str) -> int:
    return main(["compress", "--no-prune", *argv])


def test_shows_what_goes_and_the_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "prompt.txt"
    file.write_text(PROMPT)
    assert run(str(file), "--color", "never") == 0
    shown = capsys.readouterr()
    assert "[-" in shown.out
    assert "tokens" in shown.err
    assert "fewer, o200k_base" in shown.err


def test_the_plain_result_of_a_chat_request_from_stdin(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = json.dumps({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": PROMPT}]})

    class Stdin:
        buffer = io.BytesIO(raw.encode())

    monkeypatch.setattr("sys.stdin", Stdin())
    assert run("-", "--plain") == 0
    facts = json.dumps(json.loads(FACTS), separators=(",", ":"))
    assert capsys.readouterr().out == PROMPT.replace(FACTS, facts) + "\n"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"], ids=["missing", "not UTF-8"])
def test_a_file_that_can_t_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Any
) -> None:
    file = tmp_path / "p.txt"
    if content:
        file.write_bytes(content)
    assert run(str(file)) == 2
    assert "p.txt" in capsys.readouterr().err


def test_an_unknown_vocabulary_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(str(tmp_path), "--encoding", "nope") == 2
    assert "encoding" in capsys.readouterr().err


@pytest.mark.parametrize("share", ["0", "1.5", "x", "nan"])
def test_a_rate_is_a_share(share: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run("x", "--rate", share)


@pytest.mark.parametrize(
    ("before", "after", "out"),
    [("a b c", "a c", "a [-b -]c"), ("a b", "a b", "a b"), ("a b", "a d", "a [-b-]{+d+}")],
)
def test_the_difference_by_words(before: str, after: str, out: str) -> None:
    assert coloured_diff(before, after, colours=False) == out


def test_colours() -> None:
    assert coloured_diff("a b c", "a c") == "a \033[31;9mb \033[0mc"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["llmlingua"], "pruner_model: required"),
        (["llmlingua", "--pruner-model", "/no/such"], "pruner_model: there is no directory"),
        (["other"], "pruner"),
    ],
)
def test_a_pruner_that_can_t_be_had_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], said: str
) -> None:
    (tmp_path / "p.txt").write_text(PROMPT)
    assert main(["compress", str(tmp_path / "p.txt"), "--pruner", *more]) == 2
    assert said in capsys.readouterr().err
