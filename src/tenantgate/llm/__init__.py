"""Shapes of OpenAI's API and of Kong's log record: request, reply, stream, usage, error object.

One body for all readers is how a client's request is read, checked and written again.

A gateway's plugins and the gateway itself read the same bytes with different parsers. Wherever two of them could
understand something different, a check of the one says nothing about what the other sends. So there is one strict
grammar (`body`), one check of the members that Kong's ai-proxy interprets (`members`), and one way to write the
result (`body.write`); what goes upstream is what was read, or the request is refused (`refusal`). `media` says which
content types are read at all. Pure: bytes in, frozen values out, nothing raises for what a client sent.

`chat` reads requests and replies, `stream` server-sent events, `usage` counts of tokens, `log_record` Kong's log
record; `errors` builds the error object.
"""

from tenantgate.llm.body import LIMITS, Limits, write
from tenantgate.llm.document import Document, read
from tenantgate.llm.media import media_problem
from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["LIMITS", "Document", "Limits", "Reason", "Refusal", "media_problem", "read", "write"]
