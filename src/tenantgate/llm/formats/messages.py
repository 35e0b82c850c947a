"""Requests of Anthropic's Messages API as chat requests.

Left out, since they change no meaning: hints for caching (``cache_control``), how much a model is to think
(``thinking``, ``output_config.effort``) and what it has thought before, who asks (``metadata``), how fast it is served.
Sources: https://docs.anthropic.com/en/api/messages, https://docs.anthropic.com/en/docs/build-with-claude/tool-use
"""

from __future__ import annotations

from typing import Any, Final

from tenantgate.llm.body import write
from tenantgate.llm.formats.parts import content_of, function_tool, stream_members, text_part, with_system
from tenantgate.llm.formats.reading import (
    COUNT,
    FLAG,
    LIST,
    NAME,
    NUMBER,
    OBJECT,
    TEXT,
    TEXT_OR_LIST,
    TEXTS,
    Reader,
    type_of,
    unsupported,
    wrong,
)

__all__ = ["chat_of"]

_REQUEST: Final = {
    "model": TEXT,
    "messages": LIST,
    "max_tokens": COUNT,
    "system": TEXT_OR_LIST,
    "stop_sequences": TEXTS,
    "stream": FLAG,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": NUMBER,
    "tools": LIST,
    "tool_choice": OBJECT,
    "output_config": OBJECT,
    "output_format": OBJECT,
    "mcp_servers": LIST,
    "thinking": OBJECT,
}
_IGNORED: Final = ("cache_control", "context_management", "diagnostics", "metadata", "service_tier", "speed")
_HINTS: Final = ("cache_control",)
_CHOICES: Final = {"auto": "auto", "any": "required", "none": "none"}


def chat_of(reader: Reader, request: dict[str, Any]) -> dict[str, Any]:
    """The chat request.

    Raises:
        RefusedError: names the member that a chat can't say, or that is wrong.
    """
    found = reader.required(request, "", _REQUEST, ("messages", "max_tokens"), _IGNORED)
    if found.get("mcp_servers"):
        raise unsupported("mcp_servers")
    messages = [
        made for i, each in enumerate(found["messages"]) for made in _message(reader, each, f"messages[{i}]")
    ]
    if not messages:
        raise wrong("messages", "a list with at least one message")
    if messages[-1]["role"] == "assistant":
        raise unsupported(
            f"messages[{len(found['messages']) - 1}].role", "the beginning of the reply can't be given"
        )
    body: dict[str, Any] = {
        "messages": [*_system(reader, found.get("system")), *messages],
        **{
            name: found[name]
            for name in ("model", "max_tokens", "temperature", "top_p", "top_k")
            if name in found
        },
        **stream_members(stream=found.get("stream")),
    }
    if "thinking" in found:
        if reader.native:
            body["thinking"] = found["thinking"]
        else:
            reader.ignored.add("thinking")
    if found.get("stop_sequences"):
        body["stop"] = found["stop_sequences"]
    if found.get("tools"):
        body["tools"] = [_tool(reader, tool, f"tools[{i}]") for i, tool in enumerate(found["tools"])]
    if "tool_choice" in found:
        body |= _tool_choice(reader, found["tool_choice"])
    return body | _output(reader, found)


def _system(reader: Reader, system: Any) -> list[dict[str, Any]]:
    if not isinstance(system, list):
        return with_system([system or ""], [])
    parts = [_text_part(reader, block, f"system[{i}]") for i, block in enumerate(system)]
    if any("cache_control" in part for part in parts):
        return [{"role": "system", "content": parts}]
    return with_system([part["text"] for part in parts], [])


def _text_part(reader: Reader, block: Any, where: str) -> dict[str, Any]:
    return reader.with_hint(text_part(_text(reader, block, where)), block)


def _text(reader: Reader, block: Any, where: str) -> str:
    kinds = {"type": NAME, "text": TEXT}
    found = reader.required(block, where, kinds, ("type", "text"), (*_HINTS, "citations"))
    if found["type"] != "text":
        raise unsupported(f"{where}.type", "here must be text")
    text: str = found["text"]
    return text


# -- messages ---------------------------------------------------------------------------------------------


def _message(reader: Reader, message: Any, where: str) -> list[dict[str, Any]]:
    found = reader.required(
        message, where, {"role": NAME, "content": TEXT_OR_LIST}, ("role", "content"), _HINTS
    )
    role, content = found["role"], found["content"]
    if role not in ("user", "assistant", "system"):
        raise wrong(f"{where}.role", "user or assistant")
    if isinstance(content, str):
        return [{"role": role, "content": content}]
    if role == "system":
        texts = [_text(reader, block, f"{where}.content[{i}]") for i, block in enumerate(content)]
        return [{"role": role, "content": "\n\n".join(texts)}]
    return (_assistant if role == "assistant" else _user)(reader, content, f"{where}.content")


def _assistant(reader: Reader, blocks: list[Any], where: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[Any] = []
    for i, block in enumerate(blocks):
        at = f"{where}[{i}]"
        match type_of(block, at):
            case "text":
                parts.append(_text_part(reader, block, at))
            case "thinking" | "redacted_thinking" if reader.native:
                kinds = {"type": NAME, "thinking": TEXT, "signature": TEXT, "data": TEXT}
                thoughts.append(reader.members(block, at, kinds, _HINTS))
            case "thinking" | "redacted_thinking":
                reader.ignored.add("thinking")  # its signature is for the provider that it came from
            case "tool_use":
                calls.append(_call(reader, block, at))
            case other:
                raise unsupported(f"{at}.type", f"{other} blocks")
    if any("cache_control" in part for part in parts):
        content: Any = parts
    else:
        content = "\n".join(part["text"] for part in parts) if parts or not calls else None
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["thinking_blocks"] = thoughts
    return [message]


def _call(reader: Reader, block: Any, where: str) -> dict[str, Any]:
    kinds = {"type": NAME, "id": NAME, "name": NAME, "input": OBJECT}
    found = reader.required(block, where, kinds, kinds, (*_HINTS, "caller"))
    function = {"name": found["name"], "arguments": write(found["input"]).decode()}
    return {"id": found["id"], "type": "function", "function": function}


def _user(reader: Reader, blocks: list[Any], where: str) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    parts: list[dict[str, Any]] = []
    shown: list[dict[str, Any]] = []  # images in results, which a chat's tool message can't hold
    for i, block in enumerate(blocks):
        at = f"{where}[{i}]"
        if type_of(block, at) == "tool_result":
            if parts:
                raise unsupported(at, "results of tools must come before everything else in a message")
            result, images = _result(reader, block, at)
            results.append(result)
            shown += images
        else:
            parts.append(_part(reader, block, at))
    if shown or parts:
        results.append({"role": "user", "content": content_of([*shown, *parts])})
    if not results:
        raise wrong(where, "a string or a list with at least one block")
    return results


def _part(reader: Reader, block: Any, where: str) -> dict[str, Any]:
    match type_of(block, where):
        case "text":
            return _text_part(reader, block, where)
        case "image":
            return reader.with_hint(_image(reader, block, where), block)
        case "document":
            return reader.with_hint(text_part(_document(reader, block, where)), block)
        case other:
            raise unsupported(f"{where}.type", f"{other} blocks")


def _image(reader: Reader, block: Any, where: str) -> dict[str, Any]:
    found = reader.required(block, where, {"type": NAME, "source": OBJECT}, ("source",), _HINTS)
    kinds = {"type": NAME, "media_type": NAME, "data": NAME, "url": NAME}
    source = reader.required(found["source"], f"{where}.source", kinds, ("type",))
    match source["type"]:
        case "base64":
            reader.required(found["source"], f"{where}.source", kinds, ("media_type", "data"))
            url = f"data:{source['media_type']};base64,{source['data']}"
        case "url":
            reader.required(found["source"], f"{where}.source", kinds, ("url",))
            url = source["url"]
        case other:
            raise unsupported(f"{where}.source.type", f"images of type {other[:50]}")
    return {"type": "image_url", "image_url": {"url": url}}


def _document(reader: Reader, block: Any, where: str) -> str:
    """A document of plain text. Others hold what no rule of a guard could read."""
    kinds = {"type": NAME, "source": OBJECT, "title": TEXT, "context": TEXT}
    found = reader.required(block, where, kinds, ("source",), (*_HINTS, "citations"))
    at = f"{where}.source"
    if found["source"].get("type") != "text":
        raise unsupported(f"{at}.type", "documents must be of type text")
    source = reader.required(found["source"], at, {"type": NAME, "media_type": TEXT, "data": TEXT}, ("data",))
    return "\n".join(filter(None, (found.get("title"), found.get("context"), source["data"])))


def _result(reader: Reader, block: Any, where: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The tool's message, and what of its content must follow in a message of the user's."""
    kinds = {"type": NAME, "tool_use_id": NAME, "content": TEXT_OR_LIST, "is_error": FLAG}
    found = reader.required(block, where, kinds, ("tool_use_id",), _HINTS)
    content = found.get("content", "")
    texts: list[str] = []
    images: list[dict[str, Any]] = []
    if isinstance(content, str):
        texts.append(content)
    else:
        for i, part in enumerate(content):
            made = _part(reader, part, f"{where}.content[{i}]")
            (texts if made["type"] == "text" else images).append(made.get("text", made))
    if found.get("is_error"):
        texts.insert(0, "The tool failed.")
    identifier = found["tool_use_id"]
    if images:
        texts.append("The images of this result follow in the next message of the user.")
        images.insert(0, text_part(f"Images of the result of {identifier}:"))
    marked = [b for b in (block, *content) if isinstance(b, dict) and b.get("cache_control")]
    part = reader.with_hint(text_part("\n".join(texts)), marked[0] if marked else block)
    return {"role": "tool", "tool_call_id": identifier, "content": content_of([part])}, images


# -- tools and output -------------------------------------------------------------------------------------


def _tool(reader: Reader, tool: Any, where: str) -> dict[str, Any]:
    if isinstance(tool, dict) and tool.get("type") not in (None, "custom"):
        raise unsupported(f"{where}.type", "only tools that the client runs, with an input_schema")
    kinds = {
        "type": NAME,
        "name": NAME,
        "description": TEXT,
        "input_schema": OBJECT,
        "strict": FLAG,
        "defer_loading": FLAG,
        "allowed_callers": TEXTS,
    }
    ignored = (*_HINTS, "eager_input_streaming", "input_examples")
    found = reader.required(tool, where, kinds, ("name", "input_schema"), ignored)
    if found.get("defer_loading"):
        raise unsupported(f"{where}.defer_loading")
    if found.get("allowed_callers", ["direct"]) != ["direct"]:
        raise unsupported(f"{where}.allowed_callers")
    made = function_tool(
        found["name"], found.get("description"), found["input_schema"], strict=found.get("strict")
    )
    reader.with_hint(made["function"], tool)
    return made


def _tool_choice(reader: Reader, choice: Any) -> dict[str, Any]:
    kinds = {"type": NAME, "name": NAME, "disable_parallel_tool_use": FLAG}
    found = reader.required(choice, "tool_choice", kinds, ("type",))
    made: dict[str, Any] = {}
    if found["type"] == "tool":
        reader.required(choice, "tool_choice", kinds, ("name",))
        made["tool_choice"] = {"type": "function", "function": {"name": found["name"]}}
    elif found["type"] in _CHOICES:
        made["tool_choice"] = _CHOICES[found["type"]]
    else:
        raise wrong("tool_choice.type", "auto, any, tool or none")
    if "disable_parallel_tool_use" in found:
        made["parallel_tool_calls"] = not found["disable_parallel_tool_use"]
    return made


def _output(reader: Reader, found: dict[str, Any]) -> dict[str, Any]:
    """Structured output: `output_config.format`, and `output_format` as it was called in beta."""
    kinds = {"format": OBJECT, "effort": NAME}
    config = reader.members(found.get("output_config", {}), "output_config", kinds)
    if "output_format" in found:
        config.setdefault("format", found["output_format"])
    if reader.native:
        return {"output_config": config} if config else {}
    if "effort" in config:
        reader.ignored.add("output_config.effort")
    if "format" not in config:
        return {}
    where, shape = "output_config.format", config["format"]
    given = reader.required(shape, where, {"type": NAME, "schema": OBJECT}, ("type", "schema"))
    if given["type"] != "json_schema":
        raise unsupported(f"{where}.type", "only json_schema")
    schema = {"name": "output", "schema": given["schema"], "strict": True}
    return {"response_format": {"type": "json_schema", "json_schema": schema}}
