"""Lua that refuses what the guards didn't let pass, on routes where a rule blocks or masks."""

from typing import Final

from tenantgate.llm.errors import Code, ErrorType, error_body
from tenantgate.lua_files import script

__all__ = ["GUARD_CHECK", "REPLY_GUARD_BODY", "REPLY_GUARD_CHECK"]

# Lua text in single quotes: the message holds none.
_UNCHECKED: Final = error_body(
    "The content policy can not be checked right now. Try again later.",
    kind=ErrorType.SERVER,
    code=Code.GUARD_UNAVAILABLE,
).decode("ascii")
GUARD_CHECK: Final = script("guard", "refuse_unchecked", UNCHECKED=_UNCHECKED)
REPLY_GUARD_CHECK: Final = script("guard", "reply_head")
REPLY_GUARD_BODY: Final = script("guard", "reply_body", UNCHECKED=_UNCHECKED)
