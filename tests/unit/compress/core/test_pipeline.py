"""The pipeline: marks, ranges, deadlines, and its laws for any text and any pruner."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tenantgate.compress.config import CompressConfig, CompressionRange
from tenantgate.compress.core.checking import Problem
from tenantgate.compress.core.pipeline import Compressor, OutOfTimeError, joined
from tenantgate.compress.core.plan import parts, rate_for, replaced
from tenantgate.compress.core.tags import sections
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.llm.chat import ChatRequest

FOREVER = time.monotonic() + 1e6
TALK = "".join(
    f"{name}: well um you know we were sort of talking about {thing} and so on and that was that\n"
    for thing in "walls doors roofs lamps chairs tables stairs windows gardens fences paths".split()
    for name in ("Ann", "Bob")
)
ASKED = "\nWhat was said about the walls?"


class Words:
    """A token for each word and each sign."""

    name = "words"

    def count(self, text: str) -> int:
        return len(re.findall(r"\w+|[^\w\s]|[ \t]{2,}|\n", text))


class Every:
    """Keeps each n-th word and what is protected."""

    def __init__(self, n: int = 2) -> None:
        self.fingerprint = f"every-{n}"
        self.n = n
        self.rates: list[float] = []

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        self.rates.append(rate)
        words = [m.span() for i, m in enumerate(re.finditer(r"\S+", text)) if i % self.n == 0]
        out: list[tuple[int, int]] = []
        for start, end in sorted([*protected, *words]):
            if out and start <= out[-1][1]:
                out[-1] = (out[-1][0], max(end, out[-1][1]))
            else:
                out.append((start, end))
        return out


class Says:
    """Keeps what it was told."""

    fingerprint = "says"

    def __init__(self, spans: Sequence[tuple[int, int]] | None) -> None:
        self.spans = spans

    def keep(self, *_args: Any) -> Sequence[tuple[int, int]] | None:
        return self.spans


ALWAYS = (CompressionRange(min_tokens=0, max_tokens=1_000_000, value=0.5),)


def compressor(pruner: Any = None, **config: Any) -> Compressor:
    given = {"min_tokens": 0, "compression_ranges": ALWAYS, **config}
    return Compressor(CompressConfig(**given), Words(), pruner, english=lambda text: float(text.isascii()))


def test_prunes_to_the_range_s_rate_and_says_what_it_saved() -> None:
    pruner = Every()
    done = compressor(pruner).text(TALK + ASKED, FOREVER)
    assert pruner.rates == [0.5]
    assert done.text.endswith(ASKED)
    assert done.after < done.before
    assert done.steps.pruned > 0
    assert done.after == Words().count(done.text)
    assert done.before - done.after == done.steps.pruned + done.steps.folded


@pytest.mark.parametrize(
    ("kind", "tokens", "rate"),
    [("rate", 99, None), ("rate", 100, 0.8), ("rate", 999, 0.8), ("rate", 1000, 0.5), ("rate", 5000, None)],
)
def test_ranges_by_rate(kind: str, tokens: int, rate: float | None) -> None:
    ranges = (
        CompressionRange(min_tokens=100, max_tokens=1000, value=0.8),
        CompressionRange(min_tokens=1000, max_tokens=5000, value=0.5),
    )
    assert rate_for(tokens, CompressConfig(compressor_type=kind, compression_ranges=ranges)) == rate


def test_ranges_by_tokens() -> None:
    ranges = (CompressionRange(min_tokens=0, max_tokens=10_000, value=500),)
    config = CompressConfig(compressor_type="target_token", compression_ranges=ranges)
    assert rate_for(1000, config) == 0.5
    assert rate_for(400, config) is None


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"log_text_data": True}, "log_text_data"),
        ({"compression_ranges": [{"min_tokens": 5, "max_tokens": 5, "value": 0.5}]}, "max_tokens"),
        ({"compression_ranges": [{"min_tokens": 0, "max_tokens": 5, "value": 2}]}, "value"),
        ({"compressor_type": "target_token"}, "compression_ranges"),
        (
            {
                "compressor_type": "target_token",
                "compression_ranges": [{"min_tokens": 0, "max_tokens": 5, "value": 0.5}],
            },
            "value",
        ),
    ],
)
def test_settings_that_can_t_be_meant_are_named(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse(CompressConfig, values)


def test_short_texts_stay() -> None:
    text = "a  b\n\n\n\nc"
    assert compressor(Every(), min_tokens=100).text(text, FOREVER).text == text


def test_mostly_code_stays() -> None:
    text = "look   at this\n\n\n\n```\n" + "x  = 1\n" * 50 + "```"
    assert compressor(Every()).text(text, FOREVER).text == text


def test_only_what_is_tagged_is_compressed_and_the_tags_go() -> None:
    text = f"Summarise  this.\n<LLMLINGUA>{TALK}</LLMLINGUA>\nWhat was  said?"
    done = compressor(Every(), min_tokens=10_000).text(text, FOREVER)
    assert done.text.startswith("Summarise  this.\n")
    assert done.text.endswith("\nWhat was  said?")
    assert "LLMLINGUA" not in done.text
    assert done.steps.pruned > 0


def test_what_is_marked_to_stay_stays() -> None:
    text = f"{TALK}<llmlingua, compress=False>quite  well so</llmlingua>{TALK}{ASKED}"
    done = compressor(Every()).text(text, FOREVER)
    assert "quite  well so" in done.text
    assert "llmlingua" not in done.text
    assert done.steps.pruned > 0


@pytest.mark.parametrize(
    "text", ["<LLMLINGUA> open", "close </LLMLINGUA>", "<LLMLINGUA></LLMLINGUA>", "<LLMLINGUAX>a"]
)
def test_tags_that_don_t_pair_are_text(text: str) -> None:
    assert "".join(s.text for s in sections(text)) == text.replace("<LLMLINGUA></LLMLINGUA>", "")
    assert compressor(Every(1)).text(text, FOREVER).text in (text, "")


@pytest.mark.parametrize(
    "spans",
    [[(0, 5), (3, 9)], [(5, 9), (0, 2)], [(0, 10_000)], [(-4, 2)], [], [(0, 10)]],
    ids=["overlap", "order", "beyond", "negative", "nothing", "protected lost"],
)
def test_a_pruner_s_nonsense_is_refused(spans: Sequence[tuple[int, int]]) -> None:
    text = TALK + "Ann: and there were 25 of them , um , you know , and so on" + ASKED
    done = compressor(Says(spans), whitespace=False, repeats=False).text(text, FOREVER)
    assert done.text == text
    assert done.steps.refused in ((Problem.LOST,), (Problem.EMPTY,))


def test_a_pruner_that_gives_up_leaves_the_folded_text() -> None:
    line = "Here is the transcript of the meeting that we had about it."
    done = compressor(Says(None)).text(f"{line}\n\n\n\n{line}\n\n{TALK}{ASKED}", FOREVER)
    assert done.steps.folded > 0
    assert done.steps.pruned == 0


def test_out_of_time_is_said() -> None:
    with pytest.raises(OutOfTimeError):
        compressor(Every()).text(TALK, time.monotonic() - 1)
    looks = iter(range(1_000))
    ascii_only = lambda text: float(text.isascii())  # noqa: E731
    config = CompressConfig(min_tokens=0, compression_ranges=ALWAYS)
    Compressor(config, Words(), Every(), english=ascii_only, clock=lambda: next(looks) * 0.0).text(
        TALK + ASKED, 1.0
    )
    asked = next(looks)
    assert asked > 9
    for calls in range(asked):  # wherever it is noticed
        ticks = chain(repeat(0.0, calls), repeat(2.0))
        slow = Compressor(config, Words(), Every(), english=ascii_only, clock=lambda t=ticks: next(t))
        with pytest.raises(OutOfTimeError):
            slow.text(TALK + ASKED, 1.0)


@pytest.mark.parametrize(
    ("text", "kept", "out"),
    [
        ("one two three", [(0, 3), (8, 13)], "one three"),
        ("one\ntwo\nthree", [(0, 3), (8, 13)], "one\nthree"),
        ("one\n\ntwo\n\nthree", [(0, 3), (10, 15)], "one\n\nthree"),
        ("one-two", [(0, 3), (4, 7)], "one two"),
        ("one two, three", [(0, 3), (7, 14)], "one, three"),
        ("one two", [(4, 7)], "two"),
        ("one two\n", [(0, 3)], "one"),
        ("a b\n", [(0, 1), (2, 3)], "a b\n"),
        ("one two", [(0, 4), (4, 4), (4, 7)], "one two"),
        ("a", [(0, 2)], None),
    ],
)
def test_what_stays_is_joined(text: str, kept: list[tuple[int, int]], out: str | None) -> None:
    assert joined(text, kept) == out


# -- messages --------------------------------------------------------------------------------------------


def request(*messages: Any, **more: Any) -> ChatRequest:
    return ChatRequest({"messages": list(messages), **more}, messages)


def test_only_the_chosen_roles_texts_are_parts() -> None:
    made = request(
        {"role": "system", "content": "s"},
        {"role": "developer", "content": "d"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "u1"},
                {"type": "image_url", "image_url": {"url": "x"}},
                {"type": "text", "text": 5},
                "odd",
                {"type": "input_text", "text": "no"},
            ],
        },
        {"role": "assistant", "content": "a", "tool_calls": [{"id": "1", "function": {"arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "t"},
        {"role": "user", "content": None},
        {"role": 7, "content": "x"},
        {"role": "user", "content": "\ud800"},
        {"role": "user", "content": "u2"},
    )
    assert [p.text for p in parts(made, CompressConfig())] == ["u1", "u2"]
    everything = CompressConfig(message_type=("user", "system", "tool", "assistant"))
    assert [p.text for p in parts(made, everything)] == ["s", "d", "u1", "a", "t", "u2"]


def test_replaced_texts_are_at_their_places_and_the_rest_is_as_it_was() -> None:
    made = request(
        {"role": "user", "content": [{"type": "text", "text": "u1", "cache_control": 1}], "name": "n"},
        {"role": "user", "content": "u2"},
        temperature=0.1,
        tools=[{"x": None}],
    )
    before = json.dumps(made.body)
    body = replaced(made, [(p, p.text.upper()) for p in parts(made, CompressConfig())])
    assert body == json.loads(before.replace("u1", "U1").replace("u2", "U2"))
    assert json.dumps(made.body) == before


# -- laws ------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        "well um ",
        "you know ",
        "it was not there. ",
        "Maria Lopez said ",
        "25 kg of ",
        "\n\n",
        "\n\n\n\n",
        "  ",
        "on March 3rd ",
        "https://example.com/x ",
        '"as it is" ',
        "`a  b` ",
        "```\nx  = 1\n```\n",
        '{"a": [1,  2], "b": "c  d"} ',
        "A: yeah\n",
        "| a  | b |\n|---|---|\n",
        "three of them ",
        "What now? ",
        TALK,
        "=" * 20 + "\n",
        "日本語。",
        "👩‍👩‍👧 ",
        "\u202e",
        "\0",
        "\r\n",
        "<LLMLINGUA>",
        "</LLMLINGUA>",
        "<llmlingua, compress=False>",
        "e\u0301",
        "don't ",
    ]
)
TEXTS = st.lists(PIECES, max_size=30).map("".join) | st.text(max_size=300)


@given(TEXTS, st.integers(1, 5))
@settings(max_examples=300, deadline=None)
def test_never_longer_never_raises_and_no_word_goes_where_the_task_is_not_understood(
    text: str, n: int
) -> None:
    text += "\nNow sing it."
    done = compressor(Every(n)).text(text, FOREVER)
    assert Words().count(done.text) <= Words().count(text) == done.before
    assert done.after == Words().count(done.text)
    if text.strip():
        assert done.text.strip()
    if "llmlingua" in text.lower():
        return
    assert _words(done.text) == _words(text)


def _words(text: str) -> list[str]:
    """Tags left out."""
    return re.findall(r"[^\W_]+", re.sub(r"</?llmlingua[^>]*>", "", text, flags=re.IGNORECASE))


@given(TEXTS)
@settings(max_examples=300, deadline=None)
def test_the_lossless_step_is_idempotent(text: str) -> None:
    made = compressor()
    once = made.text(text, FOREVER).text
    if "llmlingua" not in text.lower():
        assert made.text(once, FOREVER).text == once


@given(st.text(alphabet=st.characters(codec=None), max_size=100))
def test_any_unicode_even_lone_surrogates(text: str) -> None:
    assert isinstance(compressor(Every()).text(text, FOREVER).text, str)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda i: st.lists(i) | st.dictionaries(st.text(), i),
)


@given(JSON, st.sampled_from([None, 2]))
@settings(deadline=None)
def test_json_stays_the_same_json(value: Any, indent: Any) -> None:
    done = compressor(Every(3)).text(json.dumps(value, indent=indent), FOREVER)
    if isinstance(value, dict | list):
        assert json.loads(done.text) == value
