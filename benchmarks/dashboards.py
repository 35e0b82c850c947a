"""Every query of the dashboards on a real Prometheus that scrapes a gateway: ``dashboards.py [--kong-bin KONG]``.

Needs ``prometheus`` (Debian has it). A gateway with every feature is asked, in part for what fails; then each query of
`deploy/grafana` to Prometheus must return data, each rule must have been evaluated without an error, and exemplars must
name the clients' traces. Exit status 1 where one doesn't. Queries to Loki aren't run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from tenantgate.demo import MEETING
from tenantgate.devhost.client import Client
from tenantgate.devhost.mcp_stack import api
from tenantgate.devhost.mock_api import document
from tenantgate.devhost.processes import wait_for
from tenantgate.devhost.redis_server import free_port
from tenantgate.devhost.stack import Stack

GRAFANA: Final = Path(__file__).resolve().parents[1] / "deploy/grafana"
TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
BOARDS: Final = ("tenantgate", "money", "objectives")
ROUNDS: Final = 12
PAUSE_S: Final = 2.0
QUIET: Final = {
    "Requests that a guard did not check": "guards are out of service",
    "Content and records left out": "the audit log is overloaded, or its spool full",
    "Access tokens, by outcome": "an issuer's tokens are taken",
    "Calls of tools that ended with an error": "a tool fails",
    "Updates without a series of their own": "there are more tenants than series for them",
}
"""Panels that have data only while that is so, which this program doesn't bring about."""

TENANTS: Final = """version: 1
gateway:
  redis: {{plugin_timeout_ms: 500, timeout_ms: 500}}
  audit:
    node: gateway-1
    sinks:
      - {{name: file, type: file, path: audit.jsonl, flush_ms: 10}}
      - {{name: dead, type: http, url: "http://127.0.0.1:1/"}}
  alerts: {{receivers: [{{name: ops, type: alertmanager, url: "http://127.0.0.1:{receiver}"}}]}}
tenants:
  - id: acme
    api_keys: ['${{{{ env "DECK_ACME_API_KEY" }}}}']
    audit: {{deadline_ms: 1400}}
    cache: {{cache_ttl: 3600, deadline_ms: 1400}}
    compression: {{}}
    guardrails:
      deadline_ms: 1400
      rules:
        - {{name: secrets, detector: secrets, mode: block}}
        - {{name: personal-data, detector: personal_data, mode: mask}}
    mcp: [{{name: api, openapi: openapi.json, upstream: "{api}", tools: [{{name: get_weather}}]}}]
    budgets: [{{name: month, max_budget: 0.5, on_tight: admit, steps: [{{at: 1%, do: notify}}]}}]
    models:
      - {{provider: mock, model: mock-small, input_cost: 100, output_cost: 100}}
      - name: steady
        targets:
          - {{provider: mock, model: mock-dead, input_cost: 1, output_cost: 1}}
          - {{provider: mock, model: mock-large, input_cost: 1, output_cost: 1}}
      - name: out
        targets:
          - {{provider: mock, model: mock-dead, input_cost: 1, output_cost: 1}}
          - {{provider: mock, model: mock-refused, input_cost: 1, output_cost: 1}}
"""
FAULTS: Final = ({"model": "mock-dead", "status": 503}, {"model": "mock-refused", "status": 401})


def main() -> int:
    """Run; exit status 0, 1 where a query has no data, 2 without Prometheus."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kong-bin", help="a real Kong in place of the embedded host")
    args = parser.parse_args()
    if shutil.which("prometheus") is None:
        sys.stderr.write("needs prometheus: apt-get install prometheus\n")
        return 2
    with tempfile.TemporaryDirectory(prefix="tgd") as name, _receiver() as receiver, api() as url_of_api:
        folder = Path(name)
        file = folder / "tenants.yaml"
        (folder / "openapi.json").write_text(json.dumps(document(url_of_api)), "utf-8")
        file.write_text(TENANTS.format(receiver=receiver, api=url_of_api), "utf-8")
        with (
            Stack(tenants=file, state_dir=folder / "s", kong_bin=args.kong_bin) as stack,
            _tcp(_metrics_socket(stack.run_folder)) as port,
            _prometheus(folder, port) as url,
        ):
            _ask(stack)
            return _judge(url)


def _metrics_socket(run: Path) -> Path:
    """The engine's socket for its metrics, in Kong's prefix.

    Kong starts its plugin servers when it serves already, and one that is slow to open it would not be there yet.
    """
    path = run / "tenantgate.metrics.socket"
    wait_for(lambda: path.exists() or None, None, what=str(path), timeout_s=60.0)
    return path


def _ask(stack: Stack) -> None:
    first = stack.client("acme", provider="mock", model="mock-small")
    client = Client(urllib.parse.urljoin(first.url, "/v1/chat/completions"), first.key, first.model)
    traced = {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}
    with stack.mock_rules(*FAULTS):
        for number in range(ROUNDS):
            for prompt in (
                f"How do I reset password number {number}?",
                "How do I reset my password?",
                f"Thank jane.roe@example.com for part {number}",
                f"Why does AKIAIOSFODNN7EXAMPL{number % 10} not work?",
                MEETING,
            ):
                client.chat(prompt, model="mock-small", headers=traced)
            client.chat(f"Tell me of lighthouse {number}", model="mock-small", stream=True, headers=traced)
            client.chat(f"Who lives at number {number}?", model="steady")
            client.chat(f"Who works at number {number}?", model="out")
            _call_a_tool(first)
            time.sleep(PAUSE_S)


def _call_a_tool(client: Client) -> None:
    call = {"name": "get_weather", "arguments": {"city": "Oslo"}}
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call}
    headers = {"Authorization": f"Bearer {client.key}", "Content-Type": "application/json"}
    address = urllib.parse.urljoin(client.url, "/v1/mcp/api")
    request = urllib.request.Request(address, json.dumps(asked).encode(), headers)  # noqa: S310
    # What fails has its series, too.
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=30) as got:  # noqa: S310 - our gateway
        got.read()


def _judge(url: str) -> int:
    bad = 0
    boards = [json.loads((GRAFANA / f"{n}.json").read_text("utf-8")) for n in BOARDS]
    for panel in (p for board in boards for p in board["panels"]):
        for target in panel.get("targets", ()):
            if target["datasource"]["uid"] != "prometheus":
                continue
            query = target["expr"]
            for name, value in (("$__rate_interval", "30s"), ("$tenant", ".+"), ("$__range", "1m")):
                query = query.replace(name, value)
            found = _get(url, "query", query=query)["result"]
            numbers = [one for one in found if one["value"][1] != "NaN"]
            quiet = panel["title"] in QUIET
            bad += not numbers and not quiet
            said = (
                f"{len(numbers)} series"
                if numbers
                else f"none, as expected until {QUIET[panel['title']]}"
                if quiet
                else "NO DATA"
            )
            print(f"{panel['title']:64} {said}")
    rules = [r for group in _get(url, "rules")["groups"] for r in group["rules"]]
    for rule in rules:
        if rule["health"] != "ok":
            bad += 1
            print(f"{rule['name']:64} {rule['health']} {rule.get('lastError', '')}")
    firing = sorted({rule["name"] for rule in rules if rule.get("state") == "firing"})
    print(f"{len(rules)} rules evaluated; firing: {', '.join(firing) or 'none'}")
    series = "tenantgate_llm_request_seconds_bucket"
    now = time.time()
    told = _get(url, "query_exemplars", query=series, start=str(now - 600), end=str(now))
    traces = {e["labels"].get("trace_id") for one in told for e in one["exemplars"]}
    print(f"exemplars of {series}: {', '.join(sorted(map(str, traces))) or 'NONE'}")
    return int(bool(bad or traces != {TRACE}))


def _get(url: str, what: str, **parameters: str) -> Any:
    address = f"{url}/api/v1/{what}?{urllib.parse.urlencode(parameters)}"
    with urllib.request.urlopen(address, timeout=30) as got:  # noqa: S310 - our own Prometheus
        return json.load(got)["data"]


@contextlib.contextmanager
def _prometheus(folder: Path, port: int) -> Iterator[str]:
    """A Prometheus that scrapes the port each second and has our rules; its address."""
    config = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "5s"},
        "rule_files": [str(GRAFANA / "alerts.yaml"), str(GRAFANA / "slo.yaml")],
        "scrape_configs": [
            {
                "job_name": "tenantgate",
                "static_configs": [{"targets": [f"127.0.0.1:{port}"], "labels": {"server": "tenantgate"}}],
            }
        ],
    }
    path, listen = folder / "prometheus.yaml", f"127.0.0.1:{free_port()}"
    path.write_text(yaml.safe_dump(config), "utf-8")
    command = [
        *("prometheus", f"--config.file={path}", f"--storage.tsdb.path={folder / 'tsdb'}"),
        *(f"--web.listen-address={listen}", "--log.level=error", "--enable-feature=exemplar-storage"),
    ]
    process = subprocess.Popen(command)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{listen}/-/ready", timeout=5):
                break
            time.sleep(0.1)
        yield f"http://{listen}"
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _tcp(path: Path) -> Iterator[int]:
    """A port for what listens on a unix socket, to which Prometheus can't connect."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def forward(connection: socket.socket) -> None:
            with connection, socket.socket(socket.AF_UNIX) as inner, contextlib.suppress(OSError):
                inner.connect(str(path))
                inner.sendall(connection.recv(65_536))
                while data := inner.recv(65_536):
                    connection.sendall(data)

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def _receiver() -> Iterator[int]:
    """The port of an Alertmanager that takes everything."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
