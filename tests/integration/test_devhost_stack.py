"""The stack as `tenantgate up` runs it: real processes, and none of them left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tenantgate.devhost import redis_server
from tenantgate.devhost.processes import Child, command_pids, descendants
from tenantgate.devhost.redis_server import RedisServer
from tenantgate.devhost.stack import Stack
from tenantgate.errors import ConfigError, EdgeError

from support import until

TENANTS = """
version: 1
tenants:
  - {id: keyless, models: [{provider: mock, model: small}]}
  - id: acme
    api_keys: ['${{ env "DECK_ACME_KEY" }}']
    models: [{provider: mock, model: small}]
    cache: {enabled: false}
"""

PLUGIN = "tenantgate"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    made = tmp_path_factory.mktemp("s")
    (made / "tenants.yaml").write_text(TENANTS)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DECK_ACME_KEY", raising=False)
        yield made


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    state = folder / "state"
    with Stack(tenants=folder / "tenants.yaml", state_dir=state, processes="1") as made:
        yield made
        os.kill(made.pids(PLUGIN)[0], signal.SIGSTOP)
        assert command_pids(os.getpid(), str(state))
    assert command_pids(os.getpid(), str(state)) == [], "what it starts it ends"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", int(made.proxy_url[17:]))).close()


def alive(pids: list[int]) -> list[int]:
    """Those that run; a zombie doesn't."""
    listed = subprocess.run(
        ["ps", "-o", "pid=,stat=", "-p", ",".join(map(str, pids))],
        capture_output=True,
        text=True,
        check=False,
    )
    return [int(pid) for pid, stat in map(str.split, listed.stdout.splitlines()) if not stat.startswith("Z")]


def test_a_tenant_can_ask(stack: Stack) -> None:
    client = stack.client("acme", provider="mock", model="small")
    # On a busy machine the first request may outlast Kong's time-out for a plugin.
    until(lambda: client.chat("What is eight?").status, (200).__eq__, what="the first answer")
    for stream in (False, True):
        got = client.chat("What is nine?", stream=stream)
        assert got.status == 200
        assert "What is nine?" in got.text
    assert "for development" in stack.description


def test_made_up_secrets_are_for_their_owner_and_in_no_log(stack: Stack, folder: Path) -> None:
    assert "DECK_ACME_KEY" in stack.made_up
    for path in (stack.secrets_file, folder / "state" / "kong.json"):
        assert path.stat().st_mode & 0o077 == 0
    for log in stack.logs():
        assert stack.key("acme") not in log.read_text(errors="replace")


def test_the_provider_can_be_told_how_to_behave(stack: Stack) -> None:
    client = stack.client("acme", provider="mock", model="small")
    before = stack.mock_count()
    with stack.mock_behaviour(status=429):
        assert client.chat("x").status == 429
    assert client.chat("x").status == 200
    assert stack.mock_count() == before + 2
    assert stack.key("acme") not in stack.mock_headers_seen()
    with pytest.raises(EdgeError, match="known are"), stack.mock_behaviour(nonsense=1):
        pass


def test_redis_can_die_and_come_back(stack: Stack) -> None:
    stack.kill_redis()
    with pytest.raises(redis.ConnectionError):
        redis.Redis.from_url(stack.redis_url).ping()
    stack.start_redis()
    assert redis.Redis.from_url(stack.redis_url).ping()


def test_a_killed_plugin_server_is_started_again(stack: Stack) -> None:
    before = set(stack.pids(PLUGIN))
    assert before
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    until(lambda: set(stack.pids(PLUGIN)) - before, bool, what="plugin server")


def test_a_configuration_that_cant_be_honoured_starts_nothing(folder: Path) -> None:
    wrong = folder / "wrong.yaml"
    wrong.write_text(
        TENANTS.replace("provider: mock", "provider: openai, credential: '{vault://env/no-such-key}'")
    )
    state = folder / "nothing"
    with pytest.raises(ConfigError, match="NO_SUCH_KEY"):
        Stack(tenants=wrong, state_dir=state).start()
    assert command_pids(os.getpid(), str(state)) == []


UP = """
import sys
from tenantgate.cli import build_parser
args = build_parser().parse_args()
sys.exit(args.func(args))
"""


@pytest.mark.slow
def test_up_runs_until_it_is_told_to_stop(folder: Path) -> None:
    options = ["-f", str(folder / "tenants.yaml"), "--port", "0", "--state-dir", str(folder / "up")]
    command = [sys.executable, "-c", UP, "up", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    said = ""
    for line in process.stdout:
        said += line
        if "Ctrl-C" in line:
            break
    assert "not Kong" in said
    assert "/v1" in said
    assert "no key yet: keyless" in said
    family = descendants(process.pid)
    assert family
    process.send_signal(signal.SIGINT)
    process.stdout.read()
    process.stdout.close()
    assert process.wait(20) == 0
    assert alive(family) == []


@pytest.mark.slow
def test_nothing_outlives_a_stack_that_is_killed(folder: Path) -> None:
    code = (
        "import sys, pathlib, os, signal; from tenantgate.devhost.stack import Stack\n"
        f"s = Stack(tenants=pathlib.Path({str(folder / 'tenants.yaml')!r}), "
        f"state_dir=pathlib.Path({str(folder / 'killed')!r}), processes='1'); s.start()\n"
        "print('up', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    family = descendants(process.pid)
    process.kill()
    process.communicate()

    until(lambda: alive(family), lambda left: not left, what="processes left behind")


# -- parts


@pytest.mark.parametrize(
    ("version", "problem"),
    [("6.0.16", "is version 6.0.16, older than 7.0"), ("5", "names no version"), ("x.y", "names no version")],
)
def test_a_redis_that_is_too_old_is_named(tmp_path: Path, version: str, problem: str) -> None:
    old = pretended(tmp_path, version)
    with pytest.raises(ConfigError, match=f"REDIS_BIN: .*{problem}"):
        redis_server.find({"REDIS_BIN": str(old)})


@pytest.mark.parametrize("version", ["7.0.0", "7.0.15", "8.2.1", "10.0.0"])
def test_a_redis_that_is_new_enough_is_taken(tmp_path: Path, version: str) -> None:
    found = pretended(tmp_path, version)
    assert redis_server.find({"REDIS_BIN": str(found)}) == found


def pretended(folder: Path, version: str) -> Path:
    """A redis-server that knows no more than its version."""
    made = folder / "redis-server"
    made.write_text(f"#!/bin/sh\necho Redis server v={version} sha=0\n")
    made.chmod(0o755)
    return made


def test_without_any_redis_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_server, "_from_wheel", lambda: None)
    with pytest.raises(ConfigError, match=r"tenantgate\[dev-host\]"):
        redis_server.find({"PATH": str(tmp_path)})


def test_a_redis_that_cant_start_says_why(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(EdgeError, match="redis-server ended"):
            RedisServer(tmp_path, port=taken.getsockname()[1]).start()


def test_a_child_that_ends_leaves_its_last_words(tmp_path: Path) -> None:
    child = Child(
        "thing", [sys.executable, "-c", "print('no more'); raise SystemExit(3)"], log=tmp_path / "log"
    )
    until(lambda: child.running, lambda r: not r, what="end")
    with pytest.raises(EdgeError, match="thing ended with status 3: no more"):
        child.check()
