"""Texts that are written as a run of letters and figures: base64, base32, hexadecimal, codes of characters.

A run counts only if most of what it stands for is text; random keys and ordinary words never are. Of a base64 run
that is something else as a whole, a stretch of text within it counts.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import itertools
import re
import string
from collections import Counter
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Final

from tenantgate.checkpoints import checkpoint
from tenantgate.pii.core.text_view import Unit

__all__ = ["runs", "text_in"]

_MANY: Final = 512  # runs between two checkpoints
_LEAST: Final = 8  # bytes of text that a run stands for
_STRETCH: Final = re.compile(rb"[\t\n\r\x20-\x7e]{12,}+")
_LEAST_STRETCHED: Final = 16  # letters of base64 that twelve bytes take: most long words have fewer
_BASE64: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_-])(?:(?:[A-Za-z0-9+/]{40,}+\r?\n)++[A-Za-z0-9+/]*+|[A-Za-z0-9+/_-]{11,}+)={0,2}+"
)
# Lines of any width, as mail and settings hold them: indented, quoted, in a comment. They count as a whole only.
_WRAPPED: Final = re.compile(
    r"(?<![A-Za-z0-9+/=_-])[A-Za-z0-9+/]{8,}+"
    r"(?:[ \t]{0,2}+\r?\n(?:[ \t>|#*;]|//[ \t]){0,12}+[A-Za-z0-9+/]{2,}+)++={0,2}+"
)
_BETWEEN_LINES: Final = re.compile(r"(?:[\s>|#*;]|//[ \t])++")
_BASE32: Final = re.compile(r"[A-Z2-7]{16,}+")
# Nothing is asked of what follows a run: a run that is refused for it would be looked at again from its middle.
_HEX: Final = re.compile(r"(?<![0-9A-Za-z])(?:(?:0x)?[0-9A-Fa-f]{2}(?:, ?|[ :-])?){8,}+")
_BINARY: Final = re.compile(r"(?<![0-9A-Za-z])(?:[01]{8}(?:, ?|[ -])?){6,}+")
_CODES: Final = re.compile(r"(?<![0-9A-Za-z.,])[0-9]{2,3}(?:(?:, ?|[ ;])[0-9]{2,3}){8,}+")
# One look for enough signs of a form in a row, whatever stands between them: most texts have none, and need no search.
_SIGNS: Final = {
    _BASE64: (string.ascii_letters + string.digits + "+/_-", "", 11),
    _WRAPPED: (string.ascii_letters + string.digits + "+/", "", 8),
    _HEX: (string.hexdigits, " ,:-x", 16),
    _BINARY: ("01", " ,-", 48),
    _CODES: (string.digits, " ,;", 18),
}
_TABLES: Final = {
    form: (bytes(98 if chr(i) in signs else 32 for i in range(256)), between.encode(), b"b" * least)
    for form, (signs, between, least) in _SIGNS.items()
}
_TO_BASE32: Final = str.maketrans(
    string.ascii_uppercase + "234567", string.digits + string.ascii_uppercase[:22]
)
_NO_BASE32: Final = (1, 3, 6)  # letters behind whole groups of eight that stand for no whole bytes
_BETWEEN: Final = b" ,:-"
_HEAD: Final = 64  # bytes that tell a text's encoding
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the next one does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def runs(text: str, refused: set[tuple[object, str]] | None = None) -> Iterator[Unit]:
    """The runs that stand for text, in order. `refused` are runs of a form that don't, and grows."""
    found: list[tuple[tuple[int, bool, int], Unit]] = []
    refused = set() if refused is None else refused
    raw = text.encode("ascii", "replace")
    for form, readers in _FORMS:
        checkpoint()
        for match in _matches(form, text, raw):
            run = match.group()
            if (form, run) in refused:
                continue
            unit = _unit(match.start(), run.rstrip(" ,:-\r\n"), readers)
            if unit is not None:
                found.append(((match.start(), form is _BASE64, -unit[1]), unit))
            else:
                refused.add((form, run))
    at = 0
    for _, (start, end, plain) in sorted(found, key=itemgetter(0)):
        if start >= at:
            yield start, end, plain
            at = end


def _matches(form: re.Pattern[str], text: str, raw: bytes) -> Iterator[re.Match[str]]:
    """The runs of a form in a text, which is `raw` in ASCII, character for character."""
    table, between, least = _TABLES[form]
    signs = raw.translate(table, between)
    at = signs.find(least)
    if at >= 0 and between:
        yield from form.finditer(text)
        return
    if form is _WRAPPED and "\n" not in text:
        return
    for n in itertools.count():
        if at < 0:
            return
        if n % _MANY == 0:
            checkpoint()
        found = form.match(text, at)
        if found is not None:
            yield found
        end = found.end() if found is not None else signs.find(b" ", at)
        at = signs.find(least, end) if end >= 0 else -1


def _unit(start: int, run: str, readers: tuple[Callable[[str], str], ...]) -> Unit | None:
    # The last line may be another text: it counts only if the lines make sense with it.
    parts = [p for p in (run, run.rpartition("\n")[0].rstrip()) if p]
    for read in readers:
        for part in parts:
            checkpoint()
            if plain := read(part):
                return start, start + len(part), plain
    return None


def text_in(raw: bytes) -> str:
    """The text that the bytes are, or an empty one: UTF-8, -16 or -32 without control characters, all but a few."""
    if len(raw) < _LEAST:
        return ""
    try:
        text = raw.decode(_encoding(raw))
    except UnicodeDecodeError:
        return ""
    return text if _is_text(text) else ""


def _encoding(raw: bytes) -> str:
    """By the byte order mark, or where the zeros are that wide forms have in English."""
    marked = next((name for mark, name in _MARKS if raw.startswith(mark)), None)
    if marked is not None:
        return marked
    head = raw[:_HEAD]
    if len(raw) % 4 == 0 and not any(head[1::4] + head[2::4]):
        if not any(head[3::4]):
            return "utf-32-le"
        if not any(head[::4]):
            return "utf-32-be"
    if len(raw) % 2 == 0:
        if not any(head[1::2]):
            return "utf-16-le"
        if not any(head[::2]):
            return "utf-16-be"
    return "utf-8"


def _is_text(text: str) -> bool:
    if not text.isprintable():
        odd = sum(n for c, n in Counter(text).items() if not c.isprintable() and c not in "\t\r\n")
        if odd * 20 > len(text):
            return False
    return any(c.isalnum() for c in text)


def _body(run: str) -> str:
    return "".join(run.split()).rstrip("=").replace("-", "+").replace("_", "/")


def _from_base64(run: str) -> str:
    return text_in(_decoded(_body(run)))


def _from_lines(run: str) -> str:
    return text_in(_decoded(_BETWEEN_LINES.sub("", run).rstrip("=")))


def _from_base32(run: str) -> str:
    if not run.isupper():
        return ""
    body = _body(run)
    if _BASE32.fullmatch(body) is None:
        return ""
    if len(body) % 8 in _NO_BASE32:
        return ""
    bits = 5 * len(body)
    return text_in((int(body.translate(_TO_BASE32), 32) >> bits % 8).to_bytes(bits // 8, "big"))


def _stretches(run: str) -> str:
    body = _body(run)
    if len(body) < _LEAST_STRETCHED:
        return ""
    # No run goes over an empty line: what is text by chance, read from another letter on, must not become its end.
    found = []
    for i in range(4):
        checkpoint()
        found += _STRETCH.findall(_decoded(body[i:]))
    return b"\n\n".join(found).decode()


def _decoded(body: str) -> bytes:
    body = body[:-1] if len(body) % 4 == 1 else body
    try:
        return base64.b64decode(body + "=" * (-len(body) % 4))
    except (binascii.Error, ValueError):
        return b""


def _from_hex(run: str) -> str:
    digits = run.replace("0x", "").encode().translate(None, _BETWEEN)
    return text_in(binascii.unhexlify(digits[: len(digits) // 2 * 2]))


def _from_binary(run: str) -> str:
    bits = run.encode().translate(None, _BETWEEN)
    whole = bits[: len(bits) // 8 * 8]
    return text_in(int(b"1" + whole, 2).to_bytes(len(whole) // 8 + 1, "big")[1:])


def _from_codes(run: str) -> str:
    codes = [int(n) for n in re.findall("[0-9]+", run)]
    return text_in(bytes(codes)) if all(9 <= c < 127 for c in codes) else ""


_Forms = tuple[tuple[re.Pattern[str], tuple[Callable[[str], str], ...]], ...]
# Where two begin at one place, figures go before letters, and then the longest counts: a dump of bytes may begin with
# some that are codes, too. Of the same length the first counts.
_FORMS: Final[_Forms] = (
    (_BINARY, (_from_binary,)),
    (_CODES, (_from_codes,)),
    (_HEX, (_from_hex,)),
    (_WRAPPED, (_from_lines,)),
    (_BASE64, (_from_base64, _from_base32, _stretches)),
)
