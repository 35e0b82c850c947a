"""Packed request bodies, unpacked within a bound.

Source: https://www.rfc-editor.org/rfc/rfc9110#section-8.4 (Content-Encoding)
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import zstandard

from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["coding_of", "unpacked"]

_GZIP: Final = 16 + zlib.MAX_WBITS  # zlib's number for gzip's format
_WINDOW: Final = 8 << 20  # bytes; RFC 9659 allows no larger one in HTTP


class _DamagedError(ValueError):
    """The bytes are no whole body of this coding."""


class _TooLargeError(ValueError):
    """There is more in it than asked for."""


def coding_of(encodings: Sequence[str]) -> str | Refusal | None:
    """The one coding that ``Content-Encoding`` headers name: gzip or zstd; None: the body isn't packed."""
    named = [
        coding
        for e in encodings
        for c in e.split(",")
        if (coding := c.strip().lower()) not in ("", "identity")
    ]
    if not named:
        return None
    name = "gzip" if named[0] == "x-gzip" else named[0]
    if len(named) > 1 or name not in _READERS:
        return Refusal(
            Reason.MEDIA_TYPE,
            "The request body may be packed once, by gzip or zstd: Content-Encoding says otherwise.",
        )
    return name


def unpacked(raw: bytes, coding: str, most: int) -> bytes | Refusal:
    """The body in `raw`, of `most` bytes at most; no more than that is ever unpacked."""
    try:
        return _READERS[coding](raw, most)
    except _TooLargeError:
        return Refusal(Reason.TOO_LARGE, f"The body has more than {most} bytes once it is unpacked.")
    except _DamagedError:
        return Refusal(Reason.MEDIA_TYPE, f"The body isn't what its Content-Encoding says: {coding}.")


def _gzip(raw: bytes, most: int) -> bytes:
    out, left = [], most
    while raw:  # a file may have several members
        reader = zlib.decompressobj(_GZIP)
        try:
            piece = reader.decompress(raw, left + 1)
        except zlib.error:
            raise _DamagedError from None
        left -= len(piece)
        if left < 0:
            raise _TooLargeError
        if not reader.eof:
            raise _DamagedError
        out.append(piece)
        raw = reader.unused_data
    if not out:
        raise _DamagedError
    return b"".join(out)


def _zstd(raw: bytes, most: int) -> bytes:
    reader = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    try:
        with reader.stream_reader(raw, read_across_frames=False) as stream:
            if len(stream.read(most + 1)) > most:
                raise _TooLargeError
        # Once more, since that one tells nobody whether the frame has an end, and what comes after it.
        whole = reader.decompressobj()
        out = whole.decompress(raw)
    except zstandard.ZstdError:
        raise _DamagedError from None
    if not whole.eof or whole.unused_data:
        raise _DamagedError
    return out


_READERS: Final[Mapping[str, Callable[[bytes, int], bytes]]] = {"gzip": _gzip, "zstd": _zstd}
