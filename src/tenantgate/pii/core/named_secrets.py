"""Values that a word beside them gives away: ``DB_PASSWORD=…``, ``"password": "…"``, "my password is …".

Where a word stands is found by plain search; what follows it is matched from there, in steps that are bounded, so
the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tenantgate.pii.core.finding import Finding
from tenantgate.pii.core.secret_checks import (
    is_method,
    is_placeholder,
    is_plain_word,
    key_like,
    password_like,
)
from tenantgate.pii.core.secret_rules import NAMES, Name, joints, sentence_words
from tenantgate.time_left import check_time

__all__ = ["find_named"]

_LONGEST: Final = 512
_IS: Final = "|".join(sorted((re.escape(w) for w in joints()), key=len, reverse=True))
# What may stand between a name and its value, on the text in lower case: the rest of a longer name, the name's quotes,
# what it is for, a sign or "is", the value's quote.
_REST: Final = re.compile(
    r"(?P<suffix>(?:[a-z0-9_.]|-(?=[a-z0-9]))*+)"
    r"(?P<closing>[\"'`\])]{0,3}+)"
    r"(?P<purpose>(?: (?:for|to|of|on|from|für|pour|para|per|voor|dla|от|для)(?: [\w.-]{1,20}+){1,3}?(?=[:=]| is\b))?)"
    r"(?P<before>[ \t]{0,4}+)"
    r"(?:(?P<tag>>)|(?P<sign>:=|=>|->|==?|：|:|—|–)(?P<after>\s{0,8}+)|(?P<attribute>value=)|"
    rf"(?P<is>(?:{_IS}))(?:(?<![a-zéèä])|(?![a-z])):?(?P<gap>[ \t]{{0,4}}+)|(?<=[ \t\"'`])|(?=[\"'`«“]))"
    r"(?P<quote>[\"'`«“]?)"
)
_SUFFIX: Final = re.compile(
    r"(?:s|[0-9]{1,2}|[_.-]?(?:base|value|prod|dev|test|stage|staging|live|new|old|hash|1|2))?$"
)
_BARE: Final = re.compile(r"[^\s\"'`<>]{1,512}+")
_NEXT_PAIR: Final = re.compile(r"[;&](?=[A-Za-z_][\w .-]{0,40}=|$)")
_OTHER_SCRIPT: Final = re.compile(
    "[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\uff00-\uffef]"
)  # no blank ends a word there
_CLOSES: Final = {"«": "»", "“": "”"}
_SETTING: Final = re.compile(r"[\w.\[-]{0,80}")
_ACCOUNT: Final = re.compile(
    r"\b(?:user|username|login|e-?mail|account|host|server|usuario|benutzer|utilisateur)\b"
)
_MINE: Final = (
    *(
        f" {word}"
        for word in ("root", "admin", "administrator", "guest", "router", "vpn", "server", "database", "db")
    ),
    "my",
    "our",
    "mein",
    "mon",
    "mi",
    "minha",
    "wifi",
    "wi-fi",
)
_ENV: Final = re.compile(r"[A-Z][A-Z0-9_]{0,60}$")
_ENDS_SENTENCE: Final = re.compile(r"[.!,;)]{0,2}\s{0,2}(?:\n|$|and\b|but\b|-)")
# Words of English that say how a password is, not what it is.
_STATE: Final = re.compile(
    r"(?:not|no|so|too|very|just|now|only|also|still|always|never|the|a|an|my|in|on|at|to|for|of|as|being|been|"
    r"correct|incorrect|wrong|right|weak|strong|valid|invalid|safe|secure|secret|long|short|old|new|same|different|"
    r"unknown|empty|blank|null|gone|lost|here|there|this|that|what|why|how|good|bad|easy|hard|simple|complex|unique|"
    r"case|sensitive|public|private|missing|optional|required|below|above|fine|ok|okay|case-sensitive|unsafe|"
    r"insecure|out|up|about|over|under|like|important|essential|mandatory|hashed|kept|sent|set|reset|stored|shown|"
    r"[a-z]{1,20}(?:ed|ing|able|ible|ly|ful|less|ous|ive|ary|ten|sen|own))$"
)
# Four words and more, to the end of the line; no sentence.
_PHRASE: Final = re.compile(r"[a-z]{3,10}+(?: [a-z]{3,10}+){3,11}+(?=[ \t]{0,4}(?:[\r\n]|$))")
_OF_SENTENCES: Final = sentence_words()
_JOINED: Final = re.compile(r"(?:(?:export|set|env|arg) )?[\w.-]{0,80}[\w]?[_.-]", re.IGNORECASE)
_LEAST_PLAIN: Final = 6  # characters of a word that is a secret
_WHOLE_SECRET: Final = re.compile(
    r"(?:secret|token|api_?key|access_?key|secret_key|secret_key_base|credentials?)$"
)
_WORDS: Final = tuple((word, name) for name in NAMES for word in name.words)


def _by_stem(rows: Sequence[tuple[str, Name]]) -> Mapping[str, Sequence[tuple[str, Name]]]:
    """The words by the shortest of them that is part of them: in a text without it, there is none of these."""
    shortest = sorted({word for word, _ in rows}, key=len)
    out: dict[str, list[tuple[str, Name]]] = {}
    for word, name in rows:
        out.setdefault(next(stem for stem in shortest if stem in word), []).append((word, name))
    return out


_STEMS: Final = _by_stem(_WORDS)
_ASCII_STEMS: Final = _by_stem([row for row in _WORDS if row[0].isascii()])
_MANY: Final = 4  # names between two looks at the clock


def find_named(text: str, lower: str) -> Iterator[Finding]:
    """Values of named credentials. `lower` is `text` in lower case, each character where it was."""
    count = 0
    stems = _ASCII_STEMS if lower.isascii() else _STEMS
    for word, name in [row for stem, rows in stems.items() if stem in lower for row in rows]:
        at = lower.find(word)
        while at >= 0:
            count += 1
            if count % _MANY == 0:
                check_time()
            found = _at(text, lower, name, at, at + len(word))
            after = at + len(word)
            if found is not None:
                yield found
                after = max(after, found.end)  # a name inside a value is covered with it
            at = lower.find(word, after)


def _at(text: str, lower: str, name: Name, start: int, end: int) -> Finding | None:
    """The value of the name at ``start:end``, if it is a credential."""
    if name.whole and (lower[start - 1 : start].isalnum() or lower[end : end + 1].isalpha()):
        return None
    rest = _REST.match(lower, end)
    span = _value(text, rest) if rest else None
    if rest is None or span is None or is_placeholder(text[span[0] : span[1]]):
        return None
    span = (name.test == "password" and _phrase(text, lower[start:end], rest)) or span
    place = _Place(text, lower, start, end, rest, span)
    if not place.holds(name):
        return None
    score = 0.9 if place.sign else 0.7 if rest["is"] else 0.6
    return Finding(*span, name.kind, score if name.kind == "PASSWORD" else round(score - 0.05, 2))


def _phrase(text: str, name: str, rest: re.Match[str]) -> tuple[int, int] | None:
    """Where a phrase of ordinary words lies that is a password: the rest of the line, and no sentence."""
    if rest["quote"] or not (rest["sign"] or (rest["is"] and name == "passphrase")):
        return None
    found = _PHRASE.match(text, rest.end())
    if found is None:
        return None
    words = found.group().split()
    if not _OF_SENTENCES.isdisjoint(words) or sum(_STATE.match(word) is not None for word in words) > 1:
        return None
    return found.span()


def _value(text: str, rest: re.Match[str]) -> tuple[int, int] | None:
    """Where the value lies: in its quotes, or up to the next blank or pair."""
    start = rest.end()
    quote = rest["quote"]
    if quote:
        close = text.find(_CLOSES.get(quote, quote), start, start + _LONGEST)
        line = text.find("\n", start, start + _LONGEST)
        if close > start and not 0 <= line < close:
            return start, close
        if close == start:
            return None
    found = _BARE.match(text, start)
    if found is None:
        return None
    said = found.group()
    pair = _NEXT_PAIR.search(said)
    if pair:
        said = said[: pair.start()]
    other = _OTHER_SCRIPT.search(said) if said[:1].isascii() else None
    if other:
        said = said[: other.start()]
    said = said.rstrip(".,;:?)]}\\”»…")
    return (start, start + len(said)) if said else None


@dataclass(frozen=True)
class _Place:
    """One place where a name and a value stand together.

    Attributes:
        text: all of it.
        lower: it in lower case.
        start: where the name begins.
        end: where it ends.
        rest: what stands between the two, by `_REST`.
        span: where the value lies.
    """

    text: str
    lower: str
    start: int
    end: int
    rest: re.Match[str]
    span: tuple[int, int]

    @cached_property
    def said(self) -> str:
        """The value."""
        return self.text[self.span[0] : self.span[1]]

    @cached_property
    def flag(self) -> bool:
        """Whether the name stands in an option of a command, ``--db-password``."""
        head = self.text[max(0, self.start - 24) : self.start]
        return bool(head) and not head[-1].isspace() and head.rsplit(None, 1)[-1].startswith("--")

    @cached_property
    def sign(self) -> str:
        """What ties the value to the name, if it is more than a word."""
        found: str = (
            self.rest["sign"] or self.rest["tag"] or self.rest["attribute"] or ("=" if self.flag else "")
        )
        return found

    @cached_property
    def line_before(self) -> str:
        """The line up to the name, at most 80 characters of it."""
        return self.text[self.text.rfind("\n", max(0, self.start - 80), self.start) + 1 : self.start]

    @property
    def quoted(self) -> bool:
        """Whether the value stands in quotes."""
        return bool(self.rest["quote"])

    @property
    def tail(self) -> str:
        """The character after the value."""
        return self.text[self.span[1] : self.span[1] + 1]

    def holds(self, name: Name) -> bool:
        """Whether the value is a credential."""
        if name.joined and not self.sign:
            return False
        if name.test == "pin":
            told = self.sign or self.rest["is"] or self.lower.startswith("cv", self.start)
            return self.said.isdecimal() and 3 <= len(self.said) <= 8 and bool(told)
        if " " in self.said and not self.quoted:
            return True  # a phrase
        if name.test == "secret" and self._plain():
            return True
        if name.test in ("key", "secret"):
            loose = not self.sign and "@" in self.said  # an account on a host, after the name of a file
            return (key_like(self.said) and not loose) or self._in_environment()
        return self._password()

    def _password(self) -> bool:
        if len(self.said) < 4 and not (self.quoted and self.sign):
            return False
        if self.rest["suffix"] and not _SUFFIX.match(self.rest["suffix"]):
            return key_like(self.said) and bool(self.sign)
        if self._is_code() or is_method(self.said):
            return False
        named = bool(self.rest["closing"].strip("])"))
        if self.rest["tag"] and self.tail != "<":
            return False
        if password_like(self.said, quoted=self.quoted or (named and bool(self.sign)), sure=bool(self.sign)):
            return True
        if self.rest["tag"] or self.flag:
            return len(self.said) >= 4
        return self._tied() if self.sign else self._told()

    def _is_code(self) -> bool:
        """Whether the value is a name of the program: ``password = user_password``, ``password=password``."""
        said = self.said.lower()
        named = "passw" in said or "pwd" in said
        return not self.quoted and named and said.replace("_", "").replace(".", "").isalpha()

    def _tight(self) -> bool:
        return self.rest["sign"] == "=" and not self.rest["before"] and not self.rest["after"]

    def _in_environment(self) -> bool:
        """``JWT_SECRET=anything``, as in a file of an environment."""
        head = self.text[max(0, self.start - 60) : self.end + len(self.rest["suffix"])]
        found = _ENV.search(head)
        if not (found and self.text[self.end - 1].isupper() and self._tight()):
            return False
        least = 6 if found.group().endswith("SECRET") else 8
        whole = _WHOLE_SECRET.search(found.group().lower())
        return whole is not None and len(self.said) >= least and not self.said.isdecimal()

    def _tied(self) -> bool:
        """A plain word after a sign: a value in files of settings, a name of the program in code."""
        if self._tight():
            called = self.line_before.rstrip().endswith(("(", ",")) or self.tail in ("(", ")")
            return not called and self.tail in ("", "\n", "\r", ";", "&", " ", '"', "'", "`")
        if self.rest["sign"] not in ("=", ":", "：") or self.tail not in ("", "\r", "\n"):
            return False
        before = self.line_before.strip(" \t-\"'{$#")
        alone = (
            before.lower() in ("", "export", "set", "env", "arg") or _SETTING.fullmatch(before) is not None
        )
        return (alone or _ACCOUNT.search(before.lower()) is not None) and self._word()

    def _plain(self) -> bool:
        """A word after "secret" in a file of settings: ``client_secret: hunter``; not a heading, nor another's name."""
        said, before = self.said, self.line_before.lstrip(" \t-\"'{$")
        setting = (
            before.lower() in ("", "export ", "set ", "env ", "arg ") or _JOINED.fullmatch(before) is not None
        )
        ends = self.tail in ("", "\n", "\r") or (self._tight() and self.tail in (";", "&", " "))
        named = self.text[self.start : self.end]
        return (
            setting
            and ends
            and (self.rest["sign"] == ":" or self._tight())
            and (named.islower() or named.isupper())
            and not self.rest["suffix"]
            and not self.rest["closing"]
            and len(said) >= _LEAST_PLAIN
            and said.isalnum()
            and not said.isdecimal()
            and not is_method(said)
            and not any(c.isupper() for c in said[1:])
            and _STATE.match(said.lower()) is None
        )

    def _told(self) -> bool:
        """A plain word after "my password is", or one in quotes after "password is"."""
        if self.rest["is"] is None or not self._word():
            return False
        if self.quoted:
            return len(self.said.split()) <= 6
        ends = _ENDS_SENTENCE.match(self.text, self.span[1]) is not None
        mine = self.lower[max(0, self.start - 16) : self.start].rstrip().endswith(_MINE)
        return self.rest["is"] == "is" and self.said.isascii() and ends and mine

    def _word(self) -> bool:
        return (
            len(self.said) >= 4
            and (self.quoted or is_plain_word(self.said))
            and _STATE.match(self.said.lower()) is None
        )
