"""Requests of OpenAI's Responses API as chat requests.

The gateway keeps no responses, so what needs one that was kept is refused: ``previous_response_id``,
``conversation``, ``store: true``, ``background``. Items it may keep (`Reader.find`): a reference is replaced by the
item that it means, and refused where there is none. Left out, since they change no meaning: hints for the provider's
cache, ``metadata``, what a model has thought before, limits of tools that aren't supported at all.
Sources: https://platform.openai.com/docs/api-reference/responses/create,
https://platform.openai.com/docs/guides/migrate-to-responses
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

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
    TEXT_OR_OBJECT,
    TEXTS,
    Reader,
    RefusedError,
    type_of,
    unsupported,
    wrong,
)
from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["chat_of"]

_STATELESS: Final = (
    "the gateway keeps no responses; set `store: false` in the SDK, so that it sends the whole conversation"
)
_REQUEST: Final = {
    "model": TEXT,
    "input": TEXT_OR_LIST,
    "instructions": TEXT,
    "max_output_tokens": COUNT,
    "stream": FLAG,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "tools": LIST,
    "tool_choice": TEXT_OR_OBJECT,
    "parallel_tool_calls": FLAG,
    "text": OBJECT,
    "reasoning": OBJECT,
    "include": TEXTS,
    "store": FLAG,
    "background": FLAG,
    "top_logprobs": COUNT,
    "service_tier": TEXT,
    "user": TEXT,
    "safety_identifier": TEXT,
}
_REFERENCE: Final = "item_reference"
_KEPT_THERE: Final = ("previous_response_id", "conversation")
_IGNORED: Final = (
    "client_metadata",
    "max_tool_calls",
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "stream_options",
    "truncation",
)
_SAME: Final = (
    "model",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "service_tier",
    "user",
    "safety_identifier",
)
_ROLES: Final = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
_OF_ITEMS: Final = {"type": NAME, "id": TEXT, "status": TEXT}
_HINTS: Final = ("prompt_cache_breakpoint",)


def chat_of(reader: Reader, request: dict[str, Any]) -> dict[str, Any]:
    """The chat request.

    Raises:
        RefusedError: names the member that a chat can't say, or that is wrong.
    """
    for name in _KEPT_THERE:
        if request.get(name) is not None:
            raise unsupported(name, _STATELESS)
    found = reader.required(request, "", _REQUEST, ("input",), (*_IGNORED, *_KEPT_THERE))
    _check(found)
    given = found["input"]
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    reader.stored = found.get("store") is not False
    items = _with_items(reader, items)
    system, messages = [found["instructions"]] if "instructions" in found else [], _Messages(reader)
    for i, item in enumerate(items):
        messages.add(item, f"input[{i}]")
    system += messages.leading_system()
    if not messages.made:
        raise wrong("input", "a string, or a list with at least one message")
    body: dict[str, Any] = {
        "messages": with_system(system, messages.made),
        **{name: found[name] for name in _SAME if name in found},
        **stream_members(stream=found.get("stream")),
    }
    if "max_output_tokens" in found:
        body["max_tokens"] = found["max_output_tokens"]
    if found.get("tools"):
        body["tools"] = _tools(reader, found["tools"], found.get("tool_choice", "auto"))
    if "tool_choice" in found:
        body["tool_choice"] = _tool_choice(reader, found["tool_choice"])
    if effort := _effort(reader, found.get("reasoning", {})):
        body["reasoning_effort"] = effort
    return body | _text_config(reader, found.get("text", {}))


def _check(found: dict[str, Any]) -> None:
    """Refuse what is none of a chat's."""
    if found.get("store"):
        raise unsupported("store: true", _STATELESS)
    if found.get("background"):
        raise unsupported("background: true", _STATELESS)
    if found.get("top_logprobs"):
        raise unsupported("top_logprobs")
    for name in found.get("include", ()):
        # All others say more about tools that aren't supported, or are for a reasoning item to be sent back.
        if "logprobs" in name:
            raise unsupported("include", "log probabilities")


_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")


def _shown(item: str) -> str:
    """An id in an error's message; no other text of the client's."""
    return item if _PLAIN_ID.fullmatch(item) else "?"


def _with_items(reader: Reader, given: list[Any]) -> list[Any]:
    """The items, each reference replaced by what it refers to; without a look-up they are as they were."""
    ids = [_referred(item, f"input[{i}]") for i, item in enumerate(given)]
    wanted = [each for each in ids if each is not None]
    if not wanted or reader.find is None:
        return given
    if len({*wanted}) < len(wanted):  # a short request could else become a very long one
        told = f"Duplicate item found with id {_shown(next(a for a, n in Counter(wanted).items() if n > 1))}."
        raise RefusedError(Refusal(Reason.NOT_CHAT, told, "input"))
    found: Mapping[str, Any] = reader.find(wanted)
    for each in wanted:
        if each not in found or found[each].get("type") == _REFERENCE:
            told = f"Item with id '{_shown(each)}' not found."
            raise RefusedError(Refusal(Reason.NOT_CHAT, told, "input"))
    return [item if each is None else dict(found[each]) for item, each in zip(given, ids, strict=True)]


def _referred(item: Any, where: str) -> str | None:
    """The id of the item that a reference is for; None for an item itself. OpenAI's may leave out its type."""
    if not isinstance(item, dict):
        return None
    if item.get("type") != _REFERENCE and not (item.get("type") is None and item.keys() <= {"type", "id"}):
        return None
    if not NAME.fits(item.get("id")):
        raise wrong(f"{where}.id", NAME.told)
    found: str = item["id"]
    return found


class _Messages:
    """A chat's messages from input items: what an assistant says and the tools it calls are one message there."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self.made: list[dict[str, Any]] = []

    def add(self, item: Any, where: str) -> None:
        """Take the next item."""
        if not isinstance(item, dict):
            raise wrong(where, OBJECT.told)
        match item.get("type"):
            case None | "message":
                self._message(item, where)
            case "function_call":
                self._call(item, where)
            case "function_call_output":
                self._output(item, where)
            case "reasoning":
                self._reader.ignored.add("reasoning items")  # of the provider that it came from
            case "item_reference":
                raise unsupported(where, f"item_reference: {_STATELESS}")
            case str(other):
                raise unsupported(f"{where}.type", f"{other[:50]} items")
            case _:
                raise wrong(f"{where}.type", TEXT.told)

    def leading_system(self) -> list[str]:
        """Take the system messages from the beginning."""
        taken = []
        while self.made and self.made[0]["role"] == "system" and isinstance(self.made[0]["content"], str):
            taken.append(self.made.pop(0)["content"])
        return taken

    def _message(self, item: dict[str, Any], where: str) -> None:
        kinds = {**_OF_ITEMS, "role": NAME, "content": TEXT_OR_LIST, "phase": TEXT}
        found = self._reader.required(item, where, kinds, ("role", "content"))
        if found["role"] not in _ROLES:
            raise wrong(f"{where}.role", "user, assistant, system or developer")
        role, content = _ROLES[found["role"]], found["content"]
        if isinstance(content, list):
            parts = [_part(self._reader, p, f"{where}.content[{k}]") for k, p in enumerate(content)]
            if not parts:
                raise wrong(f"{where}.content", "a string, or a list with at least one part")
            content = _joined(parts) if role != "user" else content_of(parts)
        self.made.append({"role": role, "content": content})

    def _call(self, item: dict[str, Any], where: str) -> None:
        kinds = {"call_id": NAME, "name": NAME, "arguments": TEXT}
        found = self._reader.required(item, where, {**_OF_ITEMS, **kinds, "namespace": TEXT}, kinds)
        call = {
            "id": found["call_id"],
            "type": "function",
            "function": {"name": _full_name(found), "arguments": found["arguments"]},
        }
        last = self.made[-1] if self.made else None
        if last is None or last["role"] != "assistant":
            last = {"role": "assistant", "content": None}
            self.made.append(last)
        last.setdefault("tool_calls", []).append(call)

    def _output(self, item: dict[str, Any], where: str) -> None:
        kinds = {**_OF_ITEMS, "call_id": NAME, "output": TEXT_OR_LIST, "name": TEXT}
        found = self._reader.required(item, where, kinds, ("call_id", "output"))
        output = found["output"]
        if isinstance(output, list):
            parts = [_part(self._reader, p, f"{where}.output[{k}]") for k, p in enumerate(output)]
            for k, part in enumerate(parts):
                if part["type"] != "text":
                    raise unsupported(f"{where}.output[{k}].type", "a tool's output must be text")
            output = _joined(parts)
        self.made.append({"role": "tool", "tool_call_id": found["call_id"], "content": output})


def _joined(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Texts as one; with anything else among them as they are."""
    if all(part["type"] == "text" for part in parts):
        return "\n".join(part["text"] for part in parts)
    return parts


def _part(reader: Reader, part: Any, where: str) -> dict[str, Any]:
    match type_of(part, where):
        case "input_text" | "output_text" | "text" | "summary_text":
            kinds = {"type": NAME, "text": TEXT, "annotations": LIST, "logprobs": LIST}
            found = reader.required(part, where, kinds, ("text",), _HINTS)
            return text_part(found["text"])
        case "refusal":
            kinds = {"type": NAME, "refusal": TEXT}
            return text_part(reader.required(part, where, kinds, ("refusal",))["refusal"])
        case "input_image":
            kinds = {"type": NAME, "image_url": NAME, "detail": TEXT}
            found = reader.required(part, where, kinds, ("image_url",), _HINTS)
            detail = {"detail": found["detail"]} if "detail" in found else {}
            return {"type": "image_url", "image_url": {"url": found["image_url"], **detail}}
        case other:
            raise unsupported(f"{where}.type", f"{other} parts")


# -- tools and output -------------------------------------------------------------------------------------


def _tools(reader: Reader, tools: list[Any], choice: Any) -> list[dict[str, Any]]:
    made = []
    for i, tool in enumerate(tools):
        match tool:
            case {"type": "namespace"}:
                made += _namespace(reader, tool, f"tools[{i}]")
            case {"type": "web_search", "external_web_access": False} if choice == "auto" and len(tools) > 1:
                # What an agent offers beside its own tools, for OpenAI's index alone; the model needn't use it.
                reader.ignored.add("web_search")
            case _:
                made.append(_tool(reader, tool, f"tools[{i}]"))
    names = [tool["function"]["name"] for tool in made]
    if len({*names}) < len(names):
        raise wrong("tools", "tools with different names")
    return made


def _namespace(reader: Reader, space: dict[str, Any], where: str) -> list[dict[str, Any]]:
    """The tools of a namespace, which the reply's translation puts back there."""
    kinds = {"type": NAME, "name": NAME, "description": TEXT, "tools": LIST}
    found = reader.required(space, where, kinds, ("name", "tools"))
    made = [_tool(reader, tool, f"{where}.tools[{i}]") for i, tool in enumerate(found["tools"])]
    for tool in made:
        function = tool["function"]
        function["name"] = _full_name({"name": function["name"], "namespace": found["name"]})
    return made


def _full_name(called: dict[str, Any]) -> str:
    """A function's name in a chat, which knows no namespaces."""
    space, name = called.get("namespace"), called["name"]
    return f"{space}__{name}" if space else name


def _tool(reader: Reader, tool: Any, where: str) -> dict[str, Any]:
    if isinstance(tool, dict) and tool.get("type") != "function":
        raise unsupported(f"{where}.type", "only tools of type function")
    kinds = {
        "type": NAME,
        "name": NAME,
        "description": TEXT,
        "parameters": OBJECT,
        "strict": FLAG,
        "defer_loading": FLAG,
    }
    found = reader.required(tool, where, kinds, ("name",), ("output_schema",))
    if found.get("defer_loading"):
        raise unsupported(f"{where}.defer_loading")
    return function_tool(
        found["name"], found.get("description"), found.get("parameters"), strict=found.get("strict")
    )


def _tool_choice(reader: Reader, choice: Any) -> Any:
    if isinstance(choice, str):
        if choice not in ("auto", "none", "required"):
            raise wrong("tool_choice", "auto, none, required or a function")
        return choice
    if choice.get("type") != "function":
        raise unsupported("tool_choice.type", "only function")
    found = reader.required(choice, "tool_choice", {"type": NAME, "name": NAME}, ("name",))
    return {"type": "function", "function": {"name": found["name"]}}


def _effort(reader: Reader, reasoning: dict[str, Any]) -> str | None:
    # A summary is given where the provider tells what the model has thought, which the reply's translation sees to.
    ignored = ("summary", "generate_summary", "context")
    return reader.members(reasoning, "reasoning", {"effort": TEXT}, ignored).get("effort")


def _text_config(reader: Reader, text: dict[str, Any]) -> dict[str, Any]:
    found = reader.members(text, "text", {"format": OBJECT, "verbosity": TEXT})
    made: dict[str, Any] = {"verbosity": found["verbosity"]} if "verbosity" in found else {}
    shape = found.get("format", {"type": "text"})
    where = "text.format"
    match shape.get("type"):
        case "text":
            return made
        case "json_object":
            return {**made, "response_format": {"type": "json_object"}}
        case "json_schema":
            kinds = {"type": NAME, "name": NAME, "schema": OBJECT, "strict": FLAG, "description": TEXT}
            schema = reader.required(shape, where, kinds, ("name", "schema"))
            del schema["type"]
            return {**made, "response_format": {"type": "json_schema", "json_schema": schema}}
    raise unsupported(f"{where}.type", "only text, json_object and json_schema")
