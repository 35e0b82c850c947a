"""Laws that hold for every text: masking is final and idempotent, nothing hides, nothing raises, time is linear."""

from __future__ import annotations

import re
import re._constants as sre  # type: ignore[import-not-found]
import re._parser as sre_parse  # type: ignore[import-not-found]
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tenantgate.guard.config import PatternConfig, RuleConfig
from tenantgate.guard.core import binary, disguises, lexical, passages
from tenantgate.guard.core.detectors import as_it_reads
from tenantgate.guard.core.injection import InjectionModel, spans
from tenantgate.guard.core.passages import of_message
from tenantgate.guard.core.requests import RequestBody
from tenantgate.guard.inspector import Inspector
from tenantgate.guard.models import SharedParts
from tenantgate.guard.weights import injection_weights
from tenantgate.pii.core import (
    Placeholders,
    birth,
    documents,
    escapes,
    find_names,
    find_personal,
    find_secrets,
    identifiers,
    json_text,
    mask,
    named_secrets,
    names,
    normalise,
    numbers,
    online,
    personal,
    recover,
    secret_checks,
    secrets,
)
from tenantgate.pii.core import decoded_views as views
from tenantgate.pii.core import encoded_runs as runs
from tenantgate.pii.core.secret_rules import RULES as RULES_OF_SECRETS

SEEDS = [
    "jane@example.com",
    "4111 1111 1111 1111",
    "DE89370400440532013000",
    "+49 30 901820",
    "078-05-1120",
    "192.168.10.254",
    "AKIAIOSFODNN7EXAMPLE",
    "password: hunter22!",
    "sk-ant-api03-" + "aB3" * 20,
    "postgres://u:p4ssw0rd@db/x",
    "[EMAIL_ADDRESS_1]",
    "Bearer abcdefghijkl1234567890XYZ",
]
noise = st.text(
    alphabet=st.one_of(st.sampled_from(" .,:;@-_/+()[]{}\"'=\n\t0123456789abcABC"), st.characters()),
    max_size=60,
)
texts = st.lists(st.one_of(noise, st.sampled_from(SEEDS)), max_size=6).map("".join)
FIND = as_it_reads(lambda text: (*find_personal(text), *find_secrets(text)))
RULES = [
    RuleConfig(name="p", detector="personal_data", mode="mask"),
    RuleConfig(name="s", detector="secrets", mode="mask"),
    RuleConfig(
        name="x", detector="patterns", mode="mask", patterns=(PatternConfig(name="TICKET", regex=r"T-\d+"),)
    ),
]


INSPECTOR = Inspector(RULES, SharedParts())


def redact(text: str, placeholders: Placeholders | None = None) -> str:
    body = RequestBody({"messages": [{"role": "user", "content": text}]})
    made = INSPECTOR.mask(body, placeholders or Placeholders()).value["messages"][0]["content"]
    assert isinstance(made, str)
    return made


@given(texts)
@settings(max_examples=150, deadline=None)
@example("password: [EMAIL_ADDRESS_1]x9!")
@example("password: jane@example.com:9")
def test_masking_twice_changes_nothing(text: str) -> None:
    once = redact(text)
    assert redact(once) == once


@given(noise, st.sampled_from(SEEDS[:-2]), noise)
@settings(max_examples=150, deadline=None)
def test_no_matched_value_survives(before: str, secret: str, after: str) -> None:
    text = before + secret + after
    found = [text[f.start : f.end] for f in FIND(text) if f.score >= 0.5]
    masked = redact(text)
    for value in found:
        assert len(value) < 6 or value not in masked


@given(texts)
@settings(max_examples=100, deadline=None)
def test_recovering_gives_the_text_back(text: str) -> None:
    placeholders = Placeholders()
    placeholders.avoid(text)
    masked = mask(text, FIND(text), placeholders).text
    back = masked
    for _ in range(3):  # an original may itself hold a placeholder's look
        back, count = recover(back, placeholders.originals)
        if not count:
            break
    assert back == text


@given(noise, st.sampled_from(SEEDS[:-3]), noise)
@settings(max_examples=150, deadline=None)
def test_reading_a_text_hides_no_finding(before: str, secret: str, after: str) -> None:
    text = before + secret + after
    plain = [*find_personal(text), *find_secrets(text)]
    read = FIND(text)
    for finding in plain:
        assert any(r.start <= finding.start and finding.end <= r.end for r in read)


@pytest.mark.parametrize(
    "hidden",
    [
        "jane\u200b@exam\u00adple.com",
        "ｊａｎｅ＠ｅｘａｍｐｌｅ．ｃｏｍ",
        "４１１１ １１１１ １１１１ １１１１",
        "4111\u00a01111\u20111111\u20111111",
        "٤١١١١١١١١١١١١١١١",
        "sk-\u200bant-api03-" + "aB3" * 20,
        "раssword: hunter22!",  # Cyrillic er and a
        "𝗃𝖺𝗇𝖾@𝖾𝗑𝖺𝗆𝗉𝗅𝖾.𝖼𝗈𝗆",
    ],
)
def test_tricks_with_characters_hide_nothing(hidden: str) -> None:
    text = f"This is {hidden} indeed."
    masked = redact(text)
    assert masked != text
    # Whatever stood for the value is gone, tricks and all.
    assert masked.startswith("This is ")
    assert "example" not in normalise(masked).text
    assert "1111" not in normalise(masked).text
    assert "hunter22" not in masked


@given(st.text(alphabet=st.one_of(st.characters(), st.characters(categories=["Cs"])), max_size=400))
@settings(max_examples=150, deadline=None)
def test_no_text_makes_a_detector_raise(text: str) -> None:
    readable = of_message(text).text
    FIND(readable)
    MODEL.find(readable)
    view = normalise(readable)
    if view.text:
        start, end = view.span(0, len(view.text))
        assert 0 <= start < end <= len(readable)


MODEL = InjectionModel(injection_weights(), None)


def test_every_word_lies_in_a_segment() -> None:
    for words in (0, 1, 99, 100, 101, 1600, 5000, 123_457):
        covered = np.zeros(words, bool)
        for first, last in spans(words):
            covered[first:last] = True
        assert covered.all()


# -- linear time by construction ------------------------------------------------------------------------------


def _expressions(module: ModuleType) -> dict[str, re.Pattern[str]]:
    found = {}
    for name, value in vars(module).items():
        if isinstance(value, re.Pattern):
            found[f"{module.__name__}.{name}"] = value
    return found


EXPRESSIONS = {
    **{
        name: form
        for module in (
            personal,
            numbers,
            online,
            identifiers,
            birth,
            documents,
            secrets,
            named_secrets,
            secret_checks,
            lexical,
            names,
            escapes,
            runs,
            json_text,
            views,
            binary,
            passages,
            disguises,
        )
        for name, form in _expressions(module).items()
    },
    **{f"rule {i} {rule.kind}": rule.form for i, rule in enumerate(RULES_OF_SECRETS)},
    **{f"compact {i} {row.row.kind}": row.compact for i, row in enumerate(identifiers._ROWS)},
    **{f"written {i} {row.row.kind}": row.written for i, row in enumerate(identifiers._ROWS) if row.written},
    **{f"wallet {i}": form for i, (form, _) in enumerate(online._WALLETS)},
    **{f"address {i}": form for i, form in enumerate((*names._ADDRESS, *names._ADDRESS_LOWER))},
    **{f"person {i}": form for i, form in enumerate(names._PERSON_CUES)},
}
_MOST = 30_000  # characters that one repeat may run over
_REPEATS = {sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT}


def _repeats(parsed: Any, inside: tuple[tuple[Any, int], ...] = ()) -> list[tuple[tuple[Any, int], ...]]:
    """Every repeat, with the repeats around it: (kind, most)."""
    found = []
    for op, argument in parsed:
        if op in _REPEATS:
            _, most, body = argument
            chain = (*inside, (op, min(int(most), 1 << 31)))
            found.append(chain)
            found += _repeats(body, chain)
        elif op is sre.BRANCH:
            for branch in argument[1]:
                found += _repeats(branch, inside)
        elif op is sre.SUBPATTERN:
            found += _repeats(argument[3], inside)
        elif op in (sre.ASSERT, sre.ASSERT_NOT):
            found += _repeats(argument[1], inside)
        elif op is sre.ATOMIC_GROUP:
            found += _repeats(argument, inside)
    return found


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions_do_bounded_work_at_each_character(name: str) -> None:
    """A repeat is bounded, or possessive (it never gives back); backtracking ones are short and not nested."""
    for chain in _repeats(sre_parse.parse(EXPRESSIONS[name].pattern, EXPRESSIONS[name].flags)):
        op, most = chain[-1]
        assert most <= _MOST or op is sre.POSSESSIVE_REPEAT, chain
        if op is not sre.POSSESSIVE_REPEAT:
            assert most <= 400, chain
        backtracking = [m for o, m in chain if o is not sre.POSSESSIVE_REPEAT and m > 1]
        assert len(backtracking) <= 1 or np.prod(backtracking) <= 400, chain


@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "1 ",
        "a@",
        "@",
        ".",
        "a.",
        "-",
        "password ",
        "key=",
        "sk-",
        "eyJ",
        "://",
        ":",
        "AKIA",
        "[",
        "A",
        "ignore ",
        "x:",
        "0x",
        "\u0430",
        "\u200b",
        "()",
        "+1",
        "+",
        "mail (at) ",
        "-----BEGIN ",
        "<!--",
        "born ",
        "1.",
        "a1",
        "/",
        "=",
        "\n",
    ],
)
def test_doubling_a_text_does_not_more_than_double_the_findings(piece: str) -> None:
    short, long = (piece * n for n in (500, 1000))
    assert len(FIND(long)) <= 2 * len(FIND(short)) + 2
    assert len(find_names(long)) <= 2 * len(find_names(short)) + 2
