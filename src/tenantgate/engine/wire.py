"""Requests in other formats than OpenAI's chat: the stages read them as chats, and so does the provider's driver."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from tenantgate import llm
from tenantgate.compress.token_counts import token_counter
from tenantgate.kong.host import MOST_SENT
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, request_of
from tenantgate.llm.formats import Format, counts_tokens, estimate, format_of, to_chat

if TYPE_CHECKING:
    from tenantgate.engine.core.tables import Decision, PackedLog, PackedRequest
    from tenantgate.engine.exchange import Exchange

__all__ = ["as_chat", "count_tokens", "read"]

_STATE: Final = "format"
_ENCODING: Final = "o200k_base"
_IGNORED: Final = "X-Tenantgate-Ignored"


def read(exchange: Exchange, packed: PackedRequest, decision: Decision) -> None:
    """Let all stages read the request as a chat, where its path stands for another format."""
    found = format_of(packed.path)
    if found is None:
        return
    decision.state[_STATE] = found.value
    headers = exchange.headers()
    if llm.media_problem(headers.all("content-type"), headers.all("content-encoding")):
        return  # whoever reads the request says so
    made = to_chat(found, packed.body, counting=counts_tokens(packed.path))
    document = made if isinstance(made, Refusal) else llm.read(llm.write(made.body))
    if isinstance(document, Refusal):
        exchange.use_chat(document)
        return
    if len(document.raw) > MOST_SENT:
        # Kong has the client's body only in the client's format.
        exchange.use_chat(
            Refusal(Reason.TOO_LARGE, f"A body of more than {MOST_SENT} bytes can't be translated.")
        )
        return
    if not isinstance(made, Refusal) and made.ignored:
        exchange.reply_headers[_IGNORED] = ", ".join(made.ignored)
    exchange.replace_body(document.raw)
    exchange.use_chat(request_of(document))


def count_tokens(exchange: Exchange, packed: PackedRequest, request: ChatRequest | Refusal) -> None:
    """Answer a request that only asks how many tokens it has, once it has got a model.

    Raises:
        Answered: it was such a request, and is answered. No stage runs: nothing of it goes anywhere.
    """
    if counts_tokens(packed.path) and isinstance(request, ChatRequest):
        found = estimate(request.body, token_counter(_ENCODING).count)
        exchange.answer(200, llm.write({"input_tokens": found}), {"Content-Type": JSON_TYPE})


def as_chat(packed: PackedLog) -> PackedLog:
    """The end of a request with its body as the chat that the stages have read; without one that was none."""
    name: Any = packed.state.get(_STATE)
    name = name.decode("ascii", "replace") if isinstance(name, bytes) else name
    if packed.body is None or name not in tuple(Format):
        return packed
    made = to_chat(Format(name), packed.body)
    return replace(packed, body=b"" if isinstance(made, Refusal) else llm.write(made.body))
