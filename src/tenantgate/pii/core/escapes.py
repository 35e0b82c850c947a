r"""Characters that are written as something else: one level of escapes of JSON, programs, URLs, HTML and mail.

Two readings. The *usual* one takes what hardly ever means anything else: ``\n``, ``\u0040``, ``\x40``, ``%40``,
``&#64;``. The *doubtful* one also takes what may be plain text: ``=40`` of quoted-printable mail, ``+`` for a blank in
a form, ``\100`` in octal, names of HTML without their semicolon, tags of HTML, which show as nothing.

Sources: RFC 8259 section 7, RFC 3986 section 2.1, RFC 2045 section 6.7, the WHATWG's table of named characters
(`html.entities`), and the escapes that C, Python and JavaScript have in common.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterator
from typing import Final

from tenantgate.checkpoints import checkpoint
from tenantgate.pii.core.text_view import Unit

__all__ = ["doubtful", "doubts", "json_escapes", "usual"]

_HEX: Final = "[0-9A-Fa-f]"
_JSON: Final = (
    rf"\\u[dD][89abAB]{_HEX}{{2}}\\u[dD][c-fC-F]{_HEX}{{2}}"  # a character that takes two
    rf'|\\u{_HEX}{{4}}|\\["\\/bfnrt]'
)
# Each begins with a sign of its own: only so does the engine skip at once what begins with no sign at all.
_USUAL: Final = (
    rf"{_JSON}|\\u{{2,8}}+{_HEX}{{4}}|\\u\{{{_HEX}{{1,6}}\}}|\\U{_HEX}{{8}}|\\x{_HEX}{{2}}|\\x\{{{_HEX}{{1,6}}\}}"
    r"|\\N\{[A-Za-z0-9 -]{1,80}\}"
    r"|\\[aev0](?![0-9])|\\[!-/:-@\[-`{-~]"
    rf"|%u{_HEX}{{4}}|%{_HEX}{{2}}(?:%{_HEX}{{2}})*+"
    rf"|&(?:#[0-9]{{1,20}}+|#[xX]{_HEX}{{1,20}}+|[A-Za-z][A-Za-z0-9]{{1,30}}+(?=;));?"
)
_DOUBTFUL: Final = (
    rf"\\[0-3][0-7]{{2}}|\\\r?\n|{_USUAL}|={_HEX}{{2}}(?:={_HEX}{{2}})*+|=[ \t]{{0,4}}\r?\n"
    rf"|\+(?<=[A-Za-z0-9]\+)(?=[A-Za-z0-9])|U\+{_HEX}{{4,6}}+|&[A-Za-z]{{2,8}}+(?![A-Za-z0-9;])"
    r"|</?[A-Za-z][^<>]{0,400}+>|<!--[^<>]{0,400}+>|<!\[CDATA\[|\]\]>"
)
_JSON_FORM: Final = re.compile(_JSON)
_USUAL_FORM: Final = re.compile(_USUAL)
_DOUBTFUL_FORM: Final = re.compile(_DOUBTFUL)
# What only the doubtful reading takes: without any of it the two are the same.
_DOUBT: Final = re.compile(
    rf"={_HEX}{{2}}|=[ \t]{{0,4}}\r?\n|[A-Za-z0-9]\+[A-Za-z0-9]|\\[0-3\r\n]|U\+|&[A-Za-z]{{2,8}}+(?![A-Za-z0-9;])"
    r"|</?[A-Za-z][^<>]{0,400}+>|<!--|<!\[CDATA\["
)
_DOUBTS: Final = ("=", "+", "\\", "&", "<")
_LETTERS: Final = {
    "n": "\n",
    "r": "\r",
    "t": "\t",
    "b": "\b",
    "f": "\f",
    "a": "\a",
    "e": "\x1b",
    "v": "\v",
    "0": "\0",
}
_MANY: Final = 128  # escapes between two checkpoints
_MOST: Final = 0x10FFFF


def usual(text: str) -> Iterator[Unit]:
    """The escapes of the usual reading."""
    if "\\" in text or "%" in text or "&" in text:
        yield from _units(_USUAL_FORM, text)


def doubtful(text: str) -> Iterator[Unit]:
    """The escapes of the doubtful reading."""
    return _units(_DOUBTFUL_FORM, text)


def doubts(text: str) -> bool:
    """Whether the doubtful reading may find more than the usual one."""
    return any(c in text for c in _DOUBTS) and _DOUBT.search(text) is not None


def json_escapes(text: str) -> Iterator[Unit]:
    """The escapes of JSON alone, in what stands between two quotes of JSON."""
    if "\\" in text:
        for match in _JSON_FORM.finditer(text):
            yield match.start(), match.end(), _backslash(match.group())


def _units(form: re.Pattern[str], text: str) -> Iterator[Unit]:
    for n, match in enumerate(form.finditer(text)):
        if n % _MANY == 0:
            checkpoint()
        start, found = match.start(), match.group()
        if found[0] in "%=" and found[1:2] not in "u \t\r\n":
            yield from _bytes(start, found)
        else:
            plain = _MAKERS[found[0]](found)
            if plain != found:
                yield start, match.end(), plain


def _backslash(found: str) -> str:
    kind = found[1]
    if kind in _LETTERS and len(found) == 2:
        return _LETTERS[kind]
    if kind in "uUx":
        if len(found) == 12:
            high, low = int(found[2:6], 16), int(found[8:], 16)
            return chr(0x10000 + ((high - 0xD800) << 10) + low - 0xDC00)
        return _char(found[2:].strip("u{}"), 16)
    if kind == "N":
        try:
            return unicodedata.lookup(found[3:-1])
        except KeyError:
            return found
    if kind in "\r\n":
        return ""
    return _char(found[1:], 8) if kind in "0123" else kind


def _percent(found: str) -> str:
    return _char(found[2:], 16)


def _entity(found: str) -> str:
    # The standard library drops control characters, which HTML keeps: a colour must stay one.
    return html.unescape(found) or _char(found.strip("&#xX;"), 16 if found[2] in "xX" else 10)


def _equals(_found: str) -> str:
    return ""  # a line of mail that goes on


def _tag(_found: str) -> str:
    return ""


def _plus(_found: str) -> str:
    return " "


def _code_point(found: str) -> str:
    return _char(found[2:], 16)


_MAKERS: Final = {
    "<": _tag,
    "]": _tag,
    "\\": _backslash,
    "%": _percent,
    "&": _entity,
    "=": _equals,
    "+": _plus,
    "U": _code_point,
}


def _char(digits: str, base: int) -> str:
    code = int(digits, base)
    return chr(code) if code <= _MOST and not 0xD800 <= code <= 0xDFFF else "\ufffd"


def _bytes(start: int, found: str) -> Iterator[Unit]:
    """Bytes that are written as ``%40`` or ``=40`` each: UTF-8, or else one character each."""
    raw = bytes.fromhex(found.replace(found[0], ""))
    try:
        plain = raw.decode("utf-8")
    except UnicodeDecodeError:
        plain = raw.decode("latin-1")
        for i, char in enumerate(plain):
            yield start + 3 * i, start + 3 * i + 3, char
        return
    at = start
    for char in plain:
        end = at + 3 * len(char.encode())
        yield at, end, char
        at = end
