"""Lua that makes Kong's file-log write the audit log's journal."""

from tenantgate.lua_files import script

__all__ = ["journal"]


def journal(correlation_header: str) -> dict[str, str]:
    """``custom_fields_by_lua`` of the file-log that writes the audit log's journal.

    A line for each request, whatever became of it and of our plugins, without anything that the client or the provider
    wrote, but for the end user that the request names. In its place our plugins' verdicts, which hold no text.
    """
    return {
        # By itself, so that whoever looks at Kong's configuration sees that prompts are left out.
        "ai.proxy.payload": "return nil",
        "tenantgate.complete": script("audit", "journal", HEADER=correlation_header),
    }
