"""Personal data and secrets in a text: found by rules with checksums, masked by placeholders. Pure.

    findings = find_personal(text) + find_secrets(text)
    masked = mask(text, findings)

A finding says what and where, never the text itself.
"""

from tenantgate.pii.core.decoded_views import Readings, TooDeepError, find_at_last, find_in_views, readings
from tenantgate.pii.core.finding import NAME_KINDS, Finding, Reach, outermost, within
from tenantgate.pii.core.masking import (
    Masked,
    Placeholders,
    changed,
    mask,
    masking,
    recover,
    recovering,
    unmasked,
)
from tenantgate.pii.core.names import find_names
from tenantgate.pii.core.normalise import View, normalise, original_spans, without_surrogates
from tenantgate.pii.core.personal import DEFAULT_KINDS, PERSONAL_KINDS, PERSONAL_REACH, find_personal
from tenantgate.pii.core.secrets import SECRET_KINDS, SECRETS_REACH, find_secrets
from tenantgate.pii.core.text_view import Unit

__all__ = [
    "DEFAULT_KINDS",
    "NAME_KINDS",
    "PERSONAL_KINDS",
    "PERSONAL_REACH",
    "SECRETS_REACH",
    "SECRET_KINDS",
    "Finding",
    "Masked",
    "Placeholders",
    "Reach",
    "Readings",
    "TooDeepError",
    "Unit",
    "View",
    "changed",
    "find_at_last",
    "find_in_views",
    "find_names",
    "find_personal",
    "find_secrets",
    "mask",
    "masking",
    "normalise",
    "original_spans",
    "outermost",
    "readings",
    "recover",
    "recovering",
    "unmasked",
    "within",
    "without_surrogates",
]
