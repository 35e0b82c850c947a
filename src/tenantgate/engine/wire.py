"""Requests in other formats than OpenAI's chat: the stages read them as chats, and so does the provider's driver."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from tenantgate import llm
from tenantgate.compress.token_counts import token_counter
from tenantgate.engine.core.tables import BODY_PART
from tenantgate.kong.host import MOST_SENT
from tenantgate.llm import Refusal
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, request_of
from tenantgate.llm.formats import Format, Translated, counts_tokens, estimate, format_of, to_chat

if TYPE_CHECKING:
    from tenantgate.engine.core.tables import Decision, PackedLog, PackedRequest
    from tenantgate.engine.exchange import Exchange
    from tenantgate.kong import Host
    from tenantgate.policy.core.records import Target

__all__ = ["adapt", "as_chat", "count_tokens", "read", "send_body"]

_STATE: Final = "format"
_ENCODING: Final = "o200k_base"
_IGNORED: Final = "X-Tenantgate-Ignored"
_ANTHROPIC: Final = "anthropic"
_NEWER_WORD: Final = ("openai", "azure")
"""Providers that know ``max_completion_tokens``; their newer models refuse ``max_tokens``."""


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
    if isinstance(made, Refusal):
        exchange.use_chat(made)
    else:
        _use(exchange, made)


def _use(exchange: Exchange, made: Translated) -> None:
    document = llm.read(llm.write(made.body))
    if isinstance(document, Refusal):
        exchange.use_chat(document)
        return
    exchange.reply_headers.pop(_IGNORED, None)
    if made.ignored:
        exchange.reply_headers[_IGNORED] = ", ".join(made.ignored)
    exchange.replace_body(document.raw)
    exchange.use_chat(request_of(document))


def adapt(exchange: Exchange, packed: PackedRequest, decision: Decision, targets: Sequence[Target]) -> None:
    """Let a translated request say what all providers of its model understand beyond a chat.

    Anthropic gets its hints back; OpenAI the newer word for the most tokens of a reply.
    """
    request = exchange.chat_request()
    if _STATE not in decision.state or not isinstance(request, ChatRequest):
        return
    if decision.state[_STATE] == Format.MESSAGES and all(t.provider == _ANTHROPIC for t in targets):
        made = to_chat(Format.MESSAGES, packed.body, native=True)
        if isinstance(made, Translated):
            _use(exchange, replace(made, body={**made.body, "model": request.model}))
    elif "max_tokens" in request.body and all(
        t.provider in _NEWER_WORD and "upstream_url" not in t.options for t in targets
    ):
        body = {"max_completion_tokens" if k == "max_tokens" else k: v for k, v in request.body.items()}
        exchange.replace_body(llm.write(body))
        exchange.use_chat(ChatRequest(body, request.messages))


def send_body(host: Host, decision: Decision) -> None:
    """Send a body that is too large for one message to Kong, in parts."""
    body = decision.body
    if body is None or decision.target is None or len(body) <= MOST_SENT:
        return
    for at in range(0, len(body), MOST_SENT):
        decision.body_parts += 1
        host.call("ctx.shared.set", f"{BODY_PART}{decision.body_parts}", body[at : at + MOST_SENT])


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
