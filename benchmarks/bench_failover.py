"""What the hop costs, and how soon the next provider is asked: ``bench_failover.py --kong-bin KONG [--requests 400]``.

A real Kong with one worker and the Lua plugins, without the engine: a pre-function decides, by a header of the request.
The ways take turns, in blocks. Processor time is that of Kong's worker. The provider, a process of its own, notes when
it has refused a request and when the next one came.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import http.client
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import yaml

from tenantgate import paths
from tenantgate.config.kong_conf import KongConfOptions, egress_conf, kong_conf
from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import free_port

ANSWER = {
    "id": "1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "Hello."}}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
}
CHUNK = {
    "id": "1",
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": {"content": "Hello."}}],
}
EVENTS = [f"data: {json.dumps(CHUNK)}\n\n".encode()] * 20 + [b"data: [DONE]\n\n"]
WAYS = {
    "direct": "straight to the provider",
    "hop": "through the hop",
    "egress": "through the hop, with an egress policy of 20 hosts",
    "nginx-retry": "two targets, the first refuses; nginx asks both itself",
    "hop-retry": "two targets, the first refuses; through the hop",
}
RETRY_PLUGIN = """
-- The rejected way: nginx's own retry at the provider itself, possible where the targets' paths agree.
local balancer = require "ngx.balancer"
local retarget = require "kong.plugins.tenantgate-failover.retarget"
local Retry = {PRIORITY = 768, VERSION = "0.1.0"}
function Retry:access()
  if kong.request.get_header("X-Way") ~= "nginx-retry" then
    return
  end
  local route = ngx.ctx.tenantgate_route
  kong.service.set_retries(1)
  ngx.req.set_method(ngx.HTTP_PUT) -- so the providers are asked by PUT, which the mock doesn't mind
  kong.service.set_target_retry_callback(function()
    local asked = retarget.asked(route.targets[2], route.body, route.headers)
    retarget.apply(asked)
    ngx.ctx.balancer_data.preserve_host = false
    kong.service.request.set_scheme(asked.scheme)
    kong.service.set_target(asked.host, asked.port)
    balancer.recreate_request()
    return true
  end)
end
return Retry
"""
RETRY_SCHEMA = 'return {name = "bench-retry", fields = {{config = {type = "record", fields = {}}}}}'
DECIDE = """
local way = kong.request.get_header("X-Way")
local function target(id, host)
  return {id = id, provider = "openai", name = "m", options = {upstream_url = host .. "/v1/chat/completions"},
    auth = {header_name = "Authorization", header_value = "k", bearer = true}, max_request_body_size = 4194304}
end
local good, bad = target("good", "PROVIDER"), target("bad", "REFUSING")
local routing = {retries = 1, failover_criteria = {"error", "http_503"}, connect_ms = 1000, ttft_ms = 5000,
  streaming_total_ms = 60000, non_streaming_total_ms = 60000}
local d = {target = good, fail_closed = false, reply_guard = false}
if way == "hop" then
  d.targets, d.routing = {good}, routing
elseif way == "egress" then
  d.egress = {}
  for i = 1, 19 do d.egress[i] = "host" .. i .. ".example.com" end
  d.egress[20] = "PROVIDER"
elseif way == "hop-retry" then
  d.target, d.targets, d.routing = bad, {bad, good}, routing
elseif way == "nginx-retry" then
  d.target, d.targets = bad, {bad, good}
end
kong.ctx.shared.tenantgate_request = {tenant = "a", id = "1", headers = {}, body = kong.request.get_raw_body()}
kong.ctx.shared.tenantgate_decision = d
"""


@dataclass(slots=True)
class Clock:
    """Times from a refusal to the next request, in s."""

    refused: float = 0.0
    gaps: list[float] = field(default_factory=list)


class Provider(asyncio.Protocol):
    """Answers by HTTP/1.1; as `refusing` with 503."""

    def __init__(self, clock: Clock, *, refusing: bool) -> None:
        self._clock, self._refusing, self._buffer = clock, refusing, b""

    def connection_made(self, transport: Any) -> None:
        """Keep it."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer a request as soon as it is whole."""
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or len(body) < int(head.lower().split(b"content-length: ")[1].split(b"\r")[0]):
            return
        self._buffer = b""
        if self._refusing:
            self._transport.write(
                b"HTTP/1.1 503 No\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
            )
            self._clock.refused = time.perf_counter()
            return
        if self._clock.refused:
            self._clock.gaps.append(time.perf_counter() - self._clock.refused)
            self._clock.refused = 0.0
        if b'"stream":true' in body:
            head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
            self._transport.write(head)
            asyncio.get_running_loop().create_task(self._stream())
        else:
            text = json.dumps(ANSWER).encode()
            head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(
                text
            )
            self._transport.write(head + text)

    async def _stream(self) -> None:
        for event in EVENTS:
            self._transport.write(b"%x\r\n%s\r\n" % (len(event), event))
            await asyncio.sleep(0)
        self._transport.write(b"0\r\n\r\n")


def provide(pipe: Connection) -> None:
    """The process of both providers; a message asks for the gaps since the last one."""

    async def run() -> None:
        loop = asyncio.get_running_loop()
        clock = Clock()
        made = [functools.partial(Provider, clock, refusing=refusing) for refusing in (False, True)]
        servers = [await loop.create_server(make, "127.0.0.1", 0) for make in made]
        pipe.send([server.sockets[0].getsockname()[1] for server in servers])
        while await loop.run_in_executor(None, pipe.recv):
            pipe.send(clock.gaps)
            clock.gaps = []

    asyncio.run(run())


@contextmanager
def gateway(kong_bin: Path, ports: list[int]) -> Iterator[tuple[int, int]]:
    """Kong's port, and the process of its worker."""
    with tempfile.TemporaryDirectory(prefix="tg-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        plugin = folder / "kong" / "plugins" / "bench-retry"
        plugin.mkdir(parents=True)
        (plugin / "handler.lua").write_text(RETRY_PLUGIN)
        (plugin / "schema.lua").write_text(RETRY_SCHEMA)
        code = DECIDE
        for word, port in zip(("PROVIDER", "REFUSING"), ports, strict=True):
            code = code.replace(word, f"http://127.0.0.1:{port}")
        port, hop = free_port(), free_port()
        nowhere = {"provider": "openai", "name": "none", "options": {"upstream_url": "http://127.0.0.1:1/"}}
        plugins = [
            {"name": "pre-function", "config": {"access": [code]}},
            {"name": "tenantgate-target", "config": {"keep_headers": ["X-Way"]}},
            {
                "name": "ai-proxy",
                "config": {
                    "route_type": "llm/v1/chat",
                    "model": nowhere,
                    "logging": {"log_statistics": True, "log_payloads": False},
                },
            },
            {"name": "tenantgate-failover", "config": {"port": hop}},
            {"name": "bench-retry"},
        ]
        route = {"name": "r", "paths": ["/v1/chat/completions"], "response_buffering": False}
        service = {
            "name": "llm",
            "url": "https://llm.invalid",
            "retries": 0,
            "routes": [route],
            "plugins": plugins,
        }
        (folder / "kong.yml").write_text(yaml.safe_dump({"_format_version": "3.0", "services": [service]}))
        options = KongConfOptions(
            prefix=folder,
            declarative_config=folder / "kong.yml",
            proxy_listen=f"127.0.0.1:{port}",
            status_listen="off",
            egress_include=folder / "egress.conf",
            egress_port=hop,
            extra={
                **RealKong.settings(),
                "proxy_access_log": "off",
                "plugins": "bundled,tenantgate-target,tenantgate-failover,tenantgate-request,bench-retry",
                "lua_package_path": f"{folder}/?.lua;{paths.plugins_dir()}/?.lua;;",
                "pluginserver_names": "",
            },
        )
        (folder / "egress.conf").write_text(egress_conf(options))
        (folder / "kong.conf").write_text(kong_conf(options))
        kong = RealKong(kong_bin, folder / "kong.conf", folder, log=folder / "start.log")
        kong.start(os.environ)
        try:
            children = Path(f"/proc/{kong.pid}/task/{kong.pid}/children").read_text().split()
            yield port, int(children[0])
        finally:
            kong.stop()


def processor_ms(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")


def block(port: int, way: str, count: int, *, stream: bool) -> list[float]:
    """Times of `count` requests one after another, in ms."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    body = json.dumps(
        {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "Hi " * 100}]}
    )
    times = []
    for _ in range(count):
        start = time.perf_counter()
        connection.request(
            "POST", "/v1/chat/completions", body, {"Content-Type": "application/json", "X-Way": way}
        )
        response = connection.getresponse()
        text = response.read()
        times.append((time.perf_counter() - start) * 1000)
        assert response.status == 200, (way, response.status, text)
        assert b"Hello." in text
    connection.close()
    return times


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kong-bin", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=400, help="in a block")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    pipe, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=provide, args=(theirs,), daemon=True)
    process.start()
    ports = pipe.recv()
    times: dict[Any, list[float]] = defaultdict(list)
    spent: dict[Any, float] = defaultdict(float)
    gaps: dict[Any, list[float]] = defaultdict(list)
    with gateway(args.kong_bin, ports) as (port, worker):
        for number in range(args.rounds + 1):
            for key in [(way, stream) for stream in (False, True) for way in WAYS]:
                before = processor_ms(worker)
                found = block(port, key[0], args.requests, stream=key[1])
                cost = processor_ms(worker) - before
                pipe.send(True)
                between = pipe.recv()
                if number:  # the first round warms up
                    times[key] += found
                    spent[key] += cost
                    gaps[key] += between
    pipe.send(False)
    print("| way | reply | p50 ms | p95 ms | processor ms | refusal to next request, p50 / p95 ms |")
    print("|---|---|---|---|---|---|")
    for (way, stream), found in times.items():
        p50, p95 = percentiles(found)
        gap = (
            " / ".join(f"{1000 * value:.2f}" for value in percentiles(gaps[way, stream]))
            if gaps[way, stream]
            else ""
        )
        kind = "stream" if stream else "JSON"
        print(
            f"| {WAYS[way]} | {kind} | {p50:.2f} | {p95:.2f} | {spent[way, stream] / len(found):.2f} | {gap} |"
        )


def percentiles(values: list[float]) -> tuple[float, float]:
    """The 50th and the 95th."""
    cuts = statistics.quantiles(values, n=20)
    return cuts[9], cuts[18]


if __name__ == "__main__":
    main()
