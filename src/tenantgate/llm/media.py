"""Which request bodies are read: JSON in UTF-8, not packed.

ai-proxy reads whatever its ``Content-Type`` begins with, and takes forms and multipart apart, too
(``kong.request.get_body`` in ``kong/pdk/request.lua``), so anything but plain JSON would be read twice, differently.
A missing type is JSON for ai-proxy, and for us.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["media_problem"]

_JSON: Final = "application/json"
_PARAMETER: Final = re.compile(r"""([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([!#$%&'*+.^_`|~0-9A-Za-z-]+|"[^"\\]*")""")
_CHARSETS: Final = frozenset({"utf-8", "utf8", "us-ascii"})


def media_problem(types: Sequence[str], encodings: Sequence[str]) -> Refusal | None:
    """What is wrong with a request's ``Content-Type`` and ``Content-Encoding`` headers, each with all its values."""
    if any(coding.strip().lower() not in ("", "identity") for e in encodings for coding in e.split(",")):
        return _refused("The request body may not be compressed: send it without Content-Encoding.")
    if not types:
        return None
    if len(types) > 1:
        return _refused("The request has more than one Content-Type header.")
    name, *parameters = (part.strip(" \t") for part in types[0].split(";"))
    found = [_PARAMETER.fullmatch(p) for p in parameters if p]
    if name.lower() != _JSON or None in found:
        return _refused("The request body must be JSON: send it with Content-Type: application/json.")
    named = {m[1].lower(): m[2].strip('"').lower() for m in found if m}
    if named.get("charset", "utf-8") not in _CHARSETS:
        return _refused("The request body must be JSON in UTF-8: its Content-Type names another charset.")
    return None


def _refused(message: str) -> Refusal:
    return Refusal(Reason.MEDIA_TYPE, message)
