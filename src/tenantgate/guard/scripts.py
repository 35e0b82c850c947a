"""Lua that refuses what the guards didn't let pass, on routes where a rule blocks or masks."""

from typing import Final

from tenantgate.lua_files import script

__all__ = ["GUARD_CHECK", "REPLY_GUARD_BODY", "REPLY_GUARD_CHECK"]

_UNCHECKED: Final = (
    '{"error":{"message":"The content policy can not be checked right now. Try again later.",'
    '"type":"server_error","param":null,"code":"guard_unavailable"}}'
)
GUARD_CHECK: Final = script("guard", "check", UNCHECKED=_UNCHECKED)
REPLY_GUARD_CHECK: Final = script("guard", "reply_head")
REPLY_GUARD_BODY: Final = script("guard", "reply_body", UNCHECKED=_UNCHECKED)
