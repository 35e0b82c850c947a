"""OpenAI's own clients at the operations besides chat, Azure's paths, packed bodies, and preflight requests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from gateway import Gateway
from support import lazily, until

if TYPE_CHECKING:
    import openai
else:
    openai = lazily("openai")

pytestmark = pytest.mark.e2e


def base(gateway: Gateway) -> str:
    return gateway.endpoint("acme", "").url.partition("/v1")[0].partition("/acme/")[0]


@contextmanager
def gpt(gateway: Gateway, tenant: str = "naming") -> Iterator[openai.OpenAI]:
    key = gateway.client(tenant).key
    with openai.OpenAI(base_url=base(gateway) + "/v1", api_key=key, max_retries=0) as client:
        yield client


@contextmanager
def azure(gateway: Gateway, tenant: str = "naming") -> Iterator[openai.AzureOpenAI]:
    key = gateway.client(tenant).key
    with openai.AzureOpenAI(
        azure_endpoint=base(gateway), api_key=key, api_version="2024-10-21", max_retries=0
    ) as client:
        yield client


def test_embeddings_are_cached_by_all_that_changes_them(gateway: Gateway) -> None:
    texts = [gateway.fresh(), gateway.fresh()]
    with gpt(gateway) as client:

        def ask(**members: Any) -> tuple[str | None, Any]:
            asked: Any = {"model": "fast", "input": texts, "encoding_format": "float", **members}
            raw = client.embeddings.with_raw_response.create(**asked)
            return raw.headers.get("x-cache-status"), raw.parse()

        status, first = ask()
        _, second = until(ask, lambda found: found[0] == "Hit", what="stored vectors")
        others = [ask(dimensions=8)[0], ask(encoding_format="base64")[0], ask(input=texts[0])[0]]
        renamed = ask(model="mock-small")[0]
        apart = ask(model="smart")[0]
    assert status == "Miss"
    assert second.model_dump() == first.model_dump()
    assert [d.index for d in first.data] == [0, 1]
    assert len(first.data[0].embedding) == 4
    assert first.model == "mock-small"
    assert first.usage.prompt_tokens > 0
    assert others == ["Miss"] * 3
    assert renamed == "Hit"
    assert apart == "Miss"


def test_rules_read_and_mask_embeddings(gateway: Gateway) -> None:
    secret = "sk-proj-" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4F"
    with gpt(gateway, "blocking") as client:
        for text in (secret, [gateway.fresh(), secret]):
            with pytest.raises(openai.BadRequestError) as caught:
                client.embeddings.create(model="mock-small", input=text)
            assert caught.value.code == "content_policy_violation"
        with pytest.raises(openai.BadRequestError, match="token ids"):
            client.embeddings.create(model="mock-small", input=[[1, 2], [3]])
    with gpt(gateway, "masking") as client:
        masked = client.embeddings.create(
            model="mock-small", input=["Mail ann@example.com"], encoding_format="float"
        )
        same = client.embeddings.create(
            model="mock-small", input=["Mail bob@example.com"], encoding_format="float"
        )
    assert masked.data[0].embedding == same.data[0].embedding  # of the placeholder
    with gpt(gateway) as client:
        assert len(client.embeddings.create(model="fast", input=[[1, 2], [3]]).data) == 2


def test_completions_whole_and_streamed(gateway: Gateway) -> None:
    prompt = gateway.fresh()
    with gpt(gateway) as client:
        whole = client.completions.create(model="fast", prompt=prompt)
        several = client.completions.create(model="fast", prompt=[prompt, "Again"])
        chunks = list(client.completions.create(model="fast", prompt=prompt, stream=True))
    assert whole.choices[0].text == f"Mock text after: {prompt}"
    assert whole.usage is not None
    assert [c.text for c in several.choices] == [whole.choices[0].text, "Mock text after: Again"]
    assert "".join(c.choices[0].text for c in chunks) == whole.choices[0].text
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_images_and_sounds_pass(gateway: Gateway) -> None:
    with gpt(gateway) as client:
        image = client.images.generate(model="fast", prompt="a cat")
        with client.audio.speech.with_streaming_response.create(
            model="fast", voice="alloy", input="Hello there"
        ) as speech:
            sound, kind = speech.read(), speech.headers["content-type"]
        text = client.audio.transcriptions.create(model="fast", file=("a.mp3", b"\xff\x00" * 500))
    assert image.data
    assert image.data[0].b64_json == "YSBjYXQ="
    assert (sound, kind) == (b"ID3\xff\xfeHello there", "audio/mpeg")
    assert text.text == "A recording of 1000 bytes."
    with gpt(gateway, "blocking") as client, pytest.raises(openai.BadRequestError, match="files"):
        client.audio.transcriptions.create(model="mock-small", file=("a.mp3", b"\xff\x00"))
    with gpt(gateway) as client, pytest.raises(openai.NotFoundError) as caught:
        client.audio.transcriptions.create(model="nobody", file=("a.mp3", b"\xff\x00"))
    assert caught.value.code == "model_not_found"


def test_a_reply_that_isnt_json_is_an_error_of_ours(gateway: Gateway) -> None:
    """ai-proxy would end the connection."""
    client = gateway.endpoint("naming", "/v1/embeddings")
    for how, status in (({"malformed": True}, 502), ({"status": 500}, 500), ({"status": 429}, 429)):
        with gateway.stack.mock_behaviour(**how):
            reply = client.send(json.dumps({"model": "fast", "input": gateway.fresh()}).encode())
        assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (status, "application/json")
        assert "message" in reply.json["error"]


def test_azures_client(gateway: Gateway) -> None:
    with azure(gateway) as client:
        chat = client.chat.completions.create(
            model="fast", messages=[{"role": "user", "content": gateway.fresh()}]
        )
        vectors = client.embeddings.create(model="smart", input=gateway.fresh())
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "Hi"}])
    assert chat.model == "mock-small"
    assert vectors.model == "mock-large"
    assert caught.value.code == "model_not_found"


def test_packed_bodies_are_read_as_any(gateway: Gateway) -> None:
    client = gateway.endpoint("blocking")
    secret = "sk-proj-" + "Ab3dEf6hIj9lMn2pQr5tUv8xYz1BcD4F"

    def ask(pack: Any, coding: str, text: str) -> tuple[int, str]:
        body = {"model": client.model, "messages": [{"role": "user", "content": text}]}
        reply = client.send(pack(json.dumps(body).encode()), headers={"Content-Encoding": coding})
        return reply.status, reply.body.decode()

    for pack, coding in ((gzip.compress, "gzip"), (zstandard.compress, "zstd")):
        prompt = gateway.fresh()
        status, answer = ask(pack, coding, prompt)
        assert status == 200, answer
        assert "This is mock answer" in answer
        assert ask(pack, coding, secret)[0] == 400
        assert ask(pack, coding, "x" * (5 << 20))[0] == 413
    assert ask(gzip.compress, "br", "Hi")[0] == 415


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings", "/v1/messages", "/v1/models"])
def test_preflight_requests_need_no_key(gateway: Gateway, path: str) -> None:
    client = gateway.endpoint("plain", path)
    asked = {
        "Origin": "https://app.example.com",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        "apikey": "",
    }
    reply = client.send(b"", headers=asked, method="OPTIONS")
    assert reply.status == 200
    assert reply.headers["access-control-allow-origin"] == "https://app.example.com"
    assert reply.headers["access-control-allow-headers"] == "authorization,content-type"
    assert reply.headers["access-control-max-age"] == "600"
    other = client.send(b"", headers={**asked, "Origin": "https://evil.example"}, method="OPTIONS")
    assert "access-control-allow-origin" not in other.headers


def test_options_without_a_page_are_no_operation(gateway: Gateway) -> None:
    client = gateway.endpoint("plain")
    body = json.dumps({"model": client.model, "messages": [{"role": "user", "content": "Hi"}]}).encode()
    gateway.stack.mock_forget()
    reply = client.send(body, method="OPTIONS")
    assert (reply.status, reply.json["error"]["code"]) == (405, "method_not_allowed")
    assert client.send(body, method="OPTIONS", headers={"apikey": "nobody's"}).status == 401
    assert gateway.stack.mock_requests() == []


def test_pages_of_other_sites_read_replies_and_errors(gateway: Gateway) -> None:
    client = gateway.endpoint("plain")
    page = {"Origin": "http://localhost:3000"}
    served = client.chat(gateway.fresh(), model=client.model, headers=page)
    refused = client.chat("Hi", model="nobody", headers=page)
    unknown = client.chat("Hi", model=client.model, headers={**page, "apikey": "nobody's"})
    assert [r.status for r in (served, refused, unknown)] == [200, 404, 401]
    for reply in (served, refused, unknown):
        assert reply.headers["access-control-allow-origin"] == page["Origin"]
        assert "X-Cache-Status" in reply.headers["access-control-expose-headers"]


def test_a_packed_message_of_another_format_is_answered_in_it(gateway: Gateway) -> None:
    client = gateway.endpoint("naming", "/v1/messages")
    body = {"model": "fast", "max_tokens": 9, "messages": [{"role": "user", "content": gateway.fresh()}]}
    packed = gzip.compress(json.dumps(body).encode())
    reply = client.send(packed, headers={"Content-Encoding": "gzip"})
    assert (reply.status, reply.json["type"], reply.json["role"]) == (200, "message", "assistant")
    assert reply.json["model"]
