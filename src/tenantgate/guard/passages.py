"""What of a request or a reply is read, as one text, and how a masked text gets back to its place.

Every text of a message counts: its content, all parts, tool results, and the arguments of tool calls, which are
JSON inside a text and are read as such, so that an escape can't hide anything and masking can't break them. In
these the words are the application's, whatever they are called: `id` and `name` are read, long numbers, too, and keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.pii import Finding, within, without_surrogates

__all__ = ["Passage", "of_message", "of_request", "rewrite"]

_JSON: Final = "\0json"  # a step of a path: into JSON that is written in a text
_KEY: Final = "\0key"  # … and to the name of a member, in place of its value
_DEPTH: Final = 64
# Words of the protocol, not of anybody: masking them would break the request.
_PROTOCOL: Final = frozenset(
    {
        "role",
        "type",
        "id",
        "tool_call_id",
        "model",
        "name",
        "detail",
        "object",
        "format",
        "finish_reason",
        "call_id",
    }
)
# What may hold bytes, not words.
_BYTES: Final = frozenset({"data", "file_data", "b64_json", "embedding", "encrypted_content", "url"})
_BASE64: Final = re.compile(r"(?:data:[\w/;=.+-]*;base64,)?[A-Za-z0-9+/=_\s-]*+")
_SHORT: Final = 256  # characters of base64 that may be a key or a token: these are read
_SMALL: Final = 10**5  # numbers below are nobody's
_PLAIN_KEY: Final = re.compile(r"[A-Za-z_-]+|\w{,12}", re.ASCII)  # hardly anybody's name, number or secret
_ENCODED: Final = frozenset({"arguments"})
_OWN: Final = frozenset({"system", "developer", "assistant"})
_NAMED: Final = _OWN | {"user"}
_SETTINGS: Final = frozenset({"reasoning_effort", "service_tier", "logit_bias", "tool_choice"})

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """Several texts as one, with a line end between them.

    Attributes:
        text: all of them.
        pieces: where each one is in `text`, and its path from the value that was walked.
    """

    text: str
    pieces: tuple[tuple[int, int, Path], ...]

    def changed(
        self, findings: Sequence[Finding], change: Callable[[str, tuple[Finding, ...]], str]
    ) -> dict[Path, str]:
        """What `change` makes of each text with findings in it, by path."""
        out = {}
        for start, end, path in self.pieces:
            inside = within(findings, start, end)
            if inside:
                out[path] = change(self.text[start:end], inside)
        return out


def of_request(body: Mapping[str, Any], target: str) -> Passage:
    """The texts of a chat request that a rule's `target` means; paths begin at the body."""
    messages = body.get("messages")
    messages = messages if isinstance(messages, list) else []
    chosen: list[tuple[Path, Any]] = []
    for i, message in enumerate(messages):
        outside = isinstance(message, Mapping) and message.get("role") not in _OWN
        if target == "concatenate_all_content" or (target == "concatenate_user_content" and outside):
            chosen.append((("messages", i), message))
    if target == "last_message" and messages:
        chosen.append((("messages", len(messages) - 1), messages[-1]))
    if target == "concatenate_all_content":
        chosen += [
            ((k,), v)
            for k, v in body.items()
            if k != "messages" and k not in _SETTINGS and k not in _PROTOCOL
        ]
    return _passage(leaf for path, value in chosen for leaf in _leaves(value, path, 0))


def of_message(value: Any) -> Passage:
    """All texts of one message, or of any other JSON value; paths begin there."""
    return _passage(_leaves(value, (), 0))


def rewrite(value: Any, texts: Mapping[Path, str]) -> Any:
    """`value` with the texts at these paths replaced; what isn't on a path is shared, not copied."""
    tree: dict[str | int, Any] = {}
    for path, text in texts.items():
        node = tree
        for step in path[:-1]:
            node = node.setdefault(step, {})
        if not path:
            return text
        node[path[-1]] = text
    return _replaced(value, tree)


def _replaced(value: Any, tree: Any) -> Any:
    if isinstance(tree, str):
        return tree
    if _JSON in tree:
        return json.dumps(_replaced(json.loads(value), tree[_JSON]), ensure_ascii=False)
    if isinstance(value, list):
        return [_replaced(v, tree[i]) if i in tree else v for i, v in enumerate(value)]
    names = tree.get(_KEY, {})
    return {names.get(k, k): _replaced(v, tree[k]) if k in tree else v for k, v in value.items()}


def _passage(leaves: Iterable[tuple[Path, str]]) -> Passage:
    parts, pieces, at = [], [], 0
    for path, raw in leaves:
        text = without_surrogates(raw)
        pieces.append((at, at + len(text), path))
        parts.append(text)
        at += len(text) + 1
    return Passage("\n".join(parts), tuple(pieces))


def _leaves(value: Any, path: Path, depth: int, *, theirs: bool = False) -> Iterator[tuple[Path, str]]:
    """The texts within `value`; `theirs`: in the arguments of a tool call, which have no words of the protocol."""
    key = path[-1] if path else ""
    if isinstance(value, str):
        inner = _parsed(value) if key in _ENCODED and not theirs else None
        if inner is not None:
            yield from _leaves(inner, (*path, _JSON), depth + 1, theirs=True)
        elif value and (theirs or not _bytes(key, value)):
            yield path, value
    elif isinstance(value, list | Mapping):
        for step, item in _inside(value, theirs=theirs) if depth < _DEPTH else ():
            yield from _leaves(item, (*path, *step), depth + 1, theirs=theirs)
    elif isinstance(value, int) and (theirs or key == "content") and abs(value) >= _SMALL:
        yield path, str(value)


def _inside(value: list[Any] | Mapping[str, Any], *, theirs: bool) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, list):
        yield from (((i,), item) for i, item in enumerate(value))
        return
    for name, item in value.items():
        if theirs and not _PLAIN_KEY.fullmatch(name):
            yield (_KEY, name), name
        # The name of a message's author is the application's choice, that of a tool is not.
        if theirs or name not in _PROTOCOL or (name == "name" and value.get("role") in _NAMED):
            yield (name,), item


def _bytes(key: str | int, value: str) -> bool:
    return key in _BYTES and len(value) >= _SHORT and _BASE64.fullmatch(value) is not None


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list | str) else None
