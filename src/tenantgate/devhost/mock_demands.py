"""What providers demand of a request, and refuse; as far as their documentation says so. Pure.

Sources: https://docs.anthropic.com/en/api/messages, https://docs.mistral.ai/api,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, Final

__all__ = ["anthropic", "bedrock", "mistral", "openai"]

_ANTHROPIC: Final = frozenset(
    "model messages max_tokens metadata output_config stop_sequences stream system temperature thinking "
    "tool_choice tools top_k top_p service_tier".split()
)
_BEDROCK: Final = frozenset(
    "messages system inferenceConfig toolConfig guardrailConfig additionalModelRequestFields requestMetadata "
    "additionalModelResponseFieldPaths promptVariables performanceConfig".split()
)
_INFERENCE: Final = frozenset("maxTokens temperature topP stopSequences".split())
_MISTRAL_REFUSES: Final = ("stream_options", "user", "logprobs", "max_completion_tokens")


def openai(body: Mapping[str, Any]) -> str | None:
    """The first problem of a chat request; None where there is none."""
    if not isinstance(body.get("messages"), list) or not body["messages"]:
        return "messages: required"
    if body.get("stream_options") is not None and not body.get("stream"):
        return "The 'stream_options' parameter is only allowed when 'stream' is enabled."
    if "max_tokens" in body and "max_completion_tokens" in body:
        return "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported."
    return None


def mistral(body: Mapping[str, Any]) -> str | None:
    """The same for Mistral, which refuses parameters that it doesn't know."""
    refused = next((name for name in _MISTRAL_REFUSES if name in body), None)
    return f"{refused}: Extra inputs are not permitted" if refused else openai(body)


def anthropic(body: Mapping[str, Any], headers: Mapping[str, str]) -> str | None:
    """The first problem of a request to Anthropic's Messages API."""
    if "anthropic-version" not in headers:
        return "anthropic-version: header is required"
    if "x-api-key" not in headers:
        return "x-api-key: header is required"
    for name in body:
        if name not in _ANTHROPIC:
            return f"{name}: Extra inputs are not permitted"
    if not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    if not isinstance(body.get("stop_sequences", []), list):
        return "stop_sequences: Input should be a valid list"
    choice = body.get("tool_choice")
    if choice is not None and (not isinstance(choice, dict) or "type" not in choice):
        return "tool_choice: Input should be a valid dictionary"
    for tool in body.get("tools", ()):
        if not isinstance(tool.get("input_schema"), dict) or "name" not in tool:
            return "tools.0.input_schema: Field required"
    return _anthropic_messages(body.get("messages"))


def _anthropic_messages(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages: Field required"
    open_calls: set[str] = set()
    for i, message in enumerate(messages):
        if message.get("role") not in ("user", "assistant"):
            return f"messages.{i}.role: Input should be 'user' or 'assistant'"
        content = message.get("content")
        if isinstance(content, str):
            content = [{"type": "text", "text": content}]
        if not isinstance(content, list) or not content:
            return f"messages.{i}.content: Field required"
        for block in content:
            if problem := _anthropic_block(block):
                return f"messages.{i}.content: {problem}"
        answered = {b["tool_use_id"] for b in content if b["type"] == "tool_result"}
        if open_calls - answered:
            return f"messages.{i}: `tool_use` ids were found without `tool_result` blocks immediately after"
        if answered - open_calls:
            return f"messages.{i}: unexpected `tool_use_id` found in `tool_result` blocks"
        open_calls = {b["id"] for b in content if b["type"] == "tool_use"}
    return None


def _anthropic_block(block: Any) -> str | None:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text":
        return None if isinstance(block.get("text"), str) and block["text"] else "text must be non-empty"
    if kind == "image":
        return None if block.get("source", {}).get("type") in ("base64", "url") else "source: Field required"
    if kind == "tool_use":
        return None if isinstance(block.get("input"), dict) else "input: Input should be a valid dictionary"
    if kind in ("thinking", "redacted_thinking"):
        needed = ("thinking", "signature") if kind == "thinking" else ("data",)
        return None if block.keys() == {"type", *needed} else f"{kind}: Field required"
    if kind == "tool_result":
        inner = block.get("content")
        if isinstance(inner, list) and (problem := next(filter(None, map(_anthropic_block, inner)), None)):
            return f"tool_result.{problem}"
        return None if block.get("tool_use_id") else "tool_use_id: Field required"
    return f"Input tag '{kind}' found does not match any of the expected tags"


def bedrock(body: Mapping[str, Any]) -> str | None:
    """The first problem of a request to Bedrock's Converse."""
    if unknown := _others(body, _BEDROCK):
        return f"{unknown}: extraneous key is not permitted"
    if unknown := _others(body.get("inferenceConfig") or {}, _INFERENCE):
        return f"inferenceConfig.{unknown}: extraneous key is not permitted"
    if not isinstance((body.get("inferenceConfig") or {}).get("stopSequences", []), list):
        return "inferenceConfig.stopSequences: expected type: JSONArray"
    problem = _bedrock_messages(body.get("messages"))
    calls = problem is None and any("toolUse" in b for m in body["messages"] for b in m["content"])
    if calls and "toolConfig" not in body:
        return "The toolConfig field must be defined when using toolUse and toolResult content blocks."
    return problem


def _bedrock_messages(messages: Any) -> str | None:
    if not isinstance(messages, list) or not messages:
        return "messages: required"
    roles = [m.get("role") for m in messages]
    if roles[0] != "user" or any(a == b for a, b in itertools.pairwise(roles)):
        return "A conversation must alternate between user and assistant roles."
    calls: set[str] = set()
    for message in messages:
        blocks = message.get("content")
        if not isinstance(blocks, list) or not blocks:
            return "The content field in the Message object is empty."
        if any(len(block) != 1 for block in blocks):
            return "content: exactly one member of the union must be set"
        results = {b["toolResult"]["toolUseId"] for b in blocks if "toolResult" in b}
        if results != calls:
            return "Expected toolResult blocks for the ids of the toolUse blocks before."
        calls = {b["toolUse"]["toolUseId"] for b in blocks if "toolUse" in b}
    return None


def _others(values: Iterable[str], known: frozenset[str]) -> str | None:
    return next((name for name in values if name not in known), None)
