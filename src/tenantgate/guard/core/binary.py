"""Whether a text is a file in base64: by its bytes, not by what it says it is."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Final

from tenantgate.pii.core.encoded_runs import runs, text_in

__all__ = ["holds_text", "is_file", "is_noise"]

_HEAD: Final = re.compile(r"data:[\w.+-]{1,64}/[\w.+-]{1,64}(?:;[\w.+-]{1,64}=[\w.+-]{1,64}){0,4};base64,")
_FORM: Final = re.compile(r"[A-Za-z0-9+/_-]*+={0,2}")
_BEGINNINGS: Final = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\1\0",  # images
    b"RIFF",
    b"ID3",
    b"fLaC",
    b"OggS",
    b"\x1aE\xdf\xa3",  # sound and films
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xf1",
    b"\xff\xf9",  # MPEG
    b"%PDF-",
    b"PK\3\4",
    b"\xd0\xcf\x11\xe0",  # documents
)
_FTYP: Final = b"ftyp"  # of MP4, M4A, HEIC, AVIF, at the fifth byte
_PRINTABLE: Final = bytes(range(32, 127)) + b"\t\n\r"
_MOST: Final = 0.85
"""Share of printable bytes above which the bytes are text with the beginning of a file before it."""


def is_noise(text: str) -> bool:
    """Whether the text is base64 without blanks of what is no text: a signature, a sealed value, bare sound."""
    if _FORM.fullmatch(text) is None:
        return False
    raw = _bytes(text)
    return bool(raw) and not text_in(raw) and len(raw.translate(None, _PRINTABLE)) >= len(raw) // 2


def holds_text(text: str) -> bool:
    """Whether a text without blanks is base64 that stands for text, at least in part."""
    return not is_file(text) and next(runs(text), None) is not None


def is_file(text: str) -> bool:
    """Whether the text is an image, sound, film or document in base64 without blanks.

    It may have ``data:…;base64,`` before it. What is mostly printable is none.
    """
    head = _HEAD.match(text)
    start = head.end() if head else 0
    form = _FORM.fullmatch(text, start)
    if form is None:
        return False
    raw = _bytes(text[start:])
    if not raw.startswith(_BEGINNINGS) and raw[4:8] != _FTYP:
        return False
    return len(raw.translate(None, _PRINTABLE)) >= (1 - _MOST) * len(raw)


def _bytes(text: str) -> bytes:
    body = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        return b""
