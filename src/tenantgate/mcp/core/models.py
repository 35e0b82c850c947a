"""A tenant's models as tools: what a call asks of the gateway's own chat operation, and what becomes of the answer.

Nothing of limits, guards, cache or prices is decided here: the request goes through the gateway like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from tenantgate.mcp.core.replies import Result
from tenantgate.mcp.core.tool import (
    Acl,
    Annotations,
    ArgumentError,
    Json,
    Operation,
    Tool,
    UpstreamRequest,
    fingerprint,
)
from tenantgate.mcp.core.validation import Validator, bounds

__all__ = ["ModelCaller", "ModelReader", "model_tool", "name_of"]

_PATH: Final = "/v1/chat/completions"
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")
_LONGEST_NAME: Final = 64
_MESSAGES: Final = 200
_ERROR_CHARACTERS: Final = 2_000

_TEXT: Final = {"type": "string", "minLength": 1}
_INPUT: Final[Json] = {
    # Neither `oneOf` nor `anyOf` here: providers refuse tools that have one at the top.
    "type": "object",
    "properties": {
        "prompt": {**_TEXT, "description": "What is asked; or give messages."},
        "messages": {
            "type": "array",
            "minItems": 1,
            "maxItems": _MESSAGES,
            "description": "A conversation, in place of prompt. The last message is what is asked.",
            "items": {
                "type": "object",
                "properties": {
                    "role": {"type": "string", "enum": ["system", "user", "assistant"]},
                    "content": _TEXT,
                },
                "required": ["role", "content"],
                "additionalProperties": False,
            },
        },
        "system": {**_TEXT, "description": "Instructions that stand before all else."},
        "max_tokens": {
            "type": "integer",
            "minimum": 1,
            "maximum": 1_000_000,
            "description": "Most tokens of the answer.",
        },
    },
    "additionalProperties": False,
}
_COUNT: Final = {"type": "integer", "minimum": 0}
_OUTPUT: Final[Json] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "description": "The answer."},
        "model": {"type": "string", "description": "The model that has answered."},
        "finish_reason": {"type": "string", "description": "stop, or length where the answer is cut off."},
        "usage": {
            "type": "object",
            "properties": {"prompt_tokens": _COUNT, "completion_tokens": _COUNT},
            "required": ["prompt_tokens", "completion_tokens"],
        },
    },
    "required": ["text"],
}
_HINTS: Final = Annotations(read_only=True, destructive=False, idempotent=False, open_world=True)


def name_of(model: str) -> str:
    """The tool's name for a model's name or alias: ``ask-fast`` for ``fast``."""
    return f"ask-{_NOT_IN_NAMES.sub('-', model)}"[:_LONGEST_NAME]


def model_tool(
    model: str,
    *,
    name: str | None = None,
    title: str | None = None,
    description: str | None = None,
    acl: Acl | None = None,
) -> Tool:
    """The tool that asks one of the tenant's models, called `model` by its clients."""
    name = name or name_of(model)
    title = title or ""
    description = description or f"Asks the language model {model!r}, and gives its answer as text."
    hints = {
        "readOnlyHint": _HINTS.read_only,
        "destructiveHint": _HINTS.destructive,
        "idempotentHint": _HINTS.idempotent,
        "openWorldHint": _HINTS.open_world,
    }
    return Tool(
        name=name,
        title=title,
        description=description,
        input_schema=_INPUT,
        output_schema=_OUTPUT,
        annotations=_HINTS,
        operation=Operation(method="POST", path=_PATH),
        acl=acl,
        model=model,
        fingerprint=fingerprint(
            name=name,
            title=title,
            description=description,
            input_schema=_INPUT,
            output_schema=_OUTPUT,
            annotations=hints,
            target=f"model {model}",
        ),
    )


class ModelCaller:
    """As `tenantgate.mcp.core.calls.Caller`, for the tool of a model."""

    def __init__(self, tool: Tool) -> None:
        self.tool = tool
        self._validator = Validator(tool.input_schema)

    def request(self, arguments: Any) -> UpstreamRequest | ArgumentError:
        """The request for a chat; its address is the gateway's own. An argument that is null counts as not given."""
        if not isinstance(arguments, dict):
            return ArgumentError("", "The arguments must be an object.")
        if (error := bounds(arguments)) is not None:
            return error
        given = {name: value for name, value in arguments.items() if value is not None}
        if (error := self._validator.error(given)) is not None:
            return error
        if ("prompt" in given) == ("messages" in given):
            return ArgumentError("prompt", "Give either prompt or messages.")
        return self.masked_request(given)

    def masked_request(self, arguments: Mapping[str, Any]) -> UpstreamRequest:
        """The request of a call whose arguments did fit until a rule masked some: placeholders fit no schema."""
        given = {name: value for name, value in arguments.items() if value is not None}
        messages = given.get("messages") or [{"role": "user", "content": given["prompt"]}]
        if "system" in given:
            messages = [{"role": "system", "content": given["system"]}, *messages]
        body: dict[str, Any] = {"model": self.tool.model, "messages": messages, "stream": False}
        if "max_tokens" in given:
            body["max_tokens"] = int(given["max_tokens"])
        return UpstreamRequest(
            method=self.tool.operation.method,
            url=self.tool.operation.path,
            headers=(("Accept", "application/json"), ("Content-Type", "application/json")),
            body=json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode(),
        )


class ModelReader:
    """As `tenantgate.mcp.core.replies.ReplyReader`, for the tool of a model."""

    def result(self, status: int, content_type: str, body: bytes) -> Result:
        """The result that the gateway's answer to a chat is."""
        del content_type  # the gateway's own answers are JSON
        try:
            found = json.loads(body)
        except (ValueError, RecursionError):
            found = None
        found = found if isinstance(found, dict) else {}
        if status >= 400:
            error = found.get("error")
            said = error.get("message") if isinstance(error, Mapping) else None
            text = f"HTTP {status}: {said}" if isinstance(said, str) else f"HTTP {status}"
            return _error(text[:_ERROR_CHARACTERS])
        choices = found.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
        text_of_answer = _text_of(choice.get("message"))
        if text_of_answer is None:
            return _error("The model gave no text.")
        said_of_it = {"model": found.get("model"), "finish_reason": choice.get("finish_reason")}
        made: dict[str, Any] = {"text": text_of_answer}
        made |= {name: value for name, value in said_of_it.items() if isinstance(value, str)}
        if (usage := _usage(found.get("usage"))) is not None:
            made["usage"] = usage
        return Result(content=({"type": "text", "text": text_of_answer},), structured=made)

    def refitted(self, structured: Mapping[str, Any]) -> dict[str, Any]:
        """Structured content of which a rule masked something, without what doesn't fit the output schema any more."""
        made: dict[str, Any] = {name: value for name, value in structured.items() if isinstance(value, str)}
        if (usage := _usage(structured.get("usage"))) is not None:
            made["usage"] = usage
        return made


def _error(text: str) -> Result:
    return Result(content=({"type": "text", "text": text},), is_error=True)


def _text_of(message: Any) -> str | None:
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    if not content:
        content = message.get("refusal") or content
    return content if isinstance(content, str) else None


def _usage(value: Any) -> dict[str, int] | None:
    names = ("prompt_tokens", "completion_tokens")
    if not isinstance(value, dict) or any(
        isinstance(n := value.get(name), bool) or not isinstance(n, int) or n < 0 for name in names
    ):
        return None
    return {name: value[name] for name in names}
