"""Packed bodies: the same bytes again, or a refusal within the bound."""

from __future__ import annotations

import gzip
import tracemalloc
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm import Reason, Refusal
from tenantgate.llm.coding import coding_of, unpacked


def streamed(data: bytes) -> bytes:
    """A zstd frame that doesn't say how large it is."""
    packer = zstandard.ZstdCompressor().compressobj()
    return packer.compress(data) + packer.flush()


PACKERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("zstd", zstandard.compress),
    ("zstd", streamed),
]


@pytest.mark.parametrize(("coding", "pack"), PACKERS)
@given(data=st.binary(max_size=200))
def test_what_was_packed_comes_back(coding: str, pack: Callable[[bytes], bytes], data: bytes) -> None:
    assert unpacked(pack(data), coding, len(data)) == data
    if data:
        found = unpacked(pack(data), coding, len(data) - 1)
        assert isinstance(found, Refusal)
        assert found.reason is Reason.TOO_LARGE


def test_several_members_of_gzip_are_one_body() -> None:
    packed = gzip.compress(b"ab") + gzip.compress(b"c")
    assert unpacked(packed, "gzip", 3) == b"abc"
    assert isinstance(unpacked(packed, "gzip", 2), Refusal)


@pytest.mark.parametrize(("coding", "pack"), PACKERS)
def test_a_bomb_takes_no_more_than_the_bound(coding: str, pack: Callable[[bytes], bytes]) -> None:
    bomb = pack(bytes(200_000_000))
    tracemalloc.start()
    found = unpacked(bomb, coding, 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(found, Refusal)
    assert found.reason is Reason.TOO_LARGE
    assert peak < 10_000_000


@pytest.mark.parametrize(("coding", "pack"), PACKERS)
def test_damaged_bodies(coding: str, pack: Callable[[bytes], bytes]) -> None:
    whole = pack(b"some text " * 50)
    for raw in (b"", b"plain text", whole[:-3], whole[: len(whole) // 2], whole + b"more"):
        found = unpacked(raw, coding, 10_000)
        assert isinstance(found, Refusal), raw
        assert found.reason is Reason.MEDIA_TYPE


@pytest.mark.parametrize(
    ("encodings", "coding"),
    [
        ((), None),
        (("identity",), None),
        (("", "identity, "), None),
        (("gzip",), "gzip"),
        (("X-GZIP",), "gzip"),
        (("identity, Zstd",), "zstd"),
    ],
)
def test_the_coding_of_a_request(encodings: tuple[str, ...], coding: str | None) -> None:
    assert coding_of(encodings) == coding


@pytest.mark.parametrize(
    "encodings", [("br",), ("gzip, gzip",), ("gzip", "zstd"), ("deflate",), ("gzip;q=1",)]
)
def test_other_codings_are_refused(encodings: tuple[str, ...]) -> None:
    found = coding_of(encodings)
    assert isinstance(found, Refusal)
    assert found.reason is Reason.MEDIA_TYPE
