"""Requests in other formats than OpenAI's chat, of other operations, or packed: the stages read them as chats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NoReturn

from tenantgate import llm
from tenantgate.compress.token_counts import token_counter
from tenantgate.engine.core.operations import speaking
from tenantgate.engine.core.tables import BODY_PART
from tenantgate.kong.host import MOST_SENT
from tenantgate.llm import Reason, Refusal
from tenantgate.llm.chat import JSON_TYPE, ChatRequest, request_of
from tenantgate.llm.coding import coding_of, unpacked
from tenantgate.llm.errors import BY_STATUS, error_body
from tenantgate.llm.form import boundary_of
from tenantgate.llm.formats import Format, Translated, counts_tokens, estimate, format_of, to_chat
from tenantgate.llm.operations import Operation, Passed, operation_of
from tenantgate.llm.operations import read as read_operation

if TYPE_CHECKING:
    from tenantgate.engine.core.tables import Decision, PackedLog, PackedRequest
    from tenantgate.engine.exchange import Exchange
    from tenantgate.engine.items import ItemStore
    from tenantgate.kong import Host
    from tenantgate.policy.core.records import ModelPolicy, Target

__all__ = [
    "adapt",
    "as_chat",
    "count_tokens",
    "finish",
    "operation_in",
    "read",
    "send_body",
    "use_model",
    "use_targets",
]

_STATE: Final = "format"
_OPERATION: Final = "operation"
_OPERATION_NOTE: Final = "tenantgate_operation"
"""In ``kong.ctx.shared``, for the journal."""
_CODING: Final = "coding"
_ENCODING: Final = "o200k_base"
_IGNORED: Final = "X-Tenantgate-Ignored"
_ANTHROPIC: Final = "anthropic"
_NEWER_WORD: Final = ("openai", "azure")
"""Providers that know ``max_completion_tokens``; their newer models refuse ``max_tokens``."""


def read(
    exchange: Exchange,
    packed: PackedRequest,
    decision: Decision,
    *,
    most: int = llm.LIMITS.size,
    items: ItemStore | None = None,
) -> PackedRequest:
    """Let all stages read the request as a chat, where it is packed or its path stands for something else.

    Args:
        exchange: of the request.
        packed: the request as it came.
        decision: takes what the log phase must know of it.
        most: bytes of an unpacked body.
        items: of earlier responses; None: none are kept.

    Returns:
        The request, unpacked.

    Raises:
        Answered: it can't be unpacked.
    """
    packed = _unpacked(exchange, packed, decision, most)
    operation = operation_of(packed.path)
    if operation is Operation.CHAT:
        _read_format(exchange, packed, decision, items)
        return packed
    decision.state[_OPERATION] = operation.value
    exchange.operation = operation
    exchange.shared[_OPERATION_NOTE] = operation.otel_name
    found = _read_operation(operation, exchange, packed.body)
    if isinstance(found, Refusal):
        exchange.refuse_unread(found, strict=True)
    else:
        decision.passed = found
        exchange.use_passed(found)
    return packed


def _unpacked(exchange: Exchange, packed: PackedRequest, decision: Decision, most: int) -> PackedRequest:
    coding = coding_of(exchange.headers().all("content-encoding"))
    body = unpacked(packed.body, coding, most) if isinstance(coding, str) else coding
    if isinstance(body, Refusal):
        exchange.refuse_unread(body, strict=True)
    if not isinstance(body, bytes):
        return packed
    decision.state[_CODING] = coding
    exchange.unpack(body)
    return replace(packed, body=body)


def _read_operation(operation: Operation, exchange: Exchange, body: bytes) -> Passed | Refusal:
    headers = exchange.headers()
    kinds = headers.all("content-type")
    boundary = boundary_of(kinds[0]) if len(kinds) == 1 else None
    if boundary is None and (problem := llm.media_problem(kinds, ())):
        return problem
    found = read_operation(operation, body, is_form=boundary is not None)
    if isinstance(found, Passed) and found.form is not None and found.form.boundary != boundary:
        return Refusal(Reason.NOT_CHAT, "The form has another boundary than its Content-Type says.")
    return found


def _read_format(
    exchange: Exchange, packed: PackedRequest, decision: Decision, items: ItemStore | None
) -> None:
    found = format_of(packed.path)
    if found is None:
        return
    decision.state[_STATE] = found.value
    headers = exchange.headers()
    if llm.media_problem(headers.all("content-type"), headers.all("content-encoding")):
        return  # whoever reads the request says so
    find = None if items is None else partial(items.find, packed.tenant, waiting=exchange.waiting)
    made = to_chat(found, packed.body, counting=counts_tokens(packed.path), find=find)
    if isinstance(made, Refusal):
        exchange.use_chat(made)
    else:
        decision.keep_items = made.stored and items is not None
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


def use_model(exchange: Exchange, passed: Passed, model: ModelPolicy, decision: Decision) -> None:
    """Take the targets that speak the operation, and let all stages see the model's own name.

    Raises:
        Answered: there is none, or nobody can check what the model's rules are to check.
    """
    operation = passed.operation
    if not [t for t in model.targets if speaking(t, operation)]:
        _refuse(
            exchange,
            "model",
            f"The model's provider has no operation {operation.path} that this gateway knows.",
        )
    stream = passed.request.stream or operation.raw_reply
    if model.reply_guard and operation.text_reply and stream:
        # Texts of these come in pieces that no rule puts together.
        _refuse(exchange, "model", "Replies of this operation can't be checked by the rules for this model.")
    name = model.targets[0].name if model.routing is None else model.model
    renamed = ChatRequest({**passed.request.body, "model": name}, passed.request.messages)
    exchange.use_passed(replace(passed, request=renamed))
    # Vectors are for the cache alone, which doesn't store large answers. Pictures are nobody's text.
    decision.log_reply = operation in (Operation.EMBEDDINGS, Operation.COMPLETIONS)
    if model.routing is None:
        use_targets(exchange, decision, model.targets)


def use_targets(exchange: Exchange, decision: Decision, targets: Sequence[Target]) -> None:
    """Send the request to these targets, as far as they speak its operation.

    Raises:
        Answered: none does.
    """
    passed = decision.passed
    if passed is not None:
        targets = [made for t in targets if (made := speaking(t, passed.operation))]
        if passed.form is not None:  # Kong can't write another name into a form
            targets = [t for t in targets if t.name == targets[0].name]
        if not targets:
            _refuse(
                exchange, "model", "No provider that speaks this operation can be reached right now.", 503
            )
    decision.target, decision.targets = targets[0], targets


def _refuse(exchange: Exchange, param: str, message: str, status: int = 400) -> NoReturn:
    kind, code = BY_STATUS[status][1:]
    exchange.answer(
        status, error_body(message, kind=kind, code=code, param=param), {"Content-Type": JSON_TYPE}
    )


def finish(exchange: Exchange, decision: Decision) -> None:
    """Write the body for the provider, once all stages have left their mark on it."""
    decision.body = exchange.sent_body
    if decision.passed is None or decision.target is None or exchange.answered is not None:
        return
    request = exchange.chat_request()
    if isinstance(request, Refusal):
        decision.target = None  # the client's own body, which Kong would send then, nobody has checked
    else:
        decision.body = decision.passed.written(request, decision.target.name)


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


def as_chat(packed: PackedLog, items: ItemStore | None = None) -> PackedLog:
    """The end of a request with its body as the chat that the stages have read; without one that was none."""
    coding, name = _text(packed.state.get(_CODING)), _text(packed.state.get(_STATE))
    operation = operation_in(packed)
    if packed.body is None or not (coding or name or operation is not Operation.CHAT):
        return packed
    body: bytes | Refusal = packed.body
    if coding:
        body = unpacked(packed.body, coding, llm.LIMITS.size)
    if isinstance(body, bytes) and name in tuple(Format):
        find = None if items is None else partial(items.find, packed.tenant)
        made = to_chat(Format(name), body, find=find)
        body = made if isinstance(made, Refusal) else llm.write(made.body)
    elif isinstance(body, bytes) and operation is not Operation.CHAT:
        found = read_operation(operation, body, is_form=operation is Operation.TRANSCRIPTIONS)
        body = found if isinstance(found, Refusal) else llm.write(found.request.body)
    return replace(packed, body=b"" if isinstance(body, Refusal) else body)


def operation_in(packed: PackedLog) -> Operation:
    """What the request asked for."""
    name = _text(packed.state.get(_OPERATION))
    return Operation(name) if name in tuple(Operation) else Operation.CHAT


def _text(value: Any) -> str:
    text = value.decode("ascii", "replace") if isinstance(value, bytes) else value
    return text if isinstance(text, str) else ""
