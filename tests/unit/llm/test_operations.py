"""Requests besides chat: what stages read of them, and what goes on to a provider."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.llm import Reason, Refusal
from tenantgate.llm.chat import ChatRequest
from tenantgate.llm.operations import Operation, Passed, operation_of, read

O = Operation  # noqa: E741
TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), min_size=1, max_size=4)


def parsed(operation: Operation, body: Any) -> Passed:
    found = read(operation, json.dumps(body).encode())
    assert isinstance(found, Passed)
    return found


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("/v1/embeddings", O.EMBEDDINGS),
        ("/llm/v1/completions", O.COMPLETIONS),
        ("/v1/chat/completions", O.CHAT),
        ("/openai/deployments/completions/chat/completions", O.CHAT),
        ("/openai/deployments/d/embeddings", O.EMBEDDINGS),
        ("/v1/images/generations", O.IMAGES),
        ("/v1/audio/speech", O.SPEECH),
        ("/v1/audio/transcriptions", O.TRANSCRIPTIONS),
        ("/v1/messages", O.CHAT),
        ("/v1/embeddings/", O.CHAT),
    ],
)
def test_paths(path: str, operation: Operation) -> None:
    assert operation_of(path) is operation


@pytest.mark.parametrize(
    ("operation", "body", "texts"),
    [
        (O.EMBEDDINGS, {"input": "a"}, ["a"]),
        (O.EMBEDDINGS, {"input": ["a", "b"], "dimensions": 3}, ["a", "b"]),
        (O.EMBEDDINGS, {"input": [1, 2]}, []),
        (O.COMPLETIONS, {"prompt": ["a", "b"], "suffix": "c"}, ["a", "b", "c"]),
        (O.IMAGES, {"prompt": "a", "n": 2}, ["a"]),
        (O.SPEECH, {"input": "a", "instructions": "b", "voice": "v"}, ["a", "b"]),
    ],
)
def test_all_texts_are_one_message_of_a_user(operation: Operation, body: Any, texts: list[str]) -> None:
    passed = parsed(operation, {"model": "m", **body})
    (message,) = passed.request.messages
    assert message["role"] == "user"
    assert [part["text"] for part in message["content"]] == texts
    assert passed.request.model == "m"
    assert json.loads(passed.written(passed.request, "m")) == {"model": "m", **body}


@given(TEXTS, TEXTS, st.booleans())
def test_what_a_stage_changes_goes_back_to_its_place(
    before: list[str], after: list[str], single: bool
) -> None:
    after = (after * len(before))[: len(before)]
    if single:
        before, after = before[:1], after[:1]
    given_, wanted = (texts[0] if single else texts for texts in (before, after))
    passed = parsed(O.EMBEDDINGS, {"input": given_, "user": "u"})
    content = [{"type": "text", "text": text} for text in after]
    message = {"role": "user", "content": content}
    changed = ChatRequest({**passed.request.body, "messages": [message]}, (message,))
    assert json.loads(passed.written(changed, "m")) == {"input": wanted, "user": "u", "model": "m"}


@pytest.mark.parametrize("tokens", [[1], [[1, 2], [3]], [0, 100_000]])
def test_token_ids_pass_and_say_so(tokens: Any) -> None:
    passed = parsed(O.EMBEDDINGS, {"model": "m", "input": tokens})
    assert passed.unread == "token ids"
    assert json.loads(passed.written(passed.request, "m"))["input"] == tokens


@pytest.mark.parametrize(
    ("operation", "body", "param"),
    [
        (O.EMBEDDINGS, {}, "input"),
        (O.EMBEDDINGS, {"input": None}, "input"),
        (O.EMBEDDINGS, {"input": []}, "input"),
        (O.EMBEDDINGS, {"input": ["a", 1]}, "input"),
        (O.EMBEDDINGS, {"input": [1, -1]}, "input"),
        (O.EMBEDDINGS, {"input": [True]}, "input"),
        (O.EMBEDDINGS, {"input": [[]]}, "input"),
        (O.EMBEDDINGS, {"input": {"text": "a"}}, "input"),
        (O.EMBEDDINGS, {"input": "a", "stream": True}, "stream"),
        (O.EMBEDDINGS, {"input": "a", "messages": []}, "messages"),
        (O.COMPLETIONS, {"prompt": "a", "choices": []}, "choices"),
        (O.COMPLETIONS, {"prompt": [1, 2]}, "prompt"),
        (O.COMPLETIONS, {"prompt": ["a"], "stream": True}, "prompt"),
        (O.COMPLETIONS, {"prompt": "a", "stream": "true"}, "stream"),
        (O.COMPLETIONS, {"prompt": "a", "suffix": 3}, "suffix"),
        (O.IMAGES, {"prompt": ["a"]}, "prompt"),
        (O.SPEECH, {"input": "a", "model": 3}, "model"),
    ],
)
def test_what_nobody_reads_alike_is_refused_by_name(operation: Operation, body: Any, param: str) -> None:
    found = read(operation, json.dumps(body).encode())
    assert isinstance(found, Refusal)
    assert (found.param, found.reason) == (param, Reason.NOT_CHAT)


@pytest.mark.parametrize(
    ("operation", "raw", "is_form", "reason"),
    [
        (O.EMBEDDINGS, b"{", False, Reason.NOT_JSON),
        (O.EMBEDDINGS, b"[]", False, Reason.NOT_CHAT),
        (O.EMBEDDINGS, b"--x", True, Reason.MEDIA_TYPE),
        (O.TRANSCRIPTIONS, b"{}", False, Reason.MEDIA_TYPE),
    ],
)
def test_other_bodies(operation: Operation, raw: bytes, is_form: bool, reason: Reason) -> None:
    found = read(operation, raw, is_form=is_form)
    assert isinstance(found, Refusal)
    assert found.reason is reason


@pytest.mark.parametrize(
    ("operation", "body", "route"),
    [
        (O.COMPLETIONS, {"prompt": "a"}, "llm/v1/completions"),
        (O.COMPLETIONS, {"prompt": ["a"]}, "preserve"),
        (O.EMBEDDINGS, {"input": "a"}, "preserve"),
        (O.IMAGES, {"prompt": "a"}, "preserve"),
    ],
)
def test_kongs_name_of_the_operation(operation: Operation, body: Any, route: str) -> None:
    assert parsed(operation, body).route_type == route


def form(*parts: bytes) -> bytes:
    return (
        b"".join(b"--XX\r\nContent-Disposition: form-data; " + part + b"\r\n" for part in parts)
        + b"--XX--\r\n"
    )


FILE = b'name="file"; filename="a.mp3"\r\nContent-Type: audio/mpeg\r\n\r\n\xff\x00\r\n\r\n--X'


def test_a_form_with_a_file() -> None:
    raw = form(b'name="model"\r\n\r\nfast', FILE, b'name="prompt"\r\n\r\nNames: Ann')
    passed = read(O.TRANSCRIPTIONS, raw, is_form=True)
    assert isinstance(passed, Passed)
    assert passed.unread == "files"
    assert passed.request.model == "fast"
    assert passed.request.messages[0]["content"] == [{"type": "text", "text": "Names: Ann"}]
    written = passed.written(passed.request, "whisper-1")
    again = read(O.TRANSCRIPTIONS, written, is_form=True)
    assert isinstance(again, Passed)
    assert again.request.body == {**passed.request.body, "model": "whisper-1"}
    assert b"\xff\x00\r\n\r\n--X\r\n--XX" in written


@pytest.mark.parametrize(("value", "refused"), [(b"true", True), (b"1", True), (b"false", False)])
def test_a_forms_stream(value: bytes, refused: bool) -> None:
    raw = form(b'name="model"\r\n\r\nm', b'name="stream"\r\n\r\n' + value, FILE)
    found = read(O.TRANSCRIPTIONS, raw, is_form=True)
    assert isinstance(found, Refusal) is refused
    if isinstance(found, Passed):
        assert b"stream" not in found.written(found.request, "m")  # for ai-proxy any text is true
