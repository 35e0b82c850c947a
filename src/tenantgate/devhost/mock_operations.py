"""What the mock provider answers besides chat: the same request gets the same answer, made of its own texts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["completion", "completion_chunks", "embeddings", "image", "speech", "transcription"]

_CREATED: Final = 1_700_000_000
_DIMENSIONS: Final = 4
Json = dict[str, Any]


def _texts(value: Any) -> list[Any]:
    return value if isinstance(value, list) and not all(isinstance(v, int) for v in value) else [value]


def _words(value: Any) -> int:
    return sum(len(text.split()) if isinstance(text, str) else len(text or "") for text in _texts(value))


def embeddings(body: Json) -> Json:
    """A list of vectors of `dimensions` numbers, or of their base64 text."""
    data: list[Json] = []
    for i, text in enumerate(_texts(body.get("input"))):
        digest = hashlib.sha256(json.dumps(text).encode()).digest()
        vector: Any = [digest[k] / 256 for k in range(min(32, body.get("dimensions", _DIMENSIONS)))]
        if body.get("encoding_format") == "base64":
            vector = base64.b64encode(digest[: 4 * len(vector)]).decode()
        data.append({"object": "embedding", "index": i, "embedding": vector})
    words = _words(body.get("input"))
    usage = {"prompt_tokens": words, "total_tokens": words}
    return {"object": "list", "data": data, "model": body.get("model"), "usage": usage}


def completion(body: Json) -> Json:
    """A text completion that repeats the prompts."""
    prompts = _texts(body.get("prompt"))
    choices = [
        {"index": i, "text": f"Mock text after: {prompt}", "finish_reason": "stop", "logprobs": None}
        for i, prompt in enumerate(prompts)
    ]
    prompt, words = _words(body.get("prompt")), sum(_words(c["text"]) for c in choices)
    return {
        "id": "cmpl-mock",
        "object": "text_completion",
        "created": _CREATED,
        "model": body.get("model"),
        "choices": choices,
        "usage": {"prompt_tokens": prompt, "completion_tokens": words, "total_tokens": prompt + words},
    }


def completion_chunks(whole: Json) -> Iterator[Json]:
    """The same as a stream: a word in each chunk, the finish reason in the last one."""
    choice = whole["choices"][0]
    head = {k: v for k, v in whole.items() if k not in ("choices", "usage")}
    words = choice["text"].split(" ")
    for i, word in enumerate(words):
        piece = {**choice, "text": word if i == 0 else " " + word, "finish_reason": None}
        yield {**head, "choices": [piece]}
    yield {**head, "choices": [{**choice, "text": ""}]}


def image(body: Json) -> Json:
    """A picture that is none."""
    picture = base64.b64encode(str(body.get("prompt")).encode()).decode()
    return {"created": _CREATED, "data": [{"b64_json": picture}] * int(body.get("n", 1))}


def speech(body: Json) -> bytes:
    """Sounds that are none, no UTF-8 and no JSON."""
    return b"ID3\xff\xfe" + str(body.get("input")).encode()


def transcription(body: Json) -> Json:
    """The size of the file, in words."""
    return {"text": f"A recording of {body.get('file')} bytes."}
