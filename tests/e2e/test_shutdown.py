"""A node that is told to end lets streams end first. On the embedded host, or the Kong of --kong-bin."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tenantgate.devhost.stack import Stack

from support import PATIENCE_S, until, whole_lines

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

TENANTS = """\
version: 1
gateway: {audit: {sinks: [{name: file, type: file, path: audit.jsonl, flush_ms: 10}]}}
tenants:
  - id: acme
    api_keys: ['${{ env "DECK_ACME_API_KEY" }}']
    models: [{provider: mock, model: mock-small}]
    audit: {}
"""


def test_a_stream_ends_as_usual_while_the_node_ends(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.yaml"
    tenants.write_text(TENANTS)
    kong_bin = request.config.getoption("--kong-bin")
    if request.config.getoption("--gateway-url"):
        pytest.skip("starts a gateway of its own")
    with Stack(tenants=tenants, state_dir=tmp_path / "s", kong_bin=kong_bin, mock_chunk_ms=300) as stack:
        at = urlsplit(stack.proxy_url)
        body = json.dumps(
            {"model": "mock-small", "stream": True, "messages": [{"role": "user", "content": "Who pays?"}]}
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: {at.netloc}\r\nConnection: close\r\n"
            f"Authorization: Bearer {stack.key('acme')}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection((at.hostname or "", at.port or 0), timeout=PATIENCE_S) as client:
            client.sendall((head + body).encode())
            got = b""
            while b"data: " not in got:
                got += client.recv(65536)
            assert got.startswith(b"HTTP/1.1 200"), got
            assert b"[DONE]" not in got
            engines = stack.pids("tenantgate")
            # nginx: https://nginx.org/en/docs/control.html; SIGTERM would cut it.
            os.kill(stack.gateway_pid, signal.SIGQUIT if kong_bin else signal.SIGTERM)
            while piece := client.recv(65536):
                got += piece
        assert b"data: [DONE]" in got
        log = stack.audit_dir / "audit.jsonl"
        (record,) = until(lambda: whole_lines(log), lambda lines: len(lines) == 1, what="record")
        assert json.loads(record)["outcome"] == "answered"
        until(
            lambda: [p for p in engines if Path(f"/proc/{p}").exists()], lambda p: not p, what="engine's end"
        )
