"""Texts that are written as a run of letters and figures: base64, base32, hexadecimal, codes of characters.

A run counts only if most of what it stands for is text; random keys and ordinary words never are. Of a base64 run
that is something else as a whole, a stretch of text within it counts.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final

from tenantgate.pii.core.view import Unit

__all__ = ["runs", "text_in"]

_LEAST: Final = 8  # bytes of text that a run stands for
_STRETCH: Final = re.compile(rb"[\t\n\r\x20-\x7e]{12,}+")
_LEAST_STRETCHED: Final = 16  # letters of base64 that twelve bytes take: most long words have fewer
_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_-])(?:(?:[A-Za-z0-9+/]{40,}+\r?\n)++[A-Za-z0-9+/]*+|[A-Za-z0-9+/_-]{11,}+)={0,2}+"
)
_BASE32: Final = re.compile(r"[A-Z2-7]{16,}+")
# Nothing is asked of what follows a run: a run that is refused for it would be looked at again from its middle.
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x)?[0-9A-Fa-f]{2}(?:, ?|[ :-])?){8,}+")
_BINARY: Final = re.compile(r"(?<![0-9A-Za-z])(?:[01]{8}(?:, ?|[ -])?){6,}+")
_CODES: Final = re.compile(r"(?<![0-9A-Za-z.,])[0-9]{2,3}(?:(?:, ?|[ ;])[0-9]{2,3}){8,}+")
# One look for the letters of base64 in a row: most texts have none, and need no search.
_CLASSES: Final = str.maketrans({i: "b" if chr(i).isalnum() or chr(i) in "+/_-" else " " for i in range(128)})
_RUN: Final = "b" * 11
_NO_HEX: Final = re.compile("0x|[^0-9A-Fa-f]")
_NO_BIT: Final = re.compile("[^01]")


def runs(text: str) -> Iterator[Unit]:
    """The runs that stand for text, in order."""
    found: list[Unit] = []
    letters = _RUN in text.translate(_CLASSES)
    figures = sum(map(text.count, "0123456789")) >= _LEAST
    for form, readers in (*(_FIGURES if figures else ()), *(_LETTERS if letters else ())):
        for match in form.finditer(text):
            unit = _unit(match.start(), match.group().rstrip(" ,:-\r\n"), readers)
            if unit is not None:
                found.append(unit)
    at = 0
    for start, end, plain in sorted(found, key=itemgetter(0)):
        if start >= at:
            yield start, end, plain
            at = end


def _unit(start: int, run: str, readers: tuple[Callable[[str], str], ...]) -> Unit | None:
    # The last line may be another text: it counts only if the lines make sense with it.
    parts = [p for p in (run, run.rpartition("\n")[0].rstrip()) if p]
    for read in readers:
        for part in parts:
            if plain := read(part):
                return start, start + len(part), plain
    return None


def text_in(raw: bytes) -> str:
    """The text that the bytes are, or an empty one: UTF-8 or UTF-16 without control characters, all but a few."""
    if len(raw) < _LEAST:
        return ""
    wide = len(raw) % 2 == 0 and not any(raw[1:64:2])
    try:
        text = raw.decode("utf-16-le" if wide else "utf-8")
    except UnicodeDecodeError:
        return ""
    return text if _is_text(text) else ""


def _is_text(text: str) -> bool:
    if not text.isprintable():
        odd = sum(not c.isprintable() and c not in "\t\r\n" for c in text)
        if odd * 20 > len(text):
            return False
    return any(c.isalnum() for c in text)


def _body(run: str) -> str:
    return "".join(run.split()).rstrip("=").replace("-", "+").replace("_", "/")


def _from_base64(run: str) -> str:
    return text_in(_decoded(_body(run)))


def _from_base32(run: str) -> str:
    body = _body(run)
    if _BASE32.fullmatch(body) is None:
        return ""
    try:
        return text_in(base64.b32decode(body + "=" * (-len(body) % 8)))
    except binascii.Error:
        return ""


def _stretches(run: str) -> str:
    body = _body(run)
    if len(body) < _LEAST_STRETCHED:
        return ""
    return " ".join(m.group().decode() for i in range(4) for m in _STRETCH.finditer(_decoded(body[i:])))


def _decoded(body: str) -> bytes:
    body = body[:-1] if len(body) % 4 == 1 else body
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        return b""


def _from_hex(run: str) -> str:
    digits = _NO_HEX.sub("", run)
    return text_in(bytes.fromhex(digits[: len(digits) // 2 * 2]))


def _from_binary(run: str) -> str:
    bits = _NO_BIT.sub("", run)
    return text_in(bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits) - 7, 8)))


def _from_codes(run: str) -> str:
    codes = [int(n) for n in re.findall("[0-9]+", run)]
    return text_in(bytes(codes)) if all(9 <= c < 127 for c in codes) else ""


_Forms = tuple[tuple[re.Pattern[str], tuple[Callable[[str], str], ...]], ...]
# Where two begin at one place, the first counts: figures alone are a form of letters and figures.
_FIGURES: Final[_Forms] = ((_BINARY, (_from_binary,)), (_CODES, (_from_codes,)), (_HEX, (_from_hex,)))
_LETTERS: Final[_Forms] = ((_BASE64, (_from_base64, _from_base32, _stretches)),)
