"""Values that a word beside them gives away: ``DB_PASSWORD=…``, ``"password": "…"``, "my password is …".

Where a word stands is found by plain search; what follows it is matched from there, in steps that are bounded, so
the time is linear in the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from tenantgate.guard.time_left import check_time
from tenantgate.pii.finding import Finding
from tenantgate.pii.secret_checks import is_placeholder, is_plain_word, key_like, password_like
from tenantgate.pii.secret_rules import NAMES, Name, joints

__all__ = ["find_named"]

_LONGEST: Final = 512
_IS: Final = "|".join(sorted((re.escape(w) for w in joints()), key=len, reverse=True))
# What may stand between a name and its value, on the text in lower case: the rest of a longer name, the name's quotes,
# a sign or "is", the value's quote.
_REST: Final = re.compile(
    r"(?P<suffix>(?:[a-z0-9_.]|-(?=[a-z0-9]))*+)"
    r"(?P<closing>[\"'`\])]{0,3}+)(?P<before>[ \t]{0,4}+)"
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
_ENV: Final = re.compile(r"[A-Z][A-Z0-9_]{0,60}$")
_ENDS_SENTENCE: Final = re.compile(r"[.!,;)]{0,2}\s{0,2}(?:\n|$|and\b|but\b|but\b|-)")
# Words of English that say how a password is, not what it is.
_STATE: Final = re.compile(
    r"(?:not|no|so|too|very|just|now|only|also|still|always|never|the|a|an|my|in|on|at|to|for|of|as|being|been|"
    r"correct|incorrect|wrong|right|weak|strong|valid|invalid|safe|secure|secret|long|short|old|new|same|different|"
    r"unknown|empty|blank|null|gone|lost|here|there|this|that|what|why|how|good|bad|easy|hard|simple|complex|unique|"
    r"case|sensitive|public|private|missing|optional|required|below|above|fine|ok|okay|case-sensitive|unsafe|"
    r"insecure|out|up|about|over|under|like|important|essential|mandatory|hashed|kept|sent|set|reset|stored|shown|"
    r"[a-z]{1,20}(?:ed|ing|able|ible|ly|ful|less|ous|ive|ary|ten|sen|own))$"
)
_WHOLE_SECRET: Final = re.compile(
    r"(?:secret|token|api_?key|access_?key|secret_key|secret_key_base|credentials?)$"
)
_WORDS: Final = tuple((word, name) for name in NAMES for word in name.words)
_ASCII_WORDS: Final = tuple(row for row in _WORDS if row[0].isascii())
_MANY: Final = 64  # names between two looks at the clock


def find_named(text: str, lower: str) -> Iterator[Finding]:
    """Values of named credentials. `lower` is `text` in lower case, each character where it was."""
    count = 0
    for word, name in _ASCII_WORDS if lower.isascii() else _WORDS:
        at = lower.find(word)
        while at >= 0:
            count += 1
            if count % _MANY == 0:
                check_time()
            found = _at(text, lower, name, at, at + len(word))
            if found is not None:
                yield found
            at = lower.find(word, at + len(word))


def _at(text: str, lower: str, name: Name, start: int, end: int) -> Finding | None:
    if name.whole and (lower[start - 1 : start].isalnum() or lower[end : end + 1].isalpha()):
        return None
    rest = _REST.match(lower, end)
    if rest is None:
        return None
    sign = rest["sign"] or rest["tag"] or rest["attribute"]
    flag = _is_flag(text, start)
    if (
        not sign
        and not rest["is"]
        and not flag
        and not rest["quote"]
        and not name.test == "key"
        and name.test != "pin"
    ):
        if not _of_a_person(lower, start) or not name.test == "password":
            return None
    if name.joined and not sign and not flag:
        return None
    value = _value(text, rest)
    if value is None:
        return None
    a, b = value
    said = text[a:b]
    if is_placeholder(said):
        return None
    use = _Use(text, lower, start, end, rest, said, b, flag=flag)
    if not use.holds(name):
        return None
    score = 0.9 if sign or flag else 0.7
    return Finding(a, b, name.kind, score if name.kind == "PASSWORD" else score - 0.05)


def _is_flag(text: str, start: int) -> bool:
    """Whether the word stands in an option of a command, ``--db-password``."""
    head = text[max(0, start - 24) : start]
    word = head.rsplit(None, 1)[-1] if head and not head[-1].isspace() else ""
    return word.startswith("--") or word == "-"


def _of_a_person(lower: str, start: int) -> bool:
    return (
        lower[max(0, start - 12) : start]
        .rstrip()
        .endswith(("my", "our", "mein", "mon", "mi", "minha", "şif", "wifi", "wi-fi"))
    )


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
    other = _OTHER_SCRIPT.search(said) if said[0].isascii() else None
    if other:
        said = said[: other.start()]
    said = said.rstrip(".,;:?)]}\\”»…")
    return (start, start + len(said)) if said else None


class _Use:
    """One place where a name and a value stand together."""

    def __init__(
        self,
        text: str,
        lower: str,
        start: int,
        end: int,
        rest: re.Match[str],
        said: str,
        after: int,
        *,
        flag: bool,
    ) -> None:
        self.text, self.lower, self.rest, self.said, self.after, self.flag = (
            text,
            lower,
            rest,
            said,
            after,
            flag,
        )
        self.start, self.end = start, end
        self.quoted = bool(rest["quote"])
        self.sign = rest["sign"] or rest["tag"] or rest["attribute"] or ("=" if flag else "")

    def holds(self, name: Name) -> bool:
        """Whether the value is a credential."""
        if name.test == "pin":
            return (
                self.said.isdecimal()
                and 3 <= len(self.said) <= 8
                and bool(self.sign or self.rest["is"] or self.lower.startswith("cv", self.start))
            )
        if name.test == "key":
            return key_like(self.said) or self._env_secret()
        if len(self.said) < 4 and not (self.quoted and self.sign):
            return False
        if self.rest["suffix"] and not _SUFFIX.match(self.rest["suffix"]):
            return key_like(self.said) and bool(self.sign)
        if self._is_code():
            return False
        if password_like(
            self.said, quoted=self.quoted or bool(self.rest["closing"].strip("])")), sure=bool(self.sign)
        ):
            return True
        if self.rest["tag"] or self.flag:
            return len(self.said) >= 4
        return self._tied() if self.sign else self._told()

    def _line_before(self) -> str:
        return self.text[self.text.rfind("\n", max(0, self.start - 80), self.start) + 1 : self.start]

    def _is_code(self) -> bool:
        """Whether the value is a name of the program: ``password = user_password``, ``password=password``."""
        said = self.said.lower()
        named = any(w in said for w in ("passw", "pwd", "passwd"))
        return not self.quoted and named and said.replace("_", "").replace(".", "").isalpha()

    def _env_secret(self) -> bool:
        """``JWT_SECRET=anything``, as a line of its own in an environment file."""
        name = self._env_name()
        tight = self.rest["sign"] == "=" and not self.rest["before"] and not self.rest["after"]
        if not (tight and name and _WHOLE_SECRET.search(name.lower())):
            return False
        least = 6 if name.endswith("SECRET") else 8
        return len(self.said) >= least and not self.said.isdecimal() and not is_placeholder(self.said)

    def _env_name(self) -> str:
        head = self.text[max(0, self.start - 60) : self.end + len(self.rest["suffix"])]
        found = _ENV.search(head[-61:])
        return found.group() if found and (self.text[self.end - 1].isupper()) else ""

    def _tied(self) -> bool:
        """A plain word after a sign: a value in files of settings, a name of the program in code."""
        tight = not self.rest["before"] and not self.rest["after"]
        line = self._line_before()
        tail = self.text[self.after : self.after + 2]
        ends = not tail or tail[0] in "\r\n;&" or (tail[0] in "\"'" and not self.quoted)
        alone = (
            not line.strip(" \t-\"'{$#")
            or line.strip().lower() in ("export", "set", "env", "arg")
            or _ENV.search(line) is not None
        )
        if self.rest["sign"] == "=" and tight:
            called = line.rstrip().endswith(("(", ",")) or tail[:1] in ("(", ")")
            return not called and (tail[:1] in ("", "\n", "\r", ";", "&", " ", '"', "'", "`"))
        dotted = re.fullmatch(r"[\w.\[-]*", line.strip(" \t-\"'$")) is not None
        spaced = self.rest["sign"] in ("=", ":", "：") and (alone or dotted)
        return (
            spaced
            and (not tail or tail[0] in "\r\n")
            and not self.said.endswith(";")
            and len(self.said) >= 4
            and is_plain_word(self.said)
            and not _STATE.match(self.said.lower())
        )

    def _told(self) -> bool:
        """A plain word after "my password is"."""
        if self.rest["is"] != "is" or not self.said.isascii():
            return self.quoted and len(self.said) >= 4 and self.rest["is"] is not None
        return (
            _of_a_person(self.lower, self.start)
            and _STATE.match(self.said.lower()) is None
            and _ENDS_SENTENCE.match(self.text, self.after) is not None
        )
