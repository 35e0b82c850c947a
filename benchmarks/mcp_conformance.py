"""MCP's conformance suite against a generated server: ``mcp_conformance.py [--kong-bin KONG]``.

Installs `@modelcontextprotocol/conformance` from npm into a temporary folder (or takes ``--packages``, a folder with
both versions), starts a gateway whose server is made of the mock API, and runs every server scenario: of version 0.1.16
for 2025-06-18 and 2025-11-25, of an alpha of 0.2.0 for 2025-11-25 and 2026-07-28. Ends with status 1 where a scenario
that applies has failed. Those that don't apply are listed, with the reason (`LEFT_OUT`); so are those that pass all the
same. The suite knows no credential: a proxy beside it adds the tenant's key.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from aiohttp import ClientSession, web

from tenantgate.devhost.mcp_stack import TENANT, mcp_stack

RUNS: Final = (
    ("0.1.16", ("--suite", "all")),
    ("0.2.0-alpha.12", ("--requirements", "2025-11-25")),
    ("0.2.0-alpha.12", ("--requirements", "2026-07-28")),
)
_TOOLS_ONLY: Final = "the server offers tools, and no resources, prompts or completions"
_NO_QUESTIONS: Final = "a tool of an API never asks its client anything (sampling, elicitation, roots)"
_NO_STREAM: Final = "a result comes whole, after the guards: without log messages and progress"
_TASKS: Final = "an extension that the server doesn't have"
LEFT_OUT: Final[tuple[tuple[str, str], ...]] = (
    (r"resources-.*|prompts-.*|completion-complete", _TOOLS_ONLY),
    (r"caching", _TOOLS_ONLY + "; the hints of server/discover and tools/list are right"),
    (r"logging-set-level|tools-call-with-logging|tools-call-with-progress", _NO_STREAM),
    (r"tools-call-sampling|tools-call-elicitation|elicitation-.*|input-required-result-.*", _NO_QUESTIONS),
    (r"server-stateless", _NO_QUESTIONS + "; three of its checks ask for tools that do, the others pass"),
    (
        r"tools-call-embedded-resource|tools-call-mixed-content",
        "an API's reply is one text, picture or sound",
    ),
    (
        r"json-schema-2020-12",
        "a tool's schema comes from OpenAPI, not from a fixture; not scored by the suite",
    ),
    (
        r"http-custom-header-server-validation",
        "no operation of the API has x-mcp-header; not scored by the suite",
    ),
    (r"tasks-.*|sep-2640-.*", _TASKS),
)
_LINE: Final = re.compile(r"^([✓✗]) ([a-z0-9-]+): (\d+) passed, (\d+) failed", re.MULTILINE)
_NOT_PASSED: Final = ("content-length", "connection", "transfer-encoding", "date", "server")


@contextlib.contextmanager
def with_key(target: str, key: str) -> Iterator[int]:
    """A proxy on loopback that adds the key; its port."""
    ready, port, ended = threading.Event(), [0], asyncio.Event()
    loop = asyncio.new_event_loop()

    async def answer(request: web.Request) -> web.Response:
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _NOT_PASSED}
        headers["Authorization"] = f"Bearer {key}"
        async with (
            ClientSession() as session,
            session.request(
                request.method, target + request.raw_path, headers=headers, data=await request.read()
            ) as reply,
        ):
            sent = {k: v for k, v in reply.headers.items() if k.lower() not in _NOT_PASSED}
            return web.Response(status=reply.status, body=await reply.read(), headers=sent)

    async def serve() -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        server: Any = site._server  # noqa: SLF001 - aiohttp has no other way to ask
        port[0] = server.sockets[0].getsockname()[1]
        ready.set()
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    ready.wait()
    try:
        yield port[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()


def installed(folder: Path, version: str, *, offline: bool = False) -> Path:
    """The suite's program in a folder of its own."""
    place = folder / version
    program = place / "node_modules" / "@modelcontextprotocol" / "conformance" / "dist" / "index.js"
    if not program.exists():
        if offline:
            raise SystemExit(f"{program} isn't there: run this without --offline once")
        place.mkdir(parents=True, exist_ok=True)
        package = f"@modelcontextprotocol/conformance@{version}"
        subprocess.run(["npm", "install", "--silent", "--prefix", place, package], check=True)
    return program


def reason(scenario: str) -> str | None:
    """Why a scenario doesn't apply; None where it does."""
    return next((why for pattern, why in LEFT_OUT if re.fullmatch(pattern, scenario)), None)


def table() -> str:
    """What is left out and why, in Markdown, as docs/mcp-serving.md has it."""
    lines = ["| Scenarios | Why they don't apply |", "|---|---|"]
    for pattern, why in LEFT_OUT:
        names = ", ".join(f"`{name.replace('.*', '*')}`" for name in pattern.split("|"))
        lines.append(f"| {names} | {why} |")
    return "\n".join(lines) + "\n"


def run(node: str, program: Path, url: str, arguments: tuple[str, ...]) -> list[tuple[str, bool]]:
    """The scenarios of one run, and whether each has passed."""
    command = [node, str(program), "server", "--url", url, *arguments]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    scenarios = [(name, mark == "✓") for mark, name, *_ in _LINE.findall(found.stdout)]
    if not scenarios:
        raise SystemExit(f"the suite didn't run (Node 22 is needed):\n{found.stderr[-2000:]}")
    return scenarios


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kong-bin", help="a real Kong's `kong` instead of the embedded host")
    parser.add_argument("--packages", type=Path, help="folder for the suite's versions, kept")
    parser.add_argument("--offline", action="store_true", help="install nothing")
    parser.add_argument(
        "--table", action="store_true", help="print what is left out as a table, and run nothing"
    )
    parser.add_argument("--node", default=shutil.which("node") or "node", help="Node 22 or later")
    args = parser.parse_args()
    if args.table:
        print(table(), end="")
        return
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        packages = args.packages or Path(folder) / "packages"
        programs = {version: installed(packages, version, offline=args.offline) for version, _ in RUNS}
        with (
            mcp_stack(Path(folder), kong_bin=args.kong_bin) as (stack, _),
            with_key(stack.proxy_url, stack.key(TENANT)) as port,
        ):
            print(stack.description)
            for version, arguments in RUNS:
                print(f"\nconformance {version} {' '.join(arguments)}")
                for scenario, passed in run(
                    args.node, programs[version], f"http://localhost:{port}/v1/mcp/api", arguments
                ):
                    why = None if passed else reason(scenario)
                    failed += not passed and why is None
                    word = "passed" if passed else "left out" if why else "FAILED"
                    print(f"  {word:9} {scenario}{f': {why}' if why else ''}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
