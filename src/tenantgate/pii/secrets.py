"""Credentials in a text: keys with a form of their own, and values that a word beside them gives away.

Forms are the providers' own (their documentation, and the public rule sets of gitleaks and detect-secrets were
read for them). Each rule first looks for its literal, so a text without any costs one scan per literal. All
expressions are possessive or of fixed length, so the time is linear in the text.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from tenantgate.checkpoints import checkpoint
from tenantgate.pii.finding import Finding, lower_in_place, outermost

__all__ = ["SECRET_KINDS", "entropy", "find_secrets"]

_START: Final = r"(?<![A-Za-z0-9_])"
_END: Final = r"(?![A-Za-z0-9_])"


@dataclass(frozen=True, slots=True)
class _Form:
    kind: str
    literals: tuple[str, ...]
    form: re.Pattern[str]
    check: Callable[[str], bool] = lambda _text: True


def _form(
    kind: str, literals: str | tuple[str, ...], rest: str, check: Callable[[str], bool] = lambda _text: True
) -> _Form:
    several = (literals,) if isinstance(literals, str) else literals
    heads = "|".join(re.escape(literal) for literal in several)
    return _Form(kind, several, re.compile(f"{_START}(?:{heads}){rest}"), check)


def entropy(text: str) -> float:
    """Shannon's entropy in bits per character."""
    n = len(text)
    return -sum(c / n * math.log2(c / n) for c in Counter(text).values()) if n else 0.0


def _has_digit(text: str) -> bool:
    return any(c.isdecimal() for c in text)


def _is_jwt(text: str) -> bool:
    head = text.split(".", 1)[0]
    try:
        raw = base64.urlsafe_b64decode(head + "=" * (-len(head) % 4))
    except (binascii.Error, ValueError):
        return False
    return raw[:1] == b"{" and (b'"alg"' in raw or b'"enc"' in raw)


_W: Final = "[A-Za-z0-9_]"
_D: Final = "[A-Za-z0-9_-]"
_FORMS: Final = (
    _form("AWS_ACCESS_KEY", ("AKIA", "ASIA", "ABIA", "ACCA"), f"[A-Z0-9]{{16}}{_END}"),
    _form("OPENAI_KEY", ("sk-proj-", "sk-svcacct-", "sk-admin-", "sk-None-"), f"{_D}{{20,400}}+"),
    _form("ANTHROPIC_KEY", "sk-ant-", f"{_D}{{20,400}}+"),
    _form("OPENROUTER_KEY", "sk-or-", f"{_D}{{20,200}}+"),
    _form("OPENAI_KEY", "sk-", "[A-Za-z0-9]{20,400}+(?![A-Za-z0-9_])", _has_digit),
    _form("GITHUB_TOKEN", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), f"[A-Za-z0-9]{{30,255}}+{_END}"),
    _form("GITHUB_TOKEN", "github_pat_", f"{_W}{{20,255}}+"),
    _form("GITLAB_TOKEN", ("glpat-", "glptt-", "gldt-", "glrt-", "glcbt-", "glsoat-", "glft-", "glagent-"),
          f"{_D}{{20,300}}+"),
    _form("SLACK_TOKEN", ("xoxb-", "xoxp-", "xoxa-", "xoxr-", "xoxs-", "xoxe-", "xoxo-", "xapp-", "xoxe.xoxp-",
                          "xoxe.xoxb-"), "[A-Za-z0-9-]{10,250}+", _has_digit),
    _form("STRIPE_KEY", ("sk_live_", "sk_test_", "rk_live_", "rk_test_", "pk_live_", "whsec_"), "[A-Za-z0-9+/=]{16,250}+"),
    _form("GOOGLE_API_KEY", "AIza", f"{_D}{{35}}(?![A-Za-z0-9_-])"),
    _form("GOOGLE_OAUTH", "GOCSPX-", f"{_D}{{20,60}}+"),
    _form("GOOGLE_OAUTH", "ya29.", f"{_D}{{20,1000}}+"),
    _form("NPM_TOKEN", "npm_", f"[A-Za-z0-9]{{36}}{_END}"),
    _form("PYPI_TOKEN", ("pypi-AgEI", "pypi-AgEN"), f"{_D}{{40,1000}}+"),
    _form("HUGGINGFACE_TOKEN", ("hf_", "api_org_"), f"[A-Za-z0-9]{{30,60}}+{_END}"),
    _form("GROQ_KEY", "gsk_", f"[A-Za-z0-9]{{40,80}}+{_END}"),
    _form("XAI_KEY", "xai-", f"[A-Za-z0-9]{{60,120}}+{_END}"),
    _form("PERPLEXITY_KEY", "pplx-", f"[A-Za-z0-9]{{40,80}}+{_END}"),
    _form("REPLICATE_KEY", "r8_", f"[A-Za-z0-9]{{37}}{_END}"),
    _form("LANGFUSE_KEY", ("sk-lf-", "pk-lf-"), "[0-9a-f-]{36}"),
    _form("LANGSMITH_KEY", ("lsv2_pt_", "lsv2_sk_"), f"{_W}{{30,80}}+"),
    _form("SENDGRID_KEY", "SG.", f"{_D}{{16,40}}+\\.{_D}{{30,60}}+"),
    _form("TWILIO_KEY", ("SK", "AC"), f"[0-9a-f]{{32}}{_END}"),
    _form("MAILGUN_KEY", ("key-", "pubkey-"), f"[0-9a-f]{{32}}{_END}"),
    _form("MAILCHIMP_KEY", "", f"[0-9a-f]{{32}}-us[0-9]{{1,2}}+{_END}"),
    _form("DIGITALOCEAN_TOKEN", ("dop_v1_", "doo_v1_", "dor_v1_"), f"[0-9a-f]{{64}}{_END}"),
    _form("SHOPIFY_TOKEN", ("shpat_", "shpca_", "shppa_", "shpss_"), f"[0-9a-fA-F]{{32}}{_END}"),
    _form("SQUARE_TOKEN", ("sq0atp-", "sq0csp-", "EAAA"), f"{_D}{{22,80}}+", _has_digit),
    _form("DATABRICKS_TOKEN", "dapi", f"[0-9a-f]{{32}}(?:-[0-9])?{_END}"),
    _form("VAULT_TOKEN", ("hvs.", "hvb.", "hvr."), f"{_D}{{24,300}}+"),
    _form("TERRAFORM_TOKEN", "", f"[A-Za-z0-9]{{14}}\\.atlasv1\\.{_D}{{60,70}}+"),
    _form("ATLASSIAN_TOKEN", ("ATATT3", "ATCTT3"), r"[A-Za-z0-9_=+/.-]{40,300}+"),
    _form("LINEAR_KEY", "lin_api_", f"[A-Za-z0-9]{{40}}{_END}"),
    _form("NOTION_TOKEN", ("ntn_", "secret_"), f"[A-Za-z0-9]{{40,60}}+{_END}", _has_digit),
    _form("POSTMAN_KEY", "PMAK-", "[0-9a-f]{24}-[0-9a-f]{34}"),
    _form("NEWRELIC_KEY", ("NRAK-", "NRJS-", "NRII-"), "[A-Za-z0-9-]{19,40}+"),
    _form("SENTRY_TOKEN", ("sntrys_", "sntryu_"), r"[A-Za-z0-9_=+/]{40,300}+"),
    _form("DOCKER_TOKEN", ("dckr_pat_", "dckr_oat_"), f"{_D}{{20,60}}+"),
    _form("DOPPLER_TOKEN", ("dp.pt.", "dp.st.", "dp.ct.", "dp.sa."), r"[A-Za-z0-9._-]{40,80}+"),
    _form("RUBYGEMS_KEY", "rubygems_", f"[0-9a-f]{{48}}{_END}"),
    _form("GRAFANA_TOKEN", ("glsa_", "glc_"), r"[A-Za-z0-9_=+/]{32,400}+"),
    _form("FIGMA_TOKEN", ("figd_", "figu_"), f"{_D}{{30,80}}+"),
    _form("AGE_KEY", "AGE-SECRET-KEY-1", "[0-9A-Z]{58}"),
    _form("ALIBABA_KEY", "LTAI", f"[A-Za-z0-9]{{12,28}}+{_END}", _has_digit),
    _form("DISCORD_WEBHOOK", ("https://discord.com/api/webhooks/", "https://discordapp.com/api/webhooks/"),
          r"[0-9]{15,22}+/[A-Za-z0-9_-]{50,90}+"),
    _form("SLACK_WEBHOOK", ("https://hooks.slack.com/services/", "https://hooks.slack.com/workflows/"),
          r"[A-Za-z0-9/_-]{20,120}+"),
    _form("TELEGRAM_TOKEN", "", f"[0-9]{{8,10}}+:AA{_D}{{33}}(?![A-Za-z0-9_-])"),
    _form("JWT", ("eyJ", "ewog"), r"[A-Za-z0-9_-]{8,4000}+\.[A-Za-z0-9_-]{4,8000}+(?:\.[A-Za-z0-9_-]{0,8000}+){0,3}", _is_jwt),
)  # fmt: skip
# Forms without a literal at their beginning need one elsewhere, or every word would be tried.
_INSIDE: Final = {"MAILCHIMP_KEY": "-us", "TERRAFORM_TOKEN": ".atlasv1.", "TELEGRAM_TOKEN": ":AA"}

_PEM: Final = re.compile(
    r"-----BEGIN (?:(?:RSA|DSA|EC|OPENSSH|ENCRYPTED|PGP|SSH2|ANY) ){0,2}+PRIVATE KEY(?: BLOCK)?-----[^-]{0,20000}+"
    r"(?:-----END (?:[A-Z0-9]{1,12} ){0,3}?PRIVATE KEY(?: BLOCK)?-----)?"
)
_URL: Final = re.compile(
    r"(?<![A-Za-z0-9+.-])[A-Za-z][A-Za-z0-9+.-]{1,30}+://[^\s:/@'\"<>]{0,128}+:([^\s/@'\"<>]{1,256}+)@[^\s'\"<>/]{1,256}+"
)
_AZURE: Final = re.compile(r"(?:AccountKey|SharedAccessKey|SharedSecret)=([A-Za-z0-9+/]{20,120}+={0,2})")
_SAS: Final = re.compile(r"[?&;]sig=([A-Za-z0-9%+/]{30,100}+={0,2})")
_BEARER: Final = re.compile(r"(?:[Bb]earer|BEARER|[Bb]asic|BASIC) {1,4}+([A-Za-z0-9._~+/=-]{16,2000}+)")
_AWS_SECRET: Final = re.compile(r"(?<![A-Za-z0-9+/=])[A-Za-z0-9+/]{40}(?![A-Za-z0-9+/=])")
_AWS_WORDS: Final = re.compile(r"(?i)aws|secret[_ -]?access|akia|asia")
_AWS_NEAR: Final = 200

# ``name = value``, ``"name": "value"``, ``name is value``, ``--name value``; on the text in lower case. The value
# isn't consumed, because it may be the next name: ``key='password: …'``.
_NAMED: Final = re.compile(
    r"(passwords?|passwd|passphrase|passcode|pwd|passwort|kennwort|mot de passe|contraseña|senha|wachtwoord|hasło|"
    r"api[ _-]?keys?|secret[ _-]?keys?|access[ _-]?keys?|auth[ _-]?keys?|private[ _-]?keys?|signing[ _-]?keys?|"
    r"encryption[ _-]?keys?|client[ _-]?secrets?|app[ _-]?secrets?|shared[ _-]?secrets?|secrets?|tokens?|credentials?|"
    r"account[ _-]?keys?|storage[ _-]?keys?|connection[ _-]?strings?|pass|key|pin)"
    r"[a-z0-9_-]{0,24}+[\"'`\])]{0,3}+\s{0,4}+(:=|=>|->|=|:|(?:is|was|ist|es|est|è|é)(?=[\s:\"'`])|(?<=[\"'`\s]))[:=]?\s{0,4}+"
    r"([\"'`(\[<{]{0,2}+)(?=([^\s\"'`<>]{4,512}+))"
)
_WORDLIKE: Final = (
    "passw",
    "passp",
    "passc",
    "pwd",
    "kennwort",
    "mot de",
    "contras",
    "senha",
    "wachtwoord",
    "hasło",
    "pass",
)
# What stands in a value's place in examples, templates and code; matched on values of at most 512 characters.
_NO_VALUE: Final = re.compile(
    r"(?i)(?:[*•x.#_?-]{3,512}+$|\$\{?|%|\{\{|<|\[|(?:null|none|nil|true|false|undefined|string|str|text|required|optional|"
    r"redacted|removed|hidden|secret|password|passwd)$|your|my.?(?:password|secret|key|token)|(?:os|process|env|self|this|"
    r"config|settings|request|req|args|data|user|form|input|params)\.|[^(]{0,512}+\(|(?:get|load|read|fetch)_|example|"
    r"placeholder|https?://)"
)


def _password_like(value: str, quoted: bool, sure: bool) -> bool:
    """Whether a value beside "password" is one, and no word of a sentence."""
    kinds = sum(
        (any(c.islower() for c in value), any(c.isupper() for c in value[1:]), _has_digit(value),
         any(not c.isalnum() for c in value.strip(".,;:!?"))),
    )  # fmt: skip
    if kinds >= 2 and len(value) >= 5 and (_has_digit(value) or sure or kinds >= 3):
        return not _is_plain_word(value) or quoted
    if quoted and sure:
        return len(value) >= 5
    return sure and value.isdecimal() and 4 <= len(value) <= 12


def _is_plain_word(value: str) -> bool:
    # "reset-link", "e-mail", "user/password", "don't": letters with the joints of ordinary words
    return all(c.isalpha() or c in "-/_.,'" for c in value) and not any(c.isupper() for c in value[1:])


def _key_like(value: str) -> bool:
    """Whether a value beside "key" or "token" is random: long, with digits, of high entropy."""
    n = len(value)
    if n < 16:
        return False
    if not _has_digit(value):  # one in 300 random keys of 32 letters and digits has none
        return (
            n >= 24 and value.isalpha() and entropy(value) >= 4 and sum(c.isupper() for c in value) >= n // 4
        )
    if all(c in "0123456789abcdefABCDEF-" for c in value):
        return n >= 20 and entropy(value) >= 2.8
    letters = sum(c.isalpha() for c in value)
    return letters >= 4 and entropy(value) >= 3.2 and sum(c in "-_./" for c in value) <= n // 5


def find_secrets(text: str) -> tuple[Finding, ...]:
    """Credentials in the text, in order, without overlaps. Never raises."""
    return outermost(_find(text))


def _find(text: str) -> Iterator[Finding]:
    for rule in _FORMS:
        wanted = _INSIDE.get(rule.kind)
        if wanted in text if wanted is not None else any(literal in text for literal in rule.literals):
            for m in rule.form.finditer(text):
                if rule.check(m.group()):
                    yield Finding(m.start(), m.end(), rule.kind, 0.98)
    yield from _connections(text)
    for m in _BEARER.finditer(text):
        if _key_like(m.group(1)):
            yield Finding(m.start(1), m.end(1), "TOKEN", 0.85)
    yield from _aws_secrets(text)
    yield from _named(text)


def _connections(text: str) -> Iterator[Finding]:
    if "PRIVATE KEY" in text:
        for m in _PEM.finditer(text):
            yield Finding(m.start(), m.end(), "PRIVATE_KEY")
    if "://" in text:
        for m in _URL.finditer(text):
            if not _NO_VALUE.match(m.group(1)):
                yield Finding(m.start(), m.end(), "CONNECTION_STRING", 0.95)
    if "Key=" in text or "Secret=" in text:
        for m in _AZURE.finditer(text):
            yield Finding(m.start(1), m.end(1), "AZURE_KEY", 0.95)
    if "sig=" in text:
        for m in _SAS.finditer(text):
            yield Finding(m.start(1), m.end(1), "AZURE_SAS", 0.9)


def _aws_secrets(text: str) -> Iterator[Finding]:
    hints = [m.start() for m in _AWS_WORDS.finditer(text)]
    if not hints:
        return
    at = 0
    for m in _AWS_SECRET.finditer(text):
        while at + 1 < len(hints) and hints[at + 1] <= m.start():
            at += 1
        near = abs(hints[at] - m.start()) <= _AWS_NEAR or (
            at + 1 < len(hints) and 0 <= hints[at + 1] - m.end() <= _AWS_NEAR
        )
        value = m.group()
        if near and entropy(value) > 4 and _has_digit(value) and value.lower() != value:
            yield Finding(m.start(), m.end(), "AWS_SECRET_KEY", 0.95)


def _named(text: str) -> Iterator[Finding]:
    for m in _NAMED.finditer(lower_in_place(text)):
        checkpoint()
        name, joint, quote = m.group(1), m.group(2), m.group(3)
        value = text[m.start(4) : m.end(4)].rstrip(".,;:!?)]}\\")
        quoted = bool(quote) or text[m.start(2) - 1 : m.start(2)] in "\"'`"
        if len(value) < 4 or _NO_VALUE.match(value):
            continue
        start = m.start(4)
        sure = joint in ("=", ":", ":=", "=>", "->")
        if name.startswith(_WORDLIKE) or name == "pin":
            plain = name in ("pass", "pin")
            inside = plain and text[m.start() - 1 : m.start()].isalpha()
            if joint and not inside and (sure or not plain) and _password_like(value, quoted, sure):
                yield Finding(start, start + len(value), "PASSWORD", 0.9 if sure else 0.7)
        elif _key_like(value):
            yield Finding(start, start + len(value), "TOKEN", 0.85 if joint else 0.7)


SECRET_KINDS: Final = tuple(
    dict.fromkeys(
        (
            *(rule.kind for rule in _FORMS), "PRIVATE_KEY", "CONNECTION_STRING", "AZURE_KEY", "AZURE_SAS",
            "AWS_SECRET_KEY", "PASSWORD", "TOKEN",
        )
    )
)  # fmt: skip
"""All kinds that `find_secrets` gives."""
