"""Requests of other APIs as OpenAI's chat: Anthropic's Messages API and OpenAI's Responses API.

Stages, cache and ai-proxy know one request, the chat. What a request says that a chat can't say is refused by its name,
never dropped; the few members that change no meaning are left out and listed (`Translated.ignored`). Replies go the
other way in Lua, in the plugin ``tenantgate-format``, for whoever has answered.
"""

from tenantgate.llm.formats.counting import estimate
from tenantgate.llm.formats.paths import Format, counts_tokens, format_of
from tenantgate.llm.formats.reading import Find, Translated
from tenantgate.llm.formats.translate import to_chat

__all__ = ["Find", "Format", "Translated", "counts_tokens", "estimate", "format_of", "to_chat"]
