"""Whether a value that stands where a credential stands is one: random, and no example, reference or word."""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

__all__ = ["CHECKS", "entropy", "is_method", "is_placeholder", "is_plain_word", "key_like", "password_like"]

# What stands in a value's place in examples, templates and code; matched on values of at most 512 characters.
_PLACEHOLDER: Final = re.compile(
    r"(?i)(?:[\"'] ?[+.]|[*•x.#_?…=-]{3,512}+$|\$|%[A-Za-z0-9_]{1,60}+%|%[sdvr(@]|\{|<|\[|@\{|#\{|&lt;|"
    r"(?:null|none|nil|true|false|undefined|string|str|text|varchar|char|bytes|int|any|object|required|optional|"
    r"passwort|kennwort|contraseña|mot de passe|senha|wachtwoord|hasło|пароль|密码|パスワード|비밀번호|şifre|parola|lösenord|"
    r"redacted|removed|hidden|masked|secret|password|passwd|passphrase|pass|pwd|token|changeme|change[_-]?it|"
    r"change[_-]?me|placeholder|dummy|todo|tbd|n/a|empty|unset|unknown|default|value|input|prompt|ask|see|stdin)"
    r"[!?]?$|(?:required|optional|sometimes|nullable)[|]|(?:must|should|please|enter|your|the|is|are|an?|this|at|can(?:not|'t)?|"
    r"new|old|choose|minimum|invalid|incorrect|wrong|no|not|with|for|use|confirm|show|hide|forgot|reset|change|repeat|between|contains?) [a-z]|your|<?my[_-]?(?:password|secret|key|token|api)|(?:os|process|env|self|this|config|settings|request|"
    r"req|args|data|user|form|input|params|cfg|opts|options|ctx|secrets|vars|var|local|module|values|app|props|"
    r"state|system|session|credentials|creds)\.[a-z_]|[a-z_][\w.]{0,200}+[(\[]|(?:get|load|read|fetch)_|"
    r"(?:the|a|an|some|any|insert|enter|replace|put|paste|add)[_-]|(?:example|sample|placeholder|dummy)[_-]?"
    r"(?:key|token|secret|password|value)?$|https?://|file:|vault:|arn:|op://|ref\+|secretref|!vault|!secret|!ref|!sub)"
)


_FIGURE: Final = re.compile(r"\d")
_SAME: Final = re.compile(r"(.)\1{7}")
_METHOD: Final = re.compile(
    r"(?i)(?:sha-?[0-9]{1,3}|md[0-9]|[a-z]{0,6}crypt[0-9]?|argon2\w?|pbkdf2|oauth-?[0-9]|base-?[0-9]{2}|utf-?[0-9]{1,2}|2fa|mfa|"
    r"x?509|[a-z]{2}256|aes-?[0-9]{3}|rsa-?[0-9]{3,4}|ntlmv?[0-9]|v[0-9]|step[0-9]|rfc[0-9]{3,5}|[0-9]{1,3}(?:st|nd|rd|th|x|s|d|h|m|min|chars?))$"
)


def is_method(value: str) -> bool:
    """Whether it is the name of an algorithm, a version or a measure, which stand beside "password", too."""
    return _METHOD.match(value) is not None


def entropy(text: str) -> float:
    """Shannon's entropy in bits per character."""
    n = len(text)
    return -sum(c / n * math.log2(c / n) for c in Counter(text).values()) if n else 0.0


def is_placeholder(value: str) -> bool:
    """Whether `value` stands for a credential, as ``${DB_PASSWORD}`` and ``<your key>`` do, without being one."""
    return _PLACEHOLDER.match(value.lstrip("(")) is not None or _SAME.search(value) is not None


def is_plain_word(value: str) -> bool:
    """Whether it is letters with the joints of ordinary words: "reset-link", "user/password", "don't"."""
    return all(c.isalpha() or c in "-/_.,'" for c in value) and not any(c.isupper() for c in value[1:])


def password_like(value: str, *, quoted: bool, sure: bool) -> bool:
    """Whether a value beside "password" is one, and no word of a sentence.

    Args:
        value: without the quotes.
        quoted: whether it stands in quotes.
        sure: whether a sign, as in ``password=``, ties the value to the name.
    """
    digit = any(c.isdecimal() for c in value)
    kinds = sum(
        (
            any(c.islower() for c in value),
            any(c.isupper() for c in value[1:]),
            digit,
            any(not c.isalnum() for c in value.strip(".,;:!?")),
        )
    )
    if kinds >= 2 and len(value) >= 5 and (digit or sure or kinds >= 3):
        return not is_plain_word(value) or quoted
    if quoted and sure:
        return len(value) >= 4
    return sure and value.isdecimal() and 4 <= len(value) <= 12


def key_like(value: str) -> bool:
    """Whether a value beside "key" or "token" is random: long, with digits, of high entropy."""
    n = len(value)
    if n < 16 or _SAME.search(value):
        return False
    if not any(c.isdecimal() for c in value):  # one in 300 random keys of 32 letters and digits has none
        return (
            n >= 24 and value.isalpha() and entropy(value) >= 4 and sum(c.isupper() for c in value) >= n // 4
        )
    if all(c in "0123456789abcdefABCDEF-" for c in value):
        return n >= 20 and entropy(value) >= 2.8
    letters = sum(c.isalpha() for c in value)
    return letters >= 4 and entropy(value) >= 3.2 and sum(c in "-_./" for c in value) <= n // 5


def _random(value: str) -> bool:
    """Not ``xxxx…`` nor a name: some digits, and no character over and over."""
    return _FIGURE.search(value) is not None and _SAME.search(value) is None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


def _jwt(value: str) -> bool:
    head, dot, _ = value.partition(".")
    raw = _decoded(head) if dot else b""
    return raw[:1] == b"{" and (b'"alg"' in raw or b'"enc"' in raw)


def _header(value: str) -> bool:
    return key_like(value) or b":" in _decoded(value)[1:]


def _base64_pair(value: str) -> bool:
    return b":" in _decoded(value)[1:]


def _key_block(value: str) -> bool:
    # A bare first line in prose is the name of the form, no key.
    return len(value) >= 80


def _value(value: str) -> bool:
    return not is_placeholder(value)


def _url(value: str) -> bool:
    return not is_placeholder(value) and "://" not in value and not value.split("/", 1)[0].isdecimal()


def _curl(value: str) -> bool:
    return (
        not is_placeholder(value)
        and not value.isdecimal()
        and value not in ("root", "www-data", "staff", "wheel")
    )


def _mixed(value: str) -> bool:
    said = value.rstrip(".!?)")
    digits = sum(c.isdecimal() for c in said)
    return (
        not is_placeholder(value)
        and 0 < digits < len(said)
        and any(c.isalpha() for c in said)
        and ":" not in said
    )


def _cli(value: str) -> bool:
    ports = value.replace(":", "").isdecimal() and ":" in value
    return not is_placeholder(value) and not ports


CHECKS: Final[Mapping[str, Callable[[str], bool]]] = MappingProxyType(
    {
        "": lambda _value: True,
        "random": _random,
        "jwt": _jwt,
        "header": _header,
        "key_block": _key_block,
        "value": _value,
        "url": _url,
        "curl": _curl,
        "cli": _cli,
        "base64_pair": _base64_pair,
        "mixed": _mixed,
    }
)
"""The tests that a rule may name."""
