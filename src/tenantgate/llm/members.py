"""The members of a chat request that Kong's ai-proxy or Tenantgate interprets, each of its one type.

Lua takes any value but ``false`` for true, null included, so ``"stream": "false"`` would be a stream for ai-proxy and
none for us. What both interpret must therefore have the type of OpenAI's API, or the request is refused by the member's
name. A null where the API has an optional member means that it is absent, and is taken out. Other members pass as
they are, unless they are one of these in another spelling (`tenantgate.llm.spelling`).
Source: https://platform.openai.com/docs/api-reference/chat/create, kong/llm/drivers/*.lua
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.llm.body import Limits
from tenantgate.llm.refusal import Reason, Refusal
from tenantgate.llm.spelling import ALSO, told, variant

__all__ = ["ELSEWHERE", "POLICYS", "REQUEST_NAMES", "checked"]


@dataclass(frozen=True, slots=True)
class _Type:
    told: str
    fits: Callable[[Any], bool]


def _whole(value: Any) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )


def _objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(v, dict) for v in value)


_TEXT: Final = _Type("a string", lambda v: isinstance(v, str))
_NAME: Final = _Type("a string that isn't empty", lambda v: isinstance(v, str) and v != "")
_FLAG: Final = _Type("true or false", lambda v: isinstance(v, bool))
_COUNT: Final = _Type("a whole number, 0 or more", lambda v: _whole(v) and v >= 0)
_WHOLE: Final = _Type("a whole number", _whole)
_NUMBER: Final = _Type("a number", lambda v: isinstance(v, int | float) and not isinstance(v, bool))
_OBJECT: Final = _Type("an object", lambda v: isinstance(v, dict))
_OBJECTS: Final = _Type("a list of objects", _objects)
_CONTENT: Final = _Type("a string, a list of parts, or null", lambda v: isinstance(v, str) or _objects(v))
_CHOICE: Final = _Type("a string or an object", lambda v: isinstance(v, str | dict))
_STOPS: Final = _Type(
    "a string or a list of strings",
    lambda v: isinstance(v, str) or (isinstance(v, list) and all(isinstance(s, str) for s in v)),
)

_REQUEST: Final[Mapping[str, _Type]] = {
    "model": _TEXT,
    "stream": _FLAG,
    "stream_options": _OBJECT,
    "n": _COUNT,
    "max_tokens": _COUNT,
    "max_completion_tokens": _COUNT,
    "temperature": _NUMBER,
    "top_p": _NUMBER,
    "top_k": _NUMBER,
    "seed": _WHOLE,
    "presence_penalty": _NUMBER,
    "frequency_penalty": _NUMBER,
    "stop": _STOPS,
    "tools": _OBJECTS,
    "tool_choice": _CHOICE,
    "parallel_tool_calls": _FLAG,
    "response_format": _OBJECT,
    "user": _TEXT,
    "logit_bias": _OBJECT,
    "logprobs": _FLAG,
    "top_logprobs": _COUNT,
}
REQUEST_NAMES: Final = frozenset({*_REQUEST, *ALSO, "messages"})
"""Members of a chat request that Tenantgate goes by."""
ELSEWHERE: Final = frozenset(
    "api_base api_key base_url context_window_fallbacks custom_llm_provider extra_body fallbacks models "
    "router_settings_override".split()
)
"""Members by which a gateway behind this one, as an `openai-compatible` target may be, takes another model, address or
credential than the policy's, or parameters that nobody has read: LiteLLM's and OpenRouter's.

Sources: https://docs.litellm.ai/docs/proxy/clientside_auth, https://docs.litellm.ai/docs/proxy/reliability,
https://openrouter.ai/docs/features/model-routing
"""
POLICYS: Final = "left out: the tenant's policy says who answers"
_KNOWN: Final = REQUEST_NAMES | ELSEWHERE
_STREAM_OPTIONS: Final[Mapping[str, _Type]] = {"include_usage": _FLAG}
_MESSAGE: Final[Mapping[str, _Type]] = {
    "role": _NAME,
    "name": _TEXT,
    "tool_calls": _OBJECTS,
    "tool_call_id": _TEXT,
    "function_call": _OBJECT,
}
_CALL: Final[Mapping[str, _Type]] = {"id": _TEXT, "type": _TEXT, "function": _OBJECT}
_FUNCTION: Final[Mapping[str, _Type]] = {"name": _TEXT, "arguments": _TEXT}
_PART: Final[Mapping[str, _Type]] = {"type": _TEXT, "text": _TEXT}
_MESSAGE_NAMES: Final = frozenset({*_MESSAGE, "content"})


class _Refused(ValueError):  # noqa: N818 - control flow within this module
    def __init__(self, reason: Reason, param: str, told: str) -> None:
        super().__init__(param)
        self.refusal = Refusal(reason, f"{param} must be {told}.", param)


def checked(body: Any, limits: Limits) -> Refusal | dict[str, Any]:
    """`body` as a chat request, without nulls of optional members; or the first thing that is wrong.

    What needs no change is shared with `body`, which stays as it was.
    """
    if not isinstance(body, dict):
        return Refusal(Reason.NOT_CHAT, "The body must be a JSON object with a member `messages`.")
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return Refusal(Reason.NOT_CHAT, "messages must be a list with at least one message.", "messages")
    if len(messages) > limits.messages:
        return Refusal(
            Reason.TOO_LARGE, f"messages must have {limits.messages} messages at most.", "messages"
        )
    try:
        _spelt(body, _KNOWN, "")
        _own(body)
        request = _typed(body, _REQUEST, "")
        if "stream_options" in request:
            options = request["stream_options"]
            _spelt(options, _STREAM_OPTIONS, "stream_options")
            request = _put(request, "stream_options", _typed(options, _STREAM_OPTIONS, "stream_options"))
        return _put(request, "messages", _same(messages, [_message(m, i) for i, m in enumerate(messages)]))
    except _Refused as refused:
        return refused.refusal


def _message(message: Any, i: int) -> dict[str, Any]:
    where = f"messages[{i}]"
    if not isinstance(message, dict):
        raise _Refused(Reason.NOT_CHAT, where, "an object")
    _spelt(message, _MESSAGE_NAMES, where)
    if message.get("role") is None:
        raise _Refused(Reason.NOT_CHAT, f"{where}.role", _NAME.told)
    found = _typed(message, _MESSAGE, where)
    content = found.get("content")
    if content is not None and not _CONTENT.fits(content):
        raise _Refused(Reason.NOT_CHAT, f"{where}.content", _CONTENT.told)
    if isinstance(content, list):
        for k, part in enumerate(content):
            _only(part, _PART, f"{where}.content[{k}]")
    for k, call in enumerate(found.get("tool_calls", ())):
        _only(call, _CALL, f"{where}.tool_calls[{k}]")
        if isinstance(function := call.get("function"), dict):
            _only(function, _FUNCTION, f"{where}.tool_calls[{k}].function")
    return found


def _typed(found: dict[str, Any], types: Mapping[str, _Type], where: str) -> dict[str, Any]:
    """`found`, whose known members have their types, without those that are null."""
    absent = []
    for name, value in found.items():
        kind = types.get(name)
        if kind is None:
            continue
        if value is None:
            absent.append(name)
        elif not kind.fits(value):
            raise _Refused(Reason.NOT_CHAT, f"{where}.{name}" if where else name, kind.told)
    return {k: v for k, v in found.items() if k not in absent} if absent else found


def _only(found: dict[str, Any], types: Mapping[str, _Type], where: str) -> None:
    """The same where a null is no absence: it passes as it is."""
    _spelt(found, types, where)
    for name, kind in types.items():
        value = found.get(name)
        if value is not None and not kind.fits(value):
            raise _Refused(Reason.NOT_CHAT, f"{where}.{name}", kind.told)


def _spelt(found: Mapping[str, Any], known: Collection[str], where: str) -> None:
    name = variant(found, known)
    if name is not None:
        raise _Refused(Reason.NOT_CHAT, f"{where}.{name}" if where else name, told(name))


def _own(body: Mapping[str, Any]) -> None:
    for name in sorted(ELSEWHERE.intersection(body)):
        raise _Refused(Reason.NOT_CHAT, name, POLICYS)


def _put(found: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return found if found[name] is value else {**found, name: value}


def _same(old: list[Any], new: list[Any]) -> list[Any]:
    return old if all(a is b for a, b in zip(old, new, strict=True)) else new
