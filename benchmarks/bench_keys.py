"""Keys on a real Kong: how long a new key takes to open, and a revoked one to be refused.

    .venv/bin/python benchmarks/bench_keys.py --kong-bin /path/to/kong [--postgres-bin /usr/lib/postgresql/15/bin]

A client sends requests without a pause, each on a connection of its own. Without a database Kong takes the whole
configuration; with one (PostgreSQL, two Kongs, changes made on the first) the second hears of it from the database.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import pwd
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from tenantgate.devhost.real_kong import RealKong
from tenantgate.devhost.redis_server import free_port
from tenantgate.devhost.stack import Stack

TENANTS = """
version: 1
tenants:
  - {id: acme}
  - {id: globex, api_keys: ['${{ env "DECK_GLOBEX" }}']}
"""


def status(url: str, key: str) -> int:
    """Status of one request on a connection of its own."""
    parts = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    try:
        connection.request("GET", "/v1/models", headers={"Authorization": f"Bearer {key}"})
        return connection.getresponse().status
    finally:
        connection.close()


def until(url: str, key: str, wanted: int) -> float:
    """Seconds until eight answers in a row have the status."""
    start, row, first = time.monotonic(), 0, 0.0
    while row < 8:
        if status(url, key) == wanted:
            first = first if row else time.monotonic() - start
            row += 1
        else:
            row = 0
        if time.monotonic() - start > 60:
            raise SystemExit(f"no {wanted} within a minute")
    return first


def command(tenants: Path, admin: str, *argv: str) -> str:
    """Run `tenantgate keys`; what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "tenantgate.cli", "keys", *argv, "-f", str(tenants), "--admin-url", admin],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout.strip()


def rounds(tenants: Path, admin: str, proxies: list[str], number: int) -> dict[str, Any]:
    """Issue and revoke, again and again."""
    opened: list[float] = []
    closed: list[list[float]] = []
    for i in range(number):
        key = command(tenants, admin, "issue", "acme", "--name", f"k{i}")
        opened.append(max(until(url, key, 200) for url in proxies))
        start = time.monotonic()
        command(tenants, admin, "revoke", "acme", "--name", f"k{i}")
        done = time.monotonic() - start
        closed.append([done + until(url, key, 401) for url in proxies])
    return {
        "rounds": number,
        "open_after_command_s": {"median": round(median(opened), 2), "most": round(max(opened), 2)},
        "refused_after_start_of_revoke_s": [
            {"median": round(median(node), 2), "most": round(max(node), 2)}
            for node in zip(*closed, strict=True)
        ],
    }


@contextlib.contextmanager
def postgres(binaries: Path, folder: Path) -> Iterator[Mapping[str, str]]:
    """A PostgreSQL of one's own; Kong's settings for it."""
    folder.mkdir()
    port = free_port()
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("postgres")
        os.chown(folder, entry.pw_uid, entry.pw_gid)
        user = {"user": entry.pw_uid, "group": entry.pw_gid}

    def run(*argv: Any) -> None:
        subprocess.run(argv, check=True, capture_output=True, cwd="/", **user)

    data = folder / "data"
    run(binaries / "initdb", "-D", data, "-A", "trust", "-U", "kong")
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
    run(binaries / "pg_ctl", "-D", data, "-o", options, "-l", folder / "log", "-w", "start")
    try:
        run(binaries / "createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "kong", "kong")
        yield {
            "KONG_DATABASE": "postgres",
            "KONG_PG_HOST": "127.0.0.1",
            "KONG_PG_PORT": str(port),
            "KONG_PG_USER": "kong",
            "KONG_PG_DATABASE": "kong",
        }
    finally:
        run(binaries / "pg_ctl", "-D", data, "-m", "immediate", "stop")


def with_database(stack: Stack, binary: Path, binaries: Path, folder: Path, number: int) -> dict[str, Any]:
    """Two Kongs on one database, changed by the first."""
    conf = (stack.secrets_file.parent / "kong.conf").read_text()
    environ = {k: v for k, v in stack.environ.items() if not k.startswith("DECK_")}
    with contextlib.ExitStack() as exit_, postgres(binaries, folder / "pg") as settings:
        proxies, admins = [], []
        for node in range(2):
            prefix, path = folder / f"n{node}", folder / f"kong{node}.conf"
            ports = {name: free_port() for name in ("proxy", "admin", "status")}
            text = conf
            for name, port in ports.items():
                text = re.sub(rf"(?m)^{name}_listen = .*$", f"{name}_listen = 127.0.0.1:{port}", text)
            text = re.sub(r"(?m)^(database|declarative_config|prefix) = .*\n", "", text)
            text = text.replace(str(stack.error_log.parents[1]), str(prefix))
            egress = folder / f"egress{node}.conf"
            found = re.search(r"(?m)^nginx_http_include = (.*)$", text)
            assert found
            lines = Path(found[1]).read_text()
            listen = re.search(r"listen 127\.0\.0\.1:(\d+)", lines)
            assert listen
            egress.write_text(lines.replace(listen[0], f"listen 127.0.0.1:{free_port()}"))
            path.write_text(text.replace(found[1], str(egress)))
            env = {**environ, **settings}
            if node == 0:
                subprocess.run(
                    [binary, "migrations", "bootstrap", "-c", path], env=env, check=True, capture_output=True
                )
            kong = RealKong(binary, path, prefix, log=folder / f"n{node}.log")
            exit_.callback(kong.stop)
            kong.start(env)
            proxies.append(f"http://127.0.0.1:{ports['proxy']}")
            admins.append(f"http://127.0.0.1:{ports['admin']}")
        state = ["--state-dir", str(stack.secrets_file.parent)]
        apply = [
            sys.executable,
            "-m",
            "tenantgate.cli",
            "apply",
            str(stack.tenants),
            *state,
            "--admin-url",
            admins[0],
        ]
        subprocess.run(apply, check=True, capture_output=True)
        until(proxies[1], stack.key("globex"), 200)
        return rounds(stack.tenants, admins[0], proxies, number)


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kong-bin", type=Path, required=True)
    parser.add_argument("--postgres-bin", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tgk") as name:
        folder = Path(name)
        folder.chmod(0o755)
        tenants = folder / "tenants.yaml"
        tenants.write_text(TENANTS)
        out: dict[str, Any] = {}
        with Stack(tenants=tenants, state_dir=folder / "gw", kong_bin=args.kong_bin, processes="1") as stack:
            admin = json.loads((folder / "gw" / "gateway.json").read_text())["admin_url"]
            out["without_database"] = rounds(tenants, admin, [stack.proxy_url], args.rounds)
            if args.postgres_bin:
                out["postgres_two_nodes"] = with_database(
                    stack, args.kong_bin, args.postgres_bin, folder, args.rounds
                )
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
