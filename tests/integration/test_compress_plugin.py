"""The compressor's plugin file as Kong would run it, with Kong played in this process."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from cache_rig import Rig, status, use_small_models
from tenantgate import llm
from tenantgate.compress import service as compress_service
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.kong.testing import FakeKong
from tenantgate.paths import plugin_file
from tenantgate.telemetry import metrics

NAME = "tenant-prompt-compressor"
BEFORE, AFTER = "X-Compression-Tokens-Before", "X-Compression-Tokens-After"
CANARY = "Zanzibarian"
TALK = "".join(
    f"{name}: well um you know we were sort of talking about the {thing} and so on you see\n"
    for name in ("Ann", "Bob")
    for thing in "walls doors roofs lamps chairs tables stairs windows gardens fences paths rivers".split()
)
FACTS = json.dumps({"rooms": [1, 2, 3], "owner": {"name": "n", "age": 44}}, indent=4)
PROMPT = f"Summarize this for {CANARY}.\n\n{FACTS}\n\n{TALK}\n\nWhat was said about the 25 roofs?"


class DropsWords:
    """Leaves out some words wherever they aren't protected."""

    fingerprint = "drops-words"

    def keep(
        self, text: str, protected: Sequence[tuple[int, int]], rate: float, deadline: float
    ) -> Sequence[tuple[int, int]] | None:
        words = [
            m.span()
            for m in re.finditer(r"\S+", text)
            if m.group() not in ("um", "well", "you", "sort", "of")
        ]
        out: list[tuple[int, int]] = []
        for start, end in sorted([*protected, *words]):
            if out and start <= out[-1][1]:
                out[-1] = (out[-1][0], max(end, out[-1][1]))
            else:
                out.append((start, end))
        return out


class Fails:
    """Raises with a text that may not be seen anywhere."""

    fingerprint = "fails"

    def keep(self, text: str, *_more: Any) -> None:
        raise RuntimeError(text)


def load() -> ModuleType:
    module = "tests_tenant_prompt_compressor"
    if module not in sys.modules:
        spec = importlib.util.spec_from_file_location(module, plugin_file(NAME))
        assert spec is not None
        assert spec.loader is not None
        sys.modules[module] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[module])
        sys.modules[module].load()  # as the server does before it answers
    return sys.modules[module]


def plugin(monkeypatch: pytest.MonkeyPatch, pruner: Any = None, **config: Any) -> Any:
    monkeypatch.setattr(compress_service, "pruner_in_background", lambda _config: pruner or DropsWords())
    return load().Plugin({"deadline_ms": 1400, "min_tokens": 20, **config})


def body(*texts: Any, **more: Any) -> bytes:
    return llm.write({"messages": [{"role": "user", "content": t} for t in texts], **more})


def access(made: Any, raw: bytes, *, consumer: str | None = "acme") -> FakeKong:
    return FakeKong(consumer=consumer, body=raw).run(made, "access")


def sent(kong: FakeKong) -> Any:
    assert kong.sent_body is not None
    return json.loads(kong.sent_body)


def test_its_schema_and_place() -> None:
    module = load()
    assert module.priority == 798  # above the guard
    names = [next(iter(f)) for f in module.Schema]
    assert {"compressor_type", "compression_ranges", "message_type", "stop_on_error", "log_text_data"} < set(
        names
    )


def test_the_provider_gets_a_shorter_prompt_and_the_client_the_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = compress_service._saved.value(tenant="acme", step="prune")
    kong = access(plugin(monkeypatch, input_cost=2.5), body(PROMPT, temperature=0.5, model="m"))
    assert kong.exit is None
    out = sent(kong)
    text = out["messages"][0]["content"]
    assert (out["temperature"], out["model"]) == (0.5, "m")
    assert text.startswith(f'Summarize this for {CANARY}.\n\n{{"rooms":[1,2,3],"owner"')
    assert text.endswith("What was said about the 25 roofs?")
    assert " um " not in text
    counts = int(kong.reply_headers[BEFORE]), int(kong.reply_headers[AFTER])
    assert counts[0] > counts[1] > 0
    verdict = kong.verdict(NAME)
    assert verdict["action"] == "compressed"
    assert (verdict["tokens_before"], verdict["tokens_after"]) == counts
    assert verdict["encoding"] == "o200k_base"
    assert verdict["pruner"] == "drops-words"
    saved = verdict["saved"]
    assert saved["fold"] > 0
    assert saved["cost"] == pytest.approx((counts[0] - counts[1]) * 2.5e-6)
    assert compress_service._saved.value(tenant="acme", step="prune") - before == saved["prune"] > 0
    assert len(kong.calls) == 6
    assert CANARY not in json.dumps(kong.shared) + metrics.exposition()


@pytest.mark.parametrize("value", ["off", "OFF", " false ", "0", "no"])
def test_a_client_switches_it_off_by_a_header(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    headers = {"x-tenantgate-compression": value}
    kong = FakeKong(consumer="acme", body=body(PROMPT), headers=headers).run(plugin(monkeypatch), "access")
    assert kong.sent_body is None
    assert kong.verdict(NAME)["action"] == "switched_off"
    assert kong.reply_headers[BEFORE] == kong.reply_headers[AFTER]


def test_another_value_of_the_header_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = {"x-tenantgate-compression": "on"}
    kong = FakeKong(consumer="acme", body=body(PROMPT), headers=headers).run(plugin(monkeypatch), "access")
    assert kong.verdict(NAME)["action"] == "compressed"


def test_short_prompts_and_other_roles_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plugin(monkeypatch, min_tokens=100)
    raw = llm.write(
        {"messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": "a  b"}]}
    )
    kong = access(made, raw)
    assert kong.sent_body is None
    assert kong.verdict(NAME)["action"] == "unchanged"
    assert kong.reply_headers[BEFORE] == kong.reply_headers[AFTER]
    assert len(kong.calls) == 5


def test_parts_that_are_no_text_are_sent_as_they_came(monkeypatch: pytest.MonkeyPatch) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA  AA"}}
    kong = access(plugin(monkeypatch), body([image, {"type": "text", "text": PROMPT}]))
    parts = sent(kong)["messages"][0]["content"]
    assert parts[0] == image
    assert len(parts[1]["text"]) < len(PROMPT)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"\xff",
        b'{"messages":[]}',
        b'{"prompt":"x"}',
        b'{"messages":[' + b"[" * 99 + b"]" * 99 + b"]}",
    ],
)
def test_what_is_no_chat_is_refused_or_passes_unread(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    refused = access(plugin(monkeypatch), raw)
    assert refused.exit is not None
    assert refused.exit.status == 400
    kong = access(plugin(monkeypatch, stop_on_error=True, strict_requests=False), raw)
    assert (kong.exit, kong.sent_body) == (None, None)
    assert kong.verdict(NAME)["action"] == "unreadable"


def test_without_a_tenant_nothing_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    kong = access(plugin(monkeypatch), body(PROMPT), consumer=None)
    assert kong.sent_body is None
    assert kong.methods() == ["request.get_headers", "request.get_raw_body", "client.get_consumer"]


def test_a_rewrite_above_a_megabyte_is_not_attempted(monkeypatch: pytest.MonkeyPatch) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_100_000}}
    kong = access(plugin(monkeypatch), body([image, {"type": "text", "text": PROMPT}]))
    assert kong.sent_body is None
    assert kong.verdict(NAME)["action"] == "too_large"
    texts = [PROMPT.replace("walls", f"walls {'é' * 100_000}{i}") for i in range(6)]
    raw = json.dumps(json.loads(body(*texts))).encode()  # in escapes
    kong = access(plugin(monkeypatch), raw)
    assert kong.sent_body is None
    assert kong.verdict(NAME)["action"] == "too_large"


def test_out_of_time_is_the_original_and_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plugin(monkeypatch, stop_on_error=True)
    monkeypatch.setattr(made._service, "_budget_s", lambda _host: -1.0)
    kong = access(made, body(PROMPT))
    assert (kong.exit, kong.sent_body) == (None, None)
    assert kong.verdict(NAME)["action"] == "out_of_time"
    assert BEFORE not in kong.reply_headers


@pytest.mark.parametrize(("stop", "code"), [(False, None), (True, 503)])
def test_a_failure_does_as_stop_on_error_says_and_shows_no_text(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, stop: bool, code: int | None
) -> None:
    kong = access(plugin(monkeypatch, Fails(), stop_on_error=stop), body(PROMPT))
    assert kong.sent_body is None
    assert (kong.exit.status if kong.exit else None) == code
    assert CANARY not in caplog.text
    if not stop:
        assert kong.verdict(NAME)["action"] == "failed"


def test_settings_that_can_t_be_meant_do_not_stop_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    kong = access(plugin(monkeypatch, compressor_type="target_token"), body(PROMPT))
    assert (kong.exit, kong.sent_body) == (None, None)


def test_a_model_that_can_t_be_loaded_fails_no_request(caplog: pytest.LogCaptureFixture) -> None:
    made = load().Plugin(
        {"deadline_ms": 1400, "stop_on_error": True, "pruner": "llmlingua", "pruner_model": "/no/such"}
    )
    kong = access(made, body(PROMPT))
    assert kong.exit is None
    assert json.dumps(json.loads(FACTS), separators=(",", ":")) in sent(kong)["messages"][0]["content"]
    assert kong.verdict(NAME)["saved"]["prune"] == 0
    made._service._compressor._pruner.wait()
    assert "pruner_model: there is no directory" in str([r.__dict__ for r in caplog.records])
    assert access(made, body(PROMPT)).exit is None


def test_what_else_is_in_the_body_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = body(PROMPT, seed=1234567890123456, user="é\u2028", note=[None, 1.0, 1e-7])
    out = sent(access(plugin(monkeypatch), raw))
    assert (out["seed"], out["user"], out["note"]) == (1234567890123456, "é\u2028", [None, 1.0, 1e-7])


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(PROMPT),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text() | st.sampled_from(["type", "text", "content", "role"]), inner, max_size=4)
    ),
    max_leaves=12,
)
PART = st.fixed_dictionaries({"type": st.just("text") | ANY_JSON, "text": st.just(PROMPT) | ANY_JSON})
MESSAGE = st.fixed_dictionaries(
    {"role": st.just("user") | ANY_JSON, "content": st.just(PROMPT) | st.lists(PART | ANY_JSON) | ANY_JSON}
)


def test_no_body_makes_it_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    made = plugin(monkeypatch)

    @given(st.lists(MESSAGE | ANY_JSON, max_size=3), st.dictionaries(st.text(), ANY_JSON, max_size=2))
    @settings(max_examples=150, deadline=None)
    def check(messages: Any, more: Any) -> None:
        raw = json.dumps({**more, "messages": messages}).encode()
        kong = access(made, raw)
        if kong.exit is not None:
            assert kong.exit.status in (400, 413)
            return
        assert kong.verdict(NAME)["action"] != "failed"
        if kong.sent_body is not None:
            assert sent(kong).keys() <= json.loads(raw).keys()
            assert len(sent(kong)["messages"]) == len(messages)

    check()


@pytest.fixture
def rig(redis_server: RedisServer, store: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Rig:
    use_small_models(monkeypatch)
    return Rig(redis_server.port)


def test_the_cache_keys_on_what_is_sent(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compressor (798) runs first: the same prompt is the same in fewer tokens, and its repetition hits."""
    made = plugin(monkeypatch)

    def ask() -> FakeKong:
        return access(made, body(PROMPT)).run(rig.plugin, "access")

    miss = ask()
    assert status(miss) == "Miss"
    assert len(miss.sent_body or b"") < len(miss.body)
    rig.log(miss)
    assert status(ask()) == "Hit"
