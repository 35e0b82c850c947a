from __future__ import annotations

import gzip
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from failover_lua import Module

REPLY = Module("reply")
HEAD = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"


def read(pieces: list[str]) -> tuple[int, dict[str, Any], str, bool]:
    """Status, headers and body of a reply that arrives in pieces, and whether its body is whole."""
    head_of, decode = REPLY.raw("head"), REPLY.raw("decode")
    text, head, rest = "", None, ""
    pieces = [*pieces]
    while head is None:
        assert pieces, "no whole head"
        text += pieces.pop(0)
        found = head_of(text)
        if isinstance(found, tuple):
            head, rest = found
            assert head is not None, rest
    framing = REPLY.raw("framing")(head)
    assert not isinstance(framing, tuple), framing
    body, whole = "", False
    for piece in [rest, *pieces]:
        found = decode(framing, piece)
        assert found[2:] in {(), (None,)}, found
        body += found[0]
        whole = whole or found[1]
        if whole:
            break
    return head["status"], REPLY.plain(head["headers"]), body, whole


def chunked(*chunks: str, trailer: str = "") -> str:
    return "".join(f"{len(c):x}\r\n{c}\r\n" for c in chunks) + f"0\r\n{trailer}\r\n"


def cut(text: str, places: list[int]) -> list[str]:
    at = sorted({0, len(text), *(p % (len(text) + 1) for p in places)})
    return [text[a:b] for a, b in itertools.pairwise(at)]


PLACES = st.lists(st.integers(0, 500), max_size=12)


@given(st.lists(st.text("ab\r\n0;", min_size=1, max_size=20), max_size=5), PLACES)
def test_chunks_in_any_pieces(chunks: list[str], places: list[int]) -> None:
    text = HEAD + "Transfer-Encoding: chunked\r\n\r\n" + chunked(*chunks)
    assert read(cut(text, places)) == (
        200,
        {"content-type": "text/plain", "transfer-encoding": "chunked"},
        "".join(chunks),
        True,
    )


@given(st.text("ab\r\n", max_size=60), PLACES)
def test_a_length_in_any_pieces(body: str, places: list[int]) -> None:
    text = HEAD + f"Content-Length: {len(body)}\r\n\r\n" + body
    assert read(cut(text, places))[2:] == (body, True)


@given(st.binary(min_size=1, max_size=80), st.integers(1, 79), st.booleans())
def test_a_body_that_is_cut_off_isnt_whole(data: bytes, less: int, in_chunks: bool) -> None:
    raw = data.decode("latin-1")
    body = chunked(raw) if in_chunks else raw
    coding = "Transfer-Encoding: chunked" if in_chunks else f"Content-Length: {len(body)}"
    text = HEAD + coding + "\r\n\r\n" + body[: max(0, len(body) - less)]
    assert read([text])[3] is False


def test_extensions_and_trailers_of_chunks() -> None:
    body = "3;name=value\r\nabc\r\n0\r\nExpires: now\r\n\r\n"
    assert read([HEAD + "Transfer-Encoding: chunked\r\n\r\n" + body])[2:] == ("abc", True)


def test_packed_bodies_pass_as_they_are() -> None:
    packed = gzip.compress(b"hello").decode("latin-1")
    text = HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n{packed}"
    assert read([text])[2] == packed


def test_headers_of_one_name_are_a_list() -> None:
    text = "HTTP/1.1 429 Too Many Requests\r\nset-cookie: a\r\nSet-Cookie: b\r\nX:  c \r\nContent-Length: 0\r\n\r\n"
    status, headers, _, whole = read([text])
    assert (status, headers["set-cookie"], headers["x"], whole) == (429, ["a", "b"], "c", True)


@pytest.mark.parametrize(
    "text",
    [
        "HTTP/2 200\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "nonsense\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 999 OK\r\n\r\n",
        HEAD + "no colon\r\n\r\n",
        HEAD + " folded\r\n\r\n",
        HEAD + "Name : x\r\n\r\n",
        HEAD + "X: a\nY: b\r\n\r\n",
        HEAD + "X: a\x00b\r\n\r\n",
        HEAD + "X: " + "y" * 70_000 + "\r\n\r\n",
        HEAD + "X: " + "y" * 70_000,
    ],
)
def test_heads_that_are_none(text: str) -> None:
    head, problem = REPLY.head(text)
    assert head is None
    assert problem


@pytest.mark.parametrize(
    "headers",
    [
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 9999999999999999\r\n",
    ],
)
def test_bodies_whose_end_two_readers_may_see_in_two_places(headers: str) -> None:
    head, _ = REPLY.raw("head")(HEAD + headers + "\r\n")
    framing, problem = REPLY.plain(REPLY.raw("framing")(head))
    assert framing is None
    assert problem


@pytest.mark.parametrize("body", ["x\r\n", "-1\r\n", "3\r\nabcd\r\n", "\r\n", "fffffffff\r\n", "1" * 2000])
def test_chunks_that_are_none(body: str) -> None:
    head, _ = REPLY.raw("head")(HEAD + "Transfer-Encoding: chunked\r\n\r\n")
    piece, done, problem = REPLY.plain(REPLY.raw("decode")(REPLY.raw("framing")(head), body))
    assert (piece, done) == (None, False)
    assert problem


LENGTH = "Content-Length: 1\r\n"


@pytest.mark.parametrize(
    ("text", "kept_ms"),
    [
        (HEAD + LENGTH + "\r\nx", 30_000),
        (HEAD + LENGTH + "\r\nxy", None),
        (HEAD + "Connection: Close\r\n" + LENGTH + "\r\nx", None),
        (HEAD.replace("1.1", "1.0") + LENGTH + "\r\nx", None),
        (HEAD + "\r\nx", None),
        (HEAD + "Transfer-Encoding: chunked\r\n\r\n" + chunked("x"), 30_000),
        (HEAD + "Transfer-Encoding: chunked\r\n\r\n" + chunked("x") + "HTTP/1.1", None),
        (HEAD + "Keep-Alive: timeout=5, max=100\r\n" + LENGTH + "\r\nx", 4_000),
        (HEAD + "Keep-Alive: max=100, timeout = 75\r\n" + LENGTH + "\r\nx", 30_000),
        (HEAD + "Keep-Alive: timeout=1\r\n" + LENGTH + "\r\nx", None),
        (HEAD + "Keep-Alive: soon\r\n" + LENGTH + "\r\nx", 30_000),
    ],
)
def test_how_long_a_connection_is_used_again(text: str, kept_ms: int | None) -> None:
    head, rest = REPLY.raw("head")(text)
    framing = REPLY.raw("framing")(head)
    REPLY.raw("decode")(framing, rest)
    assert REPLY.raw("kept_ms")(head, framing, 30_000) == kept_ms


@pytest.mark.parametrize("status", [204, 304])
def test_replies_without_a_body(status: int) -> None:
    head, rest = REPLY.raw("head")(f"HTTP/1.1 {status} X\r\nContent-Length: 5\r\n\r\n")
    assert REPLY.raw("decode")(REPLY.raw("framing")(head), rest) == ("", True)
