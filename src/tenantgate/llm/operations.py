"""OpenAI's operations besides chat, which Kong passes through: embeddings, completions, images, speech, transcriptions.

Stages know one request, the chat. So the texts of these requests are read as the parts of one message of a user, which
every rule reads, and what a stage changes there goes back to where it stood.
Source: https://platform.openai.com/docs/api-reference
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm import form
from tenantgate.llm.body import parse, write
from tenantgate.llm.chat import ChatRequest
from tenantgate.llm.form import Form
from tenantgate.llm.members import ELSEWHERE, POLICYS, REQUEST_NAMES
from tenantgate.llm.refusal import Reason, Refusal
from tenantgate.llm.spelling import told, variant

__all__ = ["Operation", "Passed", "operation_of", "read"]

_CHAT: Final = "llm/v1/chat"
_COMPLETIONS: Final = "llm/v1/completions"
_PRESERVE: Final = "preserve"


class Operation(enum.StrEnum):
    """What a request asks for."""

    CHAT = "chat"
    """Also in the formats of `tenantgate.llm.formats`."""
    EMBEDDINGS = "embeddings"
    COMPLETIONS = "completions"
    IMAGES = "images"
    SPEECH = "speech"
    TRANSCRIPTIONS = "transcriptions"

    @property
    def path(self) -> str:
        """The path below an API's base, as ``/embeddings``."""
        return _PATHS[self]

    @property
    def otel_name(self) -> str:
        """The operation's name in OpenTelemetry's gen_ai conventions, where it has one there."""
        return {"completions": "text_completion", "images": "image_generation"}.get(self.value, self.value)

    @property
    def raw_reply(self) -> bool:
        """Whether replies may be something else than JSON or server-sent events."""
        return self in (Operation.SPEECH, Operation.TRANSCRIPTIONS)

    @property
    def text_reply(self) -> bool:
        """Whether replies hold text: not vectors, not spoken words."""
        return self not in (Operation.EMBEDDINGS, Operation.SPEECH)


_PATHS: Final[Mapping[Operation, str]] = {
    Operation.CHAT: "/chat/completions",  # before completions, which its path ends with
    Operation.EMBEDDINGS: "/embeddings",
    Operation.COMPLETIONS: "/completions",
    Operation.IMAGES: "/images/generations",
    Operation.SPEECH: "/audio/speech",
    Operation.TRANSCRIPTIONS: "/audio/transcriptions",
}
_TEXTS: Final[Mapping[Operation, tuple[str, ...]]] = {
    Operation.EMBEDDINGS: ("input",),
    Operation.COMPLETIONS: ("prompt", "suffix"),
    Operation.IMAGES: ("prompt",),
    Operation.SPEECH: ("input", "instructions"),
    Operation.TRANSCRIPTIONS: ("prompt",),
}
"""Members with texts, the first one required but for transcriptions."""
_LISTS: Final = frozenset({Operation.EMBEDDINGS, Operation.COMPLETIONS})
_STREAMED: Final = frozenset({Operation.COMPLETIONS, Operation.IMAGES})
# ai-proxy counts what stands in these as a chat's, and fails where that is none (`calculate_cost` in
# kong/llm/drivers/shared.lua).
_NOT_HERE: Final = ("messages", "choices")
_NAMES: Final = REQUEST_NAMES.union(ELSEWHERE, _NOT_HERE, *_TEXTS.values())


def operation_of(path: str) -> Operation:
    """The operation that a path stands for."""
    return next((found for found, end in _PATHS.items() if path.endswith(end)), Operation.CHAT)


@dataclass(frozen=True, slots=True)
class Passed:
    """A request of an operation besides chat.

    Attributes:
        request: as the stages read it.
        shape: by member with texts their number; None where the member is a text itself.
        unread: what in it nobody can read, in a client's words; None: all can be read.
        form: the form that it came as; None: it came as JSON.
    """

    operation: Operation
    request: ChatRequest = field(repr=False)
    shape: tuple[tuple[str, int | None], ...]
    unread: str | None = None
    form: Form | None = field(default=None, repr=False)

    @property
    def route_type(self) -> str:
        """Kong's ``route_type``: as it knows the operation, or ``preserve``."""
        one = self.operation is Operation.COMPLETIONS and dict(self.shape).get("prompt", 0) is None
        return _COMPLETIONS if one else _PRESERVE

    def written(self, request: ChatRequest, model: str) -> bytes:
        """The body for a provider: `request` is this one's as the stages have left it, `model` the provider's name."""
        texts = iter(part["text"] for part in request.messages[0]["content"])
        members = {name: value for name, value in request.body.items() if name != "messages"}
        for name, number in self.shape:
            members[name] = next(texts) if number is None else [next(texts) for _ in range(number)]
        members["model"] = model
        return write(members) if self.form is None else self.form.written(members)


def read(operation: Operation, raw: bytes, *, is_form: bool = False) -> Passed | Refusal:
    """The request in a body of any bytes; `is_form` is whether it came as ``multipart/form-data``."""
    if is_form != (operation is Operation.TRANSCRIPTIONS):
        kind = "multipart/form-data" if not is_form else "application/json"
        return Refusal(Reason.MEDIA_TYPE, f"The request body must be sent with Content-Type: {kind}.")
    found: Form | None = None
    if is_form:
        parsed = form.parse(raw)
        if isinstance(parsed, Refusal):
            return parsed
        found, value = parsed, dict(parsed.texts)
        if value.pop("stream", "false").lower() != "false":
            return _wrong("stream", "isn't supported by this gateway for this operation.")
    else:
        value = parse(raw)
        if isinstance(value, Refusal):
            return value
        if not isinstance(value, dict):
            return Refusal(Reason.NOT_CHAT, "The body must be a JSON object.")
        value = {name: member for name, member in value.items() if member is not None}
    return _checked(operation, value) or _passed(operation, value, found)


def _checked(operation: Operation, value: Mapping[str, Any]) -> Refusal | None:
    if (other := variant(value, _NAMES)) is not None:
        return _wrong(other, f"must be {told(other)}.")
    for name in sorted(ELSEWHERE.intersection(value)):
        return _wrong(name, f"must be {POLICYS}.")
    for name in _NOT_HERE:
        if name in value:
            return _wrong(name, "isn't supported by this gateway for this operation.")
    if not isinstance(value.get("model", ""), str):
        return _wrong("model", "must be a string.")
    stream = value.get("stream", False)
    if not isinstance(stream, bool):
        return _wrong("stream", "must be true or false.")
    if stream and operation not in _STREAMED:
        return _wrong("stream", "isn't supported for this operation.")
    first = _TEXTS[operation][0]
    if first not in value and operation is not Operation.TRANSCRIPTIONS:
        return _wrong(first, "is missing.")
    if stream and operation is Operation.COMPLETIONS and not isinstance(value[first], str):
        return _wrong(first, "must be a string in a request for a stream.")
    return None


def _passed(operation: Operation, value: dict[str, Any], found: Form | None) -> Passed | Refusal:
    shape: list[tuple[str, int | None]] = []
    texts: list[str] = []
    unread = None if found is None or not found.files else "files"
    for name in _TEXTS[operation]:
        if name not in value:
            continue
        member = value[name]
        if isinstance(member, str):
            shape.append((name, None))
            texts.append(member)
        elif operation in _LISTS and _are_texts(member):
            shape.append((name, len(member)))
            texts += member
        elif operation is Operation.EMBEDDINGS and _are_tokens(member):
            unread = "token ids"
        elif operation in _LISTS:
            return _wrong(name, "must be a string or a list of strings, with one at least.")
        else:
            return _wrong(name, "must be a string.")
    named = {name for name, _ in shape}
    # A member's place in the object says nothing. Token ids stay where they are.
    body = {name: member for name, member in value.items() if name not in named}
    message = {"role": "user", "content": [{"type": "text", "text": text} for text in texts]}
    body["messages"] = [message]
    return Passed(operation, ChatRequest(body, (message,)), tuple(shape), unread, found)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _are_tokens(value: Any) -> bool:
    """Whether it is a list of token ids, or of such lists."""
    if not isinstance(value, list) or not value:
        return False
    lists = value if all(isinstance(inner, list) and inner for inner in value) else [value]
    return all(isinstance(t, int) and not isinstance(t, bool) and t >= 0 for inner in lists for t in inner)


def _wrong(name: str, told: str) -> Refusal:
    return Refusal(Reason.NOT_CHAT, f"{name} {told}", name)
