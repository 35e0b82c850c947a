"""Addresses of people and computers: mail, web, internet protocol, network cards, crypto wallets.

All expressions are possessive or of fixed length, so the time is linear in the text.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Final

from tenantgate.pii.core import checksums
from tenantgate.pii.core.finding import Finding
from tenantgate.time_left import check_time

__all__ = ["find_computers", "find_mail", "find_urls", "find_wallets"]

_EMAIL: Final = re.compile(
    r"(?<![\w.%+-])[\w.%+-][\w.%+'-]{0,63}+@(?:[^\W_](?:[\w-]{0,62}+)\.(?=[\w])){1,8}+[^\W\d_]{2,24}+"
)
_EMAIL_TOLD: Final = re.compile(
    r"(?<![\w.%+-])[\w.%+-]{1,64}+ ?[\[(] ?(?:at|AT|@) ?[\])] ?"
    r"(?:[\w-]{1,63}+(?: ?[\[(] ?(?:dot|DOT|\.) ?[\])] ?|\.(?=\w))){1,6}+[^\W\d_]{2,24}+"
)
_REMOTE: Final = re.compile(
    r"(?:^|[\s`'\"$(;&|])(?:ssh|scp|sftp|rsync|mosh|ssh-copy-id|sshfs|sshpass)\b[^\n]{0,80}$"
)
_PATH: Final = re.compile(r":(?:[\w.~-]{0,64}/|~|[\w-]{1,64}\.git\b)")
_FILES: Final = frozenset(
    (
        "png",
        "jpg",
        "jpeg",
        "gif",
        "svg",
        "webp",
        "js",
        "mjs",
        "jsx",
        "tsx",
        "css",
        "html",
        "json",
        "yaml",
        "yml",
        "toml",
        "lock",
        "tgz",
        "weight",
        "shape",
    )
)
_VERSION: Final = re.compile(r"v?[0-9]{1,9}\.[0-9]")
# Letters beyond ASCII part words in scripts that write without spaces; an underscore marks emphasis.
_ALONE: Final = r"(?<![0-9A-Za-z])(?<![0-9A-Za-z]_)"
_IP4: Final = re.compile(
    rf"{_ALONE}(?<!\.)[0-9]{{1,3}}+\.[0-9]{{1,3}}+\.[0-9]{{1,3}}+\.[0-9]{{1,3}}+(?![0-9A-Za-z]|_[0-9A-Za-z]|\.[0-9])"
)
_IP6: Final = re.compile(r"(?<![\w:.])[0-9A-Fa-f:]{2,39}+(?:\.[0-9]{1,3}){0,3}+(?![\w:])")
_MAC: Final = re.compile(
    rf"{_ALONE}(?<![:-])[0-9A-Fa-f]{{2}}([:-])(?:[0-9A-Fa-f]{{2}}\1){{4}}[0-9A-Fa-f]{{2}}(?![0-9A-Za-z:-]|_[0-9A-Za-z])"
)
_MAC_DOTTED: Final = re.compile(r"(?<![\w.])[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}\.[0-9A-Fa-f]{4}(?![\w.])")
_MAC_SIGNS: Final = (":", "-")
_MANY: Final = 64  # addresses between two looks at the clock
_SHORTEST_WALLET: Final = 26
_URL: Final = re.compile(r"(?<![\w])(?:https?://|www\.)[^\s<>\"'\[\](){}|\\^`]{3,2000}+")
_WALLETS: Final = (
    (
        re.compile(
            r"(?:0x[0-9a-fA-F]{40}|(?:bc1|tb1|ltc1)[02-9ac-hj-np-z]{25,59}+|T[1-9A-HJ-NP-Za-km-z]{33}|r[1-9A-HJ-NP-Za-km-z]{33}|[48][0-9AB][1-9A-HJ-NP-Za-km-z]{93}|addr1[02-9ac-hj-np-z]{50,100}+)"
        ),
        lambda _t: True,
    ),
    (re.compile(r"[13LMD][1-9A-HJ-NP-Za-km-z]{25,34}+"), checksums.base58check),
)
_NO_ADDRESS: Final = re.compile(
    r"(?:version|release|build|firmware|driver|section|sect?\.|chapter|clause|article|paragraph|§|kapitel|abschnitt|version:|"
    r"macos|ios|os x|windows|chrome|firefox|kernel|sdk|patch|update|upgrade(?:d)? to|update(?:d)? to|oid|\bv|figure|table|rule|==|>=|~=|@)[ :=\"'v]{0,3}$"
)
_UPGRADE: Final = re.compile(r"(?:up|down)grade|version|release[sd]? ")
_ADDRESS: Final = re.compile(
    r"(?:\bips?\b|host|server|addr|ping|ssh|dns|gateway|router|subnet|network|connect|client|login|node|machine|curl|nslookup|traceroute|nmap|http|listen|bind|remote|"
    r"source|origin|proxy|vpn|firewall|block|allow|ban|visitor|log|adresse|dirección|indirizzo|адрес|地址|アドレス|주소)"
)


def find_mail(text: str, lower: str) -> Iterator[Finding]:
    """Addresses of electronic mail; accounts in commands such as ssh and in the addresses of repositories are none."""
    if "@" in text:
        for n, m in enumerate(_EMAIL.finditer(text)):
            if n % _MANY == 0:
                check_time()
            if not _of_a_program(text, m):
                yield Finding(m.start(), m.end(), "EMAIL_ADDRESS")
    if any(sign in lower for sign in ("at)", "at]", "at )", "@)", "@]")):
        for m in _EMAIL_TOLD.finditer(text):
            yield Finding(m.start(), m.end(), "EMAIL_ADDRESS", 0.9)


def _of_a_program(text: str, match: re.Match[str]) -> bool:
    """Whether it is an account on a host in a command or a repository's address, a version, a file, or code."""
    local, _, domain = match.group().rpartition("@")
    if domain.rpartition(".")[2].lower() in _FILES or _VERSION.match(domain) or domain.startswith("self."):
        return True
    if _PATH.match(text, match.end()) and not text.startswith("://", match.end()):
        return True
    if local == "git":
        return True
    line = text.rfind("\n", max(0, match.start() - 90), match.start()) + 1
    return _REMOTE.search(text[max(line, match.start() - 90) : match.start()]) is not None


def find_urls(text: str) -> Iterator[Finding]:
    """Addresses on the web."""
    if "://" in text or "www." in text:
        for m in _URL.finditer(text):
            yield Finding(m.start(), m.start() + len(m.group().rstrip(".,;:!?")), "URL", 0.9)


def find_computers(
    text: str, lower: str, groups: Sequence[tuple[int, int]], kinds: frozenset[str]
) -> Iterator[Finding]:
    """Addresses of computers, and of network cards; `groups` are those with digits."""
    colons = text.count(":")
    if "MAC_ADDRESS" in kinds:
        yield from _cards(text, colons, groups)
    if "IP_ADDRESS" in kinds:
        if text.count(".") >= 3 and _joined(text, groups, ".") >= 3:
            yield from _ip4(text, lower)
        if (colons >= 6 or "::" in text) and any(
            ":" in (text[a - 1 : a], text[b : b + 1]) for a, b in groups
        ):
            for m in _IP6.finditer(text):
                if _is_ip6(m.group()):
                    yield Finding(m.start(), m.end(), "IP_ADDRESS", 0.9)


def _joined(text: str, groups: Sequence[tuple[int, int]], sign: str) -> int:
    """How many neighbours have only this sign between them."""
    return sum(1 for (_, a), (b, _) in pairwise(groups) if b - a == 1 and text[a] == sign)


def _cards(text: str, colons: int, groups: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Addresses of network cards."""
    if (colons >= 5 or text.count("-") >= 5) and any(
        end - start == 2 and (text[end : end + 1] in _MAC_SIGNS or text[start - 1 : start] in _MAC_SIGNS)
        for start, end in groups
    ):
        for m in _MAC.finditer(text):
            yield Finding(m.start(), m.end(), "MAC_ADDRESS", 0.9)
    if text.count(".") >= 2 and any(end - start == 4 and text[end : end + 1] == "." for start, end in groups):
        for m in _MAC_DOTTED.finditer(text):
            if any(c.isalpha() for c in m.group()):
                yield Finding(m.start(), m.end(), "MAC_ADDRESS", 0.9)


def _ip4(text: str, lower: str) -> Iterator[Finding]:
    for m in _IP4.finditer(text):
        score = _of_somebody(
            m.group(), lower[max(0, m.start() - 40) : m.start()], text[m.end() : m.end() + 6]
        )
        if score:
            yield Finding(m.start(), m.end(), "IP_ADDRESS", score)


def _is_ip6(value: str) -> bool:
    if (
        value.count(":") < 2
        or not any(c.isdecimal() for c in value)
        or sum(1 for p in value.split(":") if p) < 3
    ):
        return False
    try:
        return not ipaddress.IPv6Address(value).is_unspecified
    except ValueError:
        return False


def _of_somebody(address: str, before: str, after: str) -> float:
    """How sure four numbers are an address of a computer, and not of every computer, a mask, a section, or a version."""
    parts = [int(part) for part in address.split(".")]
    if max(parts) > 255 or parts[0] == 127 or parts[:2] == [255, 255] or not any(parts):
        return 0.0
    if parts[3] == 0 and after.startswith("/"):  # a network, of nobody
        return 0.0
    if _NO_ADDRESS.search(before) or _UPGRADE.search(before):
        return 0.0
    if _ADDRESS.search(before) or re.match(r":[0-9]{2,5}(?![0-9])|/[0-9]{1,2}(?![0-9])", after):
        return 0.95
    # Versions and numbers of sections are made of small numbers.
    return 0.85 if max(parts) >= 100 else 0.0


def find_wallets(text: str, groups: Sequence[tuple[int, int]]) -> Iterator[Finding]:
    """Addresses of crypto wallets among the groups with digits."""
    for start, end in [group for group in groups if group[1] - group[0] >= _SHORTEST_WALLET]:
        for form, check in _WALLETS:
            if form.fullmatch(text, start, end) and check(text[start:end]):
                yield Finding(start, end, "CRYPTO", 0.9)
                break
