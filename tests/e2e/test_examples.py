"""Each set-up in examples/ answers; its providers, receivers and APIs are mocks on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tenantgate.config import deck_variables as placeholders
from tenantgate.config import load
from tenantgate.devhost.client import Client
from tenantgate.devhost.stack import Stack

from support import ROOT, until, whole_lines

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

EXAMPLES = sorted(p.parent.name for p in (ROOT / "examples").glob("*/tenants.yaml"))
DOWN = "http://127.0.0.1:9"


class Everything(BaseHTTPRequestHandler):
    """Answers as a provider of OpenAI's or Anthropic's kind, as an API of orders, and as any receiver."""

    def do_GET(self) -> None:
        self._answer({"id": self.path.rpartition("/")[2], "state": "sent"})

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "/messages" in self.path:
            usage = {"input_tokens": 3, "output_tokens": 2}
            text = {"type": "text", "text": "From the second."}
            self._answer({"id": "m", "type": "message", "role": "assistant", "model": asked["model"], "content": [text], "stop_reason": "end_turn", "usage": usage})  # fmt: skip  # noqa: E501
        elif "/chat/completions" in self.path:
            usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
            message = {"role": "assistant", "content": "From the first."}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._answer({"id": "c", "object": "chat.completion", "created": 1, "model": asked["model"], "choices": [choice], "usage": usage})  # fmt: skip  # noqa: E501
        else:
            self._answer({})

    def _answer(self, value: Any) -> None:
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def outside() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Everything) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def local(tree: Any, at: str, *, first_is_down: bool) -> Any:
    """The same configuration, with the addresses outside replaced."""
    if isinstance(tree, list):
        return [local(v, at, first_is_down=first_is_down) for v in tree]
    if not isinstance(tree, dict):
        return tree
    made = {k: local(v, at, first_is_down=first_is_down) for k, v in tree.items()}
    made.pop("policy", None)  # the stack has its own store, and its own Redis
    made.pop("redis", None)
    for name in ("url", "upstream"):
        if str(made.get(name, "")).startswith("http"):
            made[name] = at
    if "provider" in made:
        path = "/v1/messages" if made["provider"] == "anthropic" else "/v1/chat/completions"
        down = first_is_down and made["provider"] == "openai"
        made["upstream_url"] = (DOWN if down else at) + path
    if "egress" in made:
        made["egress"] = {"allow": [at, DOWN]}
    return made


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_answers(
    name: str, outside: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "example"
    for path in filter(Path.is_file, (ROOT / "examples" / name).rglob("*")):
        text = path.read_text("utf-8")
        for variable in (*placeholders.names(text), *placeholders.vault_names(text)):
            monkeypatch.setenv(variable, f"{variable}-0123456789abcdef0123456789")
        if path.suffix == ".yaml":
            tree = local(yaml.safe_load(text), outside, first_is_down=name == "failover")
            text = yaml.safe_dump(tree)
        made = folder / path.relative_to(ROOT / "examples" / name)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(text, "utf-8")
    file = load(folder / "tenants.yaml")
    kong_bin = request.config.getoption("--kong-bin")
    with Stack(tenants=folder / "tenants.yaml", state_dir=tmp_path / "s", kong_bin=kong_bin) as stack:
        for tenant in file.tenants:
            model = tenant.models[0]
            url = f"{stack.proxy_url}/v1/chat/completions"
            client = Client(url, stack.key(tenant.id), (*model.aliases, model.name or model.model or "")[0])
            reply = client.chat("Who pays?", model=client.model)
            assert reply.status == 200, reply.body
            assert "From the " in str(reply.json["choices"][0]["message"]["content"])
        if name == "failover":
            assert "second" in reply.json["choices"][0]["message"]["content"]
        if name == "mcp":
            arguments = {"name": "get-order", "arguments": {"id": "42"}}
            call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": arguments}
            headers = {"MCP-Protocol-Version": "2025-06-18", "Accept": "application/json, text/event-stream"}
            tools = Client(f"{stack.proxy_url}/v1/mcp/orders", client.key, client.model)
            reply = tools.send(json.dumps(call).encode(), headers=headers)
            assert reply.status == 200, reply.body
            assert b"sent" in reply.body
        if any(s.get("type") == "file" for s in _sinks(folder)):
            log = stack.audit_dir / "audit.jsonl"
            until(lambda: whole_lines(log), lambda found: len(found) >= len(file.tenants), what="records")


def _sinks(folder: Path) -> list[dict[str, Any]]:
    tree = yaml.safe_load((folder / "tenants.yaml").read_text("utf-8"))
    sinks: list[dict[str, Any]] = tree["gateway"]["audit"]["sinks"]
    return sinks
