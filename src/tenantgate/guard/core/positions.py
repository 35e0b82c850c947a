"""Where in OpenAI's chat API a value is an identifier, a word of a fixed list or bytes; everything else is text.

A table of positions, not of names: ``messages[].role`` is a word of a list, a property called ``role`` of a tool's
parameters isn't. What stands at such a position counts as what it should be only if it looks like it; else it is read
as text. Keys that the table doesn't know are text, too.

Source: https://platform.openai.com/docs/api-reference/chat, and the parts that Anthropic, Google and Mistral add to it.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

__all__ = ["EVENTS", "FREE", "INDEXES", "MESSAGE", "REPLY", "REQUEST", "Kind", "Node", "known", "step"]


class Kind(enum.Enum):
    """What a text at a position is."""

    TEXT = "text"
    NAME = "name"  # an identifier
    BYTES = "bytes"  # a file in base64, or an address of one
    NUMBER = "number"
    LINE = "line"  # a line of an event beside its data
    PIECE = "piece"  # a piece of a text that is there as a whole, too
    CODES = "codes"  # such a piece as a list of bytes


@dataclass(frozen=True, slots=True)
class Node:
    """A position, and those below it.

    Attributes:
        kind: what texts and numbers are here.
        words: the fixed list of what may stand here.
        fields: the keys that are known.
        each: what stands under other keys; None for free data.
        items: what a list holds here; None: the same as stands here.
        joined: whether the items of a list belong together, as the parts of one text.
    """

    kind: Kind = Kind.TEXT
    words: frozenset[str] = frozenset()
    fields: Mapping[str, Node] = field(default_factory=dict)
    each: Node | None = None
    items: Node | None = None
    joined: bool = False


def _words(*words: str) -> Node:
    return Node(words=frozenset(words))


FREE: Final = Node()
"""Whatever the application likes."""
_NAME: Final = Node(Kind.NAME)
_BYTES: Final = Node(Kind.BYTES)
_NUMBER: Final = Node(Kind.NUMBER)
_NUMBERS: Final[Node] = Node(Kind.NUMBER, each=Node(Kind.NUMBER, each=Node(Kind.NUMBER)))
_URL: Final = Node(
    Kind.BYTES, fields={"url": _BYTES, "detail": _words("auto", "low", "high"), "format": _NAME}
)
_CACHE: Final = Node(fields={"type": _words("ephemeral"), "ttl": _words("5m", "1h")})


def _schema() -> Node:
    fields: dict[str, Node] = {}
    node = Node(fields=fields)
    named = Node(each=node)
    fields |= {
        "type": _words("object", "string", "number", "integer", "boolean", "array", "null"),
        **dict.fromkeys(
            ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"), named
        ),
        **dict.fromkeys(
            (
                "items",
                "prefixItems",
                "additionalProperties",
                "anyOf",
                "oneOf",
                "allOf",
                "not",
                "if",
                "then",
                "else",
            ),
            node,
        ),
        **dict.fromkeys(("required", "$ref", "$schema", "$id"), _NAME),
        **dict.fromkeys(("description", "title", "enum", "const", "default", "examples", "pattern"), FREE),
        **dict.fromkeys(
            (
                "minimum",
                "maximum",
                "exclusiveMinimum",
                "exclusiveMaximum",
                "multipleOf",
                "minLength",
                "maxLength",
                "minItems",
                "maxItems",
                "minProperties",
                "maxProperties",
                "uniqueItems",
                "nullable",
            ),
            _NUMBER,
        ),
        "format": _NAME,
    }
    return node


_SCHEMA: Final = _schema()
_FUNCTION: Final = Node(
    fields={
        "name": _NAME,
        "description": FREE,
        "parameters": _SCHEMA,
        "schema": _SCHEMA,
        "strict": FREE,
        "arguments": FREE,
        "input": FREE,
    }
)
_CALL: Final = Node(
    fields={
        "id": _NAME,
        "type": _words("function", "custom"),
        "index": _NUMBER,
        "function": _FUNCTION,
        "custom": _FUNCTION,
    }
)


def _part() -> Node:
    fields: dict[str, Node] = {}
    part = Node(fields=fields, joined=True)
    source = {
        "type": _words("base64", "url", "text", "content", "file"),
        "media_type": _NAME,
        "mime_type": _NAME,
        "mimeType": _NAME,
        "data": _BYTES,
        "url": _BYTES,
        "bytes": _BYTES,
        "format": _NAME,
        "file_data": _BYTES,
        "file_id": _NAME,
        "filename": FREE,
        "content": part,
        "b64_json": _BYTES,
        "id": _NAME,
        "transcript": FREE,
        "expires_at": _NUMBER,
    }
    holder = Node(fields=source)
    fields |= {
        "type": _words(
            "text",
            "image_url",
            "input_audio",
            "file",
            "refusal",
            "thinking",
            "redacted_thinking",
            "reference",
            "image",
            "document",
            "document_url",
            "tool_use",
            "tool_result",
            "video_url",
            "audio_url",
            "output_text",
            "input_text",
            "reasoning",
            "search_result",
            "text_delta",
            "thinking_delta",
            "input_json_delta",
            "signature_delta",
            "citations_delta",
            "server_tool_use",
        ),
        **dict.fromkeys(("text", "thinking", "refusal", "summary", "partial_json", "arguments"), FREE),
        **dict.fromkeys(("image_url", "video_url", "audio_url", "document_url"), _URL),
        **dict.fromkeys(("input_audio", "file", "source", "inline_data", "inlineData", "audio"), holder),
        **dict.fromkeys(("id", "tool_use_id", "name", "index"), _NAME),
        "data": _BYTES,
        "content": part,
        "input": FREE,
        "cache_control": _CACHE,
    }
    return part


_PART: Final = _part()
_AUDIO: Final = Node(
    fields={
        "id": _NAME,
        "data": _BYTES,
        "transcript": FREE,
        "expires_at": _NUMBER,
        "voice": _NAME,
        "format": _NAME,
    }
)
_ROLE: Final = _words("system", "developer", "user", "assistant", "tool", "function", "model")
MESSAGE: Final = Node(
    fields={
        "role": _ROLE,
        "tool_call_id": _NAME,
        "tool_calls": _CALL,
        "function_call": _FUNCTION,
        "audio": _AUDIO,
        "content": _PART,
        "parts": _PART,
        "cache_control": _CACHE,
        "id": _NAME,
        "type": _words("message"),
        **dict.fromkeys(
            ("name", "refusal", "reasoning", "reasoning_content", "annotations", "citations"), FREE
        ),
        "images": _PART,
        "model": _NAME,
        "stop_reason": _NAME,
        "usage": _NUMBERS,
    }
)
"""One message of a request or of a reply."""
_TOOL: Final = Node(
    fields={
        "type": _words("function", "custom"),
        "function": _FUNCTION,
        "custom": _FUNCTION,
        "cache_control": _CACHE,
    }
)
_CHOICE_OF_TOOL: Final = Node(
    words=frozenset({"auto", "none", "required", "any"}),
    fields={"type": _words("function"), "function": _FUNCTION},
)
_EFFORT: Final = _words("none", "minimal", "low", "medium", "high", "xhigh", "auto")
REQUEST: Final = Node(
    fields={
        "messages": Node(items=MESSAGE),
        "model": _NAME,
        "tools": _TOOL,
        "functions": _FUNCTION,
        "tool_choice": _CHOICE_OF_TOOL,
        "function_call": _CHOICE_OF_TOOL,
        "response_format": Node(
            fields={
                "type": _words("text", "json_object", "json_schema"),
                "json_schema": _FUNCTION,
                "schema": _SCHEMA,
            }
        ),
        "reasoning_effort": _EFFORT,
        "verbosity": _EFFORT,
        "service_tier": _words("auto", "default", "flex", "priority", "scale"),
        "modalities": _words("text", "audio", "image"),
        "audio": _AUDIO,
        "prediction": Node(fields={"type": _words("content"), "content": _PART}),
        "logit_bias": Node(Kind.NUMBER, each=_NUMBER),
        "stream_options": Node(fields={"include_usage": _NUMBER, "include_obfuscation": _NUMBER}),
        **dict.fromkeys(("user", "safety_identifier", "prompt_cache_key", "stop", "metadata"), FREE),
        **dict.fromkeys(
            (
                "n",
                "seed",
                "temperature",
                "top_p",
                "top_k",
                "min_p",
                "max_tokens",
                "max_completion_tokens",
                "logprobs",
                "top_logprobs",
                "frequency_penalty",
                "presence_penalty",
                "stream",
                "store",
                "parallel_tool_calls",
            ),
            _NUMBER,
        ),
    }
)
"""The body of a request."""
_PIECE: Final = Node(
    fields={
        "token": Node(Kind.PIECE),
        "bytes": Node(Kind.CODES),
        "logprob": _NUMBER,
        "top_logprobs": Node(fields={"token": _NAME, "bytes": _NUMBER, "logprob": _NUMBER}),
    },
    joined=True,
)
_REASON: Final = _NAME
_CHOICE: Final = Node(
    fields={
        "index": _NUMBER,
        "finish_reason": _REASON,
        "native_finish_reason": _REASON,
        "stop_reason": _REASON,
        "message": MESSAGE,
        "delta": MESSAGE,
        "text": FREE,
        "logprobs": Node(fields={"content": _PIECE, "refusal": _PIECE}),
    }
)
_CANDIDATE: Final = Node(fields={"index": _NUMBER, "content": MESSAGE, "finishReason": _REASON})
_ERROR: Final = Node(fields={"message": FREE, "type": _NAME, "code": _NAME, "param": _NAME, "status": _NAME})


def _reply() -> Node:
    fields: dict[str, Node] = {
        **dict.fromkeys(
            (
                "id",
                "object",
                "model",
                "system_fingerprint",
                "service_tier",
                "provider",
                "type",
                "role",
                "stop_reason",
                "modelVersion",
                "responseId",
                "name",
                "obfuscation",
                "finish_reason",
                "event_type",
            ),
            _NAME,
        ),
        **dict.fromkeys(("created", "index", "created_at"), _NUMBER),
        **dict.fromkeys(("usage", "usageMetadata", "billed_units", "metrics"), _NUMBERS),
        "choices": Node(items=_CHOICE),
        "candidates": Node(items=_CANDIDATE),
        "content": _PART,
        "content_block": _PART,
        "delta": Node(fields={**MESSAGE.fields, **_PART.fields, "message": MESSAGE}),
        "error": _ERROR,
        "text": FREE,
        "output": FREE,
    }
    node = Node(fields=fields)
    fields["message"] = MESSAGE
    return node


REPLY: Final = _reply()
"""A provider's reply; what it doesn't know is read as text."""
EVENTS: Final = Node(
    items=Node(fields={"data": replace(REPLY, words=frozenset({"[DONE]"})), "lines": Node(Kind.LINE)})
)
"""The events of a streamed reply (`tenantgate.llm.stream`)."""
INDEXES: Final = ("index", "contentBlockIndex", "output_index", "content_index")
"""Numbers that tell which choice, call or part an event belongs to."""


def step(node: Node, key: str) -> tuple[Node, bool]:
    """The position below `node` under `key`, and whether the key is one of the API's own."""
    found = node.fields.get(key)
    if found is not None:
        return found, True
    return node.each or FREE, False


def known(value: Any, node: Node) -> bool:
    """Whether `value` is a word of the position's list."""
    return isinstance(value, str) and value in node.words
