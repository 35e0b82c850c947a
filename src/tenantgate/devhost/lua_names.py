"""Names of Kong's PDK and of nginx in Lua code, to refuse at load those that the host doesn't have."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator
from typing import Final

from tenantgate.devhost import variables

__all__ = ["unknown"]

_SKIPPED: Final = re.compile(
    r"""--\[(?P<c>=*)\[.*?\](?P=c)\] | --[^\n]* | \[(?P<s>=*)\[.*?\](?P=s)\]
    | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
    re.DOTALL | re.VERBOSE,
)
_NAME: Final = re.compile(r"(?<![\w.:])(?:kong|ngx)(?:\s*\.\s*[A-Za-z_]\w*)+")


def unknown(code: str, known: Container[str]) -> str | None:
    """The first name below ``kong`` or ``ngx`` that isn't known; None where all are.

    Names that code makes up at run time, or reaches through variables of its own, are not found here; they raise
    when they are used.

    Args:
        code: Lua.
        known: dotted names; of those below which any name may stand, also ``name.*``.
    """
    return next((name for name in _names(code) if not _is_known(name, known)), None)


def _names(code: str) -> Iterator[str]:
    for found in _NAME.finditer(_SKIPPED.sub(" ", code)):
        yield re.sub(r"\s+", "", found[0])


def _is_known(name: str, known: Container[str]) -> bool:
    if name.startswith("ngx.var."):
        variable = name.split(".")[2]
        known_variables = (variables.READ, variables.FORWARDED, variables.FIXED)
        return variable.startswith("http_") or any(variable in names for names in known_variables)
    path = name.split(".")
    if any(".".join(path[:n]) + ".*" in known for n in range(2, len(path))):
        return True
    return name in known
