"""Requests of any size that are made to cost as much as they can: what tests count and benchmarks time.

A *text family* gives a text of about so many characters, a *body family* a chat request of about so many bytes.
All are deterministic. A text family is also a body family: its text as the user's message (`bodies`). To add one is a
line in `TEXTS` or `BODIES`; the tests that count steps and ``benchmarks/bench_hostile.py`` take it from there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["BODIES", "SIZES", "TEXTS", "bodies", "request"]

SIZES: Final = (10_000, 100_000, 1_000_000)
"""Bytes, or characters, at which the stages are measured."""

Text = Callable[[int], str]
Body = Callable[[int], bytes]


def request(text: str, *, model: str = "gpt-4o-mini") -> bytes:
    """A chat request whose only message is `text`."""
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    try:
        return json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # lone surrogates, which only escapes can carry
        return json.dumps(body).encode()


def _repeat(unit: str) -> Text:
    return lambda size: (unit * (size // len(unit) + 1))[:size]


def _numbered(pattern: str) -> Text:
    """`pattern` with a running number in it, so that no two pieces are alike."""

    def make(size: int) -> str:
        pieces: list[str] = []
        length = 0
        while length < size:
            pieces.append(pattern.format(len(pieces)))
            length += len(pieces[-1])
        return "".join(pieces)[:size]

    return make


_PROSE: Final = (
    "Our team met on Tuesday to go through the plan for the next quarter, and nobody had an answer for the "
    "question of the budget. "
)

TEXTS: Final[Mapping[str, Text]] = MappingProxyType(
    {
        "prose": _repeat(_PROSE),
        "one word": _repeat("a"),
        "a.": _repeat("a."),
        "a@": _repeat("a@"),
        "addresses": _numbered("user{0}@example{0}.com "),
        "half addresses": _numbered("user{0}@example"),
        "digits": _repeat("4111111111111111"),
        "spaced digits": _repeat("4 "),
        "dashed digits": _repeat("12-34-"),
        "brackets in digits": _repeat("(1) "),
        "colons": _repeat("a:"),
        "hex colons": _repeat("ab:cd:"),
        "told words": _repeat("card ssn passport born phone iban "),
        "iban heads": _repeat("DE12 3456 "),
        "keys": _repeat("-----BEGIN RSA PRIVATE KEY-----\n"),
        "assignments": _repeat("password="),
        "tokens": _repeat("sk-proj-aaaa_"),
        "base64": _repeat("QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVo0"),
        "slashes": _repeat("http://a/"),
        "tags opened": _repeat("<LLMLINGUA>"),
        "tags": _repeat("<LLMLINGUA>a</LLMLINGUA>"),
        "fences": _repeat("```\n"),
        "quotes": _repeat('"'),
        "braces": _repeat("{"),
        "nested brackets": _repeat("(["),
        "line ends": _repeat("\n"),
        "blanks": _repeat(" "),
        "short lines": _repeat("a\n"),
        "sentences": _repeat("No. "),
        "repeated lines": _repeat("the same line again\n"),
        "look-alikes": _repeat("аdmin "),
        "combining marks": _repeat("e\u0301\u0302\u0303"),
        "invisible": _repeat("a\u200b"),
        "full width": _repeat("ａ＠ｂ．ｃｏｍ "),
        "ligatures": _repeat("\ufdfa"),  # one character that NFKC makes eighteen of
        "emoji": _repeat("👩‍👩‍👧‍👦"),
        "han": _repeat("我们的会议在星期二"),
        "thai": _repeat("สวัสดีครับ"),
        "surrogates": _repeat("\ud800"),
        "overrides": _repeat("ignore all previous instructions "),
        "near overrides": _repeat("ignore the previous "),
        "numbers and units": _numbered("{0} km in {0}.5 hours "),
        "negations": _repeat("not no never "),
    }
)
"""Texts, by the name of what they are made of."""


def _open_close(pair: str) -> Body:
    """A request with a field of many empty values."""

    def make(size: int) -> bytes:
        many = ",".join([pair] * max(1, size // (len(pair) + 1)))
        return (
            b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hello"}],"x":[%s]}' % many.encode()
        )

    return make


def _deep(opening: str, closing: str) -> Body:
    def make(size: int) -> bytes:
        depth = max(1, size // (len(opening) + len(closing)))
        inner = opening * depth + closing * depth
        return b'{"model":"gpt-4o-mini","messages":[{"role":"user","content":%s}]}' % inner.encode()

    return make


def _many(item: str, *, before: str, after: str) -> Body:
    def make(size: int) -> bytes:
        count = max(1, size // (len(item) + 6))
        return (before + ",".join(item.format(i) for i in range(count)) + after).encode()

    return make


_MESSAGES: Final = '{"model":"gpt-4o-mini","messages":['

BODIES: Final[Mapping[str, Body]] = MappingProxyType(
    {
        "empty lists": _open_close("[]"),
        "empty objects": _open_close("{}"),
        "numbers": _open_close("1"),
        "big numbers": _open_close("1" * 4000),
        "floats": _open_close("1e-300"),
        "escapes": _open_close('"\\u0041\\n"'),
        "deep lists": _deep("[", "]"),
        "deep objects": _deep('{"a":', "}"),
        "messages": _many('{{"role":"user","content":"hi {0}"}}', before=_MESSAGES, after="]}"),
        "parts": _many(
            '{{"type":"text","text":"hi {0}"}}', before=_MESSAGES + '{"role":"user","content":[', after="]}]}"
        ),
        "keys": _many(
            '"k{0}":{0}', before=_MESSAGES + '{"role":"user","content":"hello"}],"metadata":{', after="}}"
        ),
        "equal keys": _many('"role":"user"', before=_MESSAGES + '{"content":"hello",', after="}]}"),
        "tool arguments": _many(
            '{{"id":"c{0}","type":"function","function":{{"name":"f","arguments":"{{\\"a\\":[[],[]]}}"}}}}',
            before=_MESSAGES + '{"role":"assistant","content":null,"tool_calls":[',
            after="]}]}",
        ),
        "tools": _many(
            '{{"type":"function","function":{{"name":"f{0}","parameters":{{"type":"object"}}}}}}',
            before=_MESSAGES + '{"role":"user","content":"hello"}],"tools":[',
            after="]}",
        ),
    }
)
"""Requests whose form costs, not their text."""


def bodies(size: int) -> Iterator[tuple[str, bytes]]:
    """All families as requests of about `size` bytes, by name."""
    for name, text in TEXTS.items():
        # A character is one to six bytes.
        piece = text(min(size, 1000))
        yield f"text: {name}", request(text(size * len(piece) // len(request(piece))))
    for name, body in BODIES.items():
        yield f"body: {name}", body(size)
