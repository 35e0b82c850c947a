"""`tenantgate platform serve` and `platform-mock` as processes: a change at the platform is in force at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from platform_rig import SECRET, TOKEN, requests_limit
from tenantgate.config import load_text
from tenantgate.config.compile import compile_records
from tenantgate.platform.core.signature import secret_bytes, sign
from tenantgate.platform.listener import Listener, Webhooks
from tenantgate.policy.core.ports import PublishNote
from tenantgate.policy.core.records import read_record
from tenantgate.policy.sqlite_store import SqlitePolicyStore

from support import until

FILE: Final = """
version: 1
gateway:
  platform: {{url: '{url}', token: '{{vault://env/TOKEN}}', webhook_secret: '{{vault://env/SECRET}}', poll_s: 3600,
             path: '{folder}/platform.json', listen: '127.0.0.1:{port}'}}
tenants:
  - id: acme
    api_keys: ['${{{{ env "DECK_ACME" }}}}']
"""
KEY: Final = secret_bytes(SECRET, where="SECRET")


@contextmanager
def command(*arguments: str, line: str) -> Iterator[str]:
    """A command that runs until the block ends; its first line, from `line` on."""
    env = {**os.environ, "TENANTGATE_PLATFORM_TOKEN": TOKEN, "TOKEN": TOKEN, "SECRET": SECRET}
    env["TENANTGATE_PLATFORM_WEBHOOK_SECRET"] = SECRET
    process = subprocess.Popen(
        [sys.executable, "-m", "tenantgate.cli", *arguments], env=env, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        first = process.stdout.readline().strip()
        assert line in first
        yield first[first.rindex(line) :]
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def ask(url: str, method: str = "GET", body: Any = None) -> bytes:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {TOKEN}"}, method=method)
    with urllib.request.urlopen(request, timeout=10) as response:
        found: bytes = response.read()
        return found


def test_a_change_at_the_platform_is_in_force_by_its_webhook(tmp_path: Path) -> None:
    with Listener("127.0.0.1", 0, webhooks=Webhooks(None, lambda: None), pages={}) as spare:
        port = spare.port
    store = SqlitePolicyStore(tmp_path / "policy.sqlite")
    seed = tmp_path / "seed.yaml"
    seed.write_text("- {id: acme, token_limits: [{name: first, limit: 1, count: requests}]}\n")
    hook = ["--webhook-url", f"http://127.0.0.1:{port}/webhook", "--tenants", str(seed)]
    with command("platform-mock", "--port", "0", *hook, line="http://") as url:
        file = tmp_path / "tenants.yaml"
        file.write_text(FILE.format(url=url, folder=tmp_path, port=port))
        records = compile_records(load_text(file.read_text()))
        store.publish(dict(records), expected=0, note=PublishNote("ops", "", 1.0))

        def limits() -> list[str]:
            return [v["name"] for v in read_record("acme", store.record("acme") or b"").token_limits]

        served = ["platform", "serve", str(file), "--policy-path", str(store._file.path)]
        with command(*served, line="http://") as metrics_url:
            until(limits, lambda names: names == ["first"], what="the first limits")
            ask(f"{url}/_mock/tenants/acme", "PUT", {"token_limits": [requests_limit(name="second")]})
            until(limits, lambda names: names == ["second"], what="the limits after the webhook")
            text = ask(metrics_url).decode()
            assert "tenantgate_platform_up 1" in text
            assert 'tenantgate_platform_webhooks_total{outcome="taken"} 1' in text
            health = json.loads(ask(metrics_url.replace("/metrics", "/healthz")))
            assert (health["status"], health["stale"]) == ("alive", False)
    store.close()


# -- the webhook ---------------------------------------------------------------------------------------------


class Hook:
    """A webhook, and how often it had the mirror pull."""

    def __init__(self) -> None:
        self.pulls = 0
        self.now = 1_700_000_000.0
        self.webhooks = Webhooks(KEY, self._pull, now=lambda: self.now)

    def _pull(self) -> None:
        self.pulls += 1

    def take(
        self, identifier: str = "msg_1", *, at: float = 0.0, key: bytes = KEY, body: bytes = b"{}"
    ) -> int:
        timestamp = int(self.now + at)
        signature = sign(key, identifier=identifier, timestamp=timestamp, body=body)
        headers = {
            "webhook-id": identifier,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
        }
        return self.webhooks.take(headers, body)


def test_a_signed_message_pulls_once_however_often_it_comes() -> None:
    hook = Hook()
    assert [hook.take(), hook.take(), hook.take("msg_2")] == [204, 204, 204]
    assert hook.pulls == 2


@pytest.mark.parametrize(
    "change", [{"key": b"x" * 32}, {"at": -301}, {"at": 301}, {"identifier": ""}, {"identifier": "x" * 201}]
)
def test_a_message_that_isnt_signed_or_of_now_pulls_nothing(change: dict[str, Any]) -> None:
    hook = Hook()
    assert hook.take(**change) == 401
    assert hook.webhooks.take({}, b"") == 401
    assert hook.pulls == 0


def test_a_message_is_remembered_as_long_as_its_time_is_taken() -> None:
    hook = Hook()
    hook.take("msg_1", at=300)
    hook.now += 599
    hook.take("msg_2")
    assert hook.take("msg_1", at=-299) == 204
    assert hook.pulls == 2


def test_without_a_secret_there_is_no_webhook() -> None:
    assert Webhooks(None, lambda: None).take({}, b"") == 404


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/webhook", {"Content-Length": "x"}, 411),
        ("/webhook", {"Content-Length": str((64 << 10) + 1)}, 413),
        ("/webhook", {}, 401),
        ("/other", {}, 404),
    ],
)
def test_requests_to_the_listener_are_bounded(path: str, headers: dict[str, str], status: int) -> None:
    with Listener("127.0.0.1", 0, webhooks=Hook().webhooks, pages={"/metrics": lambda: "a 1\n"}) as listener:
        base = f"http://127.0.0.1:{listener.port}"
        with pytest.raises(urllib.error.HTTPError) as error:
            ask_raw(base + path, b"{}", headers)
        assert error.value.code == status
        error.value.close()
        assert ask(base + "/metrics") == b"a 1\n"


def ask_raw(url: str, body: bytes, headers: dict[str, str]) -> None:
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=10):
        pass
