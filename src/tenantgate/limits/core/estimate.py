"""Tokens of a prompt before anybody has counted them: a plain estimate, and one that is hardly ever exceeded.

What is sent is counted by the vocabulary of OpenAI's models since GPT-4o, which is in memory anyway. Other families
count otherwise, so for the upper estimate their counts are taken as so many times that (`FACTORS`), and never as more
than a token for each byte, which no byte-level vocabulary exceeds. Beyond `COUNTED` characters every byte is a token of
the upper estimate, so that the work is linear and small; a model's context window bounds what a prompt can cost anyway.

Sources: https://platform.openai.com/docs/guides/images-vision (tokens of images),
https://docs.anthropic.com/en/docs/build-with-claude/vision, https://docs.anthropic.com/en/docs/build-with-claude/tool-use
(the system prompt of tools), https://ai.google.dev/gemini-api/docs/tokens (audio: 32 tokens a second).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tenantgate.llm.body import write

__all__ = ["COUNTED", "FACTORS", "NO_PROMPT", "Prompt", "factor_of", "prompt_of"]

COUNTED: Final = 262_144
"""Characters of a prompt that the vocabulary counts: 5 ms of text, 100 ms of random letters."""
_PIECE: Final = 8_192
"""Characters that are counted at once; the cost of one long word grows faster than its length."""
_BYTES_PER_TOKEN: Final = 4
"""Of what isn't counted, for the plain estimate."""

FACTORS: Final[Mapping[str, float]] = {
    "openai": 1.0,
    "gemini": 1.3,
    "mistral": 1.4,
    "other": 1.5,
    "anthropic": 1.8,
}
"""By family of vocabularies, how many times the tokens of ``o200k_base`` a text of ASCII has at most. Anthropic's
current vocabulary makes up to 1.35 times the tokens of the one before, which made about 1.2 times OpenAI's."""
_NEWER_OPENAI: Final = ("gpt-4o", "gpt-4.1", "gpt-4.5", "gpt-5", "chatgpt", "o1", "o3", "o4", "gpt-image")
_ANTHROPIC: Final = ("anthropic", "claude")

_NO_PROMPT: Final = frozenset(
    ("messages", "input", "model", "user", "metadata", "stop", "stream_options", "logit_bias", "tool_choice")
)
"""Members of the body that are no part of the prompt, or are counted apart. Any other may be one: tools, a schema, what
is predicted, documents that a provider knows of."""
_NO_TEXT: Final = ("role", "tool_call_id")
_TEXT_PARTS: Final = ("text", "input_text", "output_text", "refusal", "thinking", "tool_use", "tool_result")
_SPOKEN: Final = 2_000, 16_384
"""An earlier reply's audio, of which the request has the id: at most the tokens of a reply."""
_MESSAGE: Final = 4, 8
"""Tokens around each message: OpenAI's, and a template's with names of roles."""
_BEGINNING: Final = 3, 50
_TOOLS: Final = 0, 900
"""Tokens by which a provider introduces tools."""
_IMAGE: Final = 1_500, 5_000
"""Anthropic's largest take 4,784, OpenAI's 1,536 patches times 2.46 at most."""
_IMAGE_MINI: Final = 2_833 + 5_667 * 4, 2_833 + 5_667 * 8
"""The same of gpt-4o-mini, which counts 5,667 for each tile of 512 × 512."""
_FILE: Final = 200_000
"""Tokens of a file that the provider has already: its size isn't known."""
_FILE_BYTES: Final = 8, 1
"""Bytes of a document for a token: a compressed page holds about as many tokens as bytes at most."""
_AUDIO_BYTES: Final = 500, 16
"""Bytes of audio for a token: 32 tokens a second, from 512 bytes a second on."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """Tokens of a prompt.

    Attributes:
        expected: as they probably are.
        worst: as they hardly ever are exceeded; at least `expected`.
        audio: whether audio is among it, which may have a price of its own.
    """

    expected: int
    worst: int
    audio: bool = False


NO_PROMPT: Final = Prompt(0, 0)


def factor_of(provider: str, model: str) -> float:
    """How many times the counted tokens a model may have; `provider` is ai-proxy's, `model` the provider's name."""
    name = model.lower()
    if any(word in name or word == provider for word in _ANTHROPIC):
        return FACTORS["anthropic"]
    if name.startswith(_NEWER_OPENAI) and provider in ("openai", "azure"):
        return FACTORS["openai"]
    if provider == "gemini" or "gemini" in name:
        return FACTORS["gemini"]
    return FACTORS["mistral" if provider == "mistral" else "other"]


def prompt_of(
    body: Mapping[str, Any],
    count: Callable[[str], int],
    *,
    factor: float = 1.0,
    model: str = "",
    context_window: int | None = None,
) -> Prompt:
    """The tokens of a chat's prompt, or of another operation's that is read as one.

    Args:
        body: of the request, with its ``messages``.
        count: tokens of a text by ``o200k_base``.
        factor: the largest of the models that may answer (`factor_of`).
        model: the provider's name of the model, by which images count.
        context_window: tokens that all models which may answer take at most; None: not known.
    """
    text, sizes = _Text(count), [_BEGINNING]
    messages = body.get("messages")
    audio = False
    for message in messages if isinstance(messages, list | tuple) else ():
        if isinstance(message, Mapping):
            sizes.append(_MESSAGE)
            audio |= _add_message(message, text, sizes, model)
    for name, value in body.items():
        if name not in _NO_PROMPT and isinstance(value, str | list | tuple | Mapping):
            text.add(value)
    if "tools" in body or "functions" in body:
        sizes.append(_TOOLS)
    sizes += (_tokens_given(body.get("input")), text.counted(factor))
    expected, worst = (sum(size[i] for size in sizes) for i in (0, 1))
    if context_window is not None:
        expected, worst = min(expected, context_window), min(worst, context_window)
    return Prompt(min(expected, worst), worst, audio)


def _add_message(message: Mapping[str, Any], text: _Text, sizes: list[tuple[int, int]], model: str) -> bool:
    """Add a message's texts and what else has tokens; whether it has audio."""
    for value in _members(message):
        text.add(value)
    audio = isinstance(message.get("audio"), Mapping)
    if audio:
        sizes.append(_SPOKEN)
    for part in _parts(message):
        found = _part_tokens(part, model)
        audio = audio or part.get("type") == "input_audio"
        if found is None:
            text.add(part.get("text") if isinstance(part.get("text"), str) else part)
        else:
            sizes.append(found)
    return audio


class _Text:
    """Texts whose tokens are counted together: a call for each would cost more than its count."""

    def __init__(self, count: Callable[[str], int]) -> None:
        self._count = count
        self._texts: list[str] = []

    def add(self, value: Any) -> None:
        if isinstance(value, str):
            self._texts.append(value)
        elif value is not None:
            self._texts.append(write(value).decode("utf-8", "replace"))

    def counted(self, factor: float) -> tuple[int, int]:
        whole = "\n".join(self._texts)
        head = whole if len(whole) <= COUNTED else whole[:COUNTED]
        count = sum(self._count(piece) for piece in _pieces(head))
        head_bytes = len(head) if head.isascii() else len(head.encode("utf-8", "surrogatepass"))
        rest = 0 if head is whole else len(whole[COUNTED:].encode("utf-8", "surrogatepass"))
        # Of letters beyond ASCII other vocabularies may know none; a token is a byte at least.
        most = count if factor <= 1 else math.ceil(count * factor) + head_bytes - len(head)
        return count + rest // _BYTES_PER_TOKEN, max(count, min(most, head_bytes)) + rest


def _pieces(text: str) -> Iterator[str]:
    if len(text) <= _PIECE:
        yield text
        return
    for at in range(0, len(text), _PIECE):
        yield text[at : at + _PIECE]


def _members(message: Mapping[str, Any]) -> Iterator[Any]:
    """All that a provider may make text of: it may know more members than OpenAI has."""
    for name, value in message.items():
        if isinstance(value, str) and name not in _NO_TEXT:
            yield value
        elif isinstance(value, list) and name != "content":
            yield from value
        elif isinstance(value, Mapping):
            yield value


def _parts(message: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    content = message.get("content")
    return [p for p in content if isinstance(p, Mapping)] if isinstance(content, list) else ()


def _part_tokens(part: Mapping[str, Any], model: str) -> tuple[int, int] | None:
    """Tokens of a part that is no text; None for one that is."""
    kind = part.get("type")
    if kind in ("image_url", "input_image", "image"):
        return _IMAGE_MINI if "4o-mini" in model else _IMAGE
    if kind in ("input_audio", "audio"):
        return _sized(part, _AUDIO_BYTES)
    if kind is None or kind in _TEXT_PARTS:
        return None
    # A document, a video, or what a provider will know one day.
    return _sized(part, _FILE_BYTES)


def _sized(part: Mapping[str, Any], bytes_per_token: tuple[int, int]) -> tuple[int, int]:
    held = max((len(text) for text in _texts(part, 3)), default=0) * 3 // 4  # base64
    if held < 100:
        return _FILE // 10, _FILE
    return -(-held // bytes_per_token[0]), -(-held // bytes_per_token[1])


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        if not value.startswith(("http://", "https://")):
            yield value
    elif depth and isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner, depth - 1)


def _tokens_given(value: Any) -> tuple[int, int]:
    """Of a list of token ids, or of such lists."""
    if not isinstance(value, list):
        return 0, 0
    tokens = sum(len(inner) if isinstance(inner, list) else isinstance(inner, int) for inner in value)
    return tokens, tokens
