"""``tenantgate up``: a whole gateway on this machine, until Ctrl-C."""

from __future__ import annotations

import argparse
import shutil
import signal
import threading
from pathlib import Path

from tenantgate.config.model import Tenant
from tenantgate.devhost.real_kong import find
from tenantgate.devhost.stack import Stack
from tenantgate.errors import ConfigError

__all__ = ["up"]


def up(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``up``."""
    parser.add_argument("-f", "--file", type=Path, default=Path("tenants.yaml"), help="default: %(default)s")
    parser.add_argument(
        "--kong",
        nargs="?",
        const="",
        metavar="BIN",
        help="a real Kong instead of the embedded host: BIN, KONG_BIN, or the one on PATH",
    )
    parser.add_argument(
        "--postgres",
        nargs="?",
        const="",
        metavar="URL",
        help="with --kong: a database for Kong and the policies, postgresql://USER@HOST/DATABASE, whose password is in "
        "PGPASSWORD or ~/.pgpass; without URL one that is started, and goes at the end",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="of the proxy; 0 takes any (default: %(default)s)"
    )
    parser.add_argument("--state-dir", type=Path, default=Path(".tenantgate"), help="default: %(default)s")
    parser.add_argument(
        "--mock-latency-ms",
        type=float,
        default=300.0,
        metavar="MS",
        help="before the mock provider's first byte (default: %(default)s)",
    )
    parser.add_argument(
        "--mock-chunk-ms",
        type=float,
        default=20.0,
        metavar="MS",
        help="before each chunk of its streams (default: %(default)s)",
    )
    parser.add_argument(
        "--no-redis", action="store_true", help="start no Redis: use gateway.redis of the file"
    )
    parser.add_argument("--log-level", default="info", choices=("debug", "info", "notice", "warn", "error"))
    parser.set_defaults(func=_up)


def _up(args: argparse.Namespace) -> int:
    kong = None if args.kong is None else Path(args.kong) if args.kong else find()
    if kong is not None and shutil.which(kong) is None:
        raise ConfigError(f"--kong: {kong}: no such program")
    if not 0 <= args.port <= 65535:
        raise ConfigError(f"--port: {args.port} is outside 0 to 65535")
    if args.postgres is not None and kong is None:
        raise ConfigError("--postgres: needs --kong, since the embedded host has no database")
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    stack = Stack(
        tenants=args.file,
        state_dir=args.state_dir,
        kong_bin=kong,
        postgres=args.postgres,
        port=args.port,
        mock_latency_ms=args.mock_latency_ms,
        mock_chunk_ms=args.mock_chunk_ms,
        log_level=args.log_level,
        own_redis=not args.no_redis,
    )
    redis = "" if args.no_redis else "Redis, "
    print(f"starting {redis}the mock provider, the plugin servers and the gateway …", flush=True)
    with stack:
        print(_banner(stack, embedded=kong is None), flush=True)
        while not stopped.wait(1.0):
            stack.check()
        print("\nstopping …", flush=True)
    return 0


def _names(tenant: Tenant) -> list[str]:
    return [name for model in tenant.models for name in (*model.aliases, model.known_as[1])]


def _banner(stack: Stack, *, embedded: bool) -> str:
    lines = [f"{stack.description} at {stack.proxy_url}"]
    if embedded:
        lines.append("It is for development and tests: put Kong 3.9 in front of anything that matters.")
    tenants = stack.file.tenants
    width = max(len(t.id) for t in tenants)
    lines += ["", f"  {'tenant':{width}}  models"]
    lines += [f"  {t.id:{width}}  {', '.join(_names(t))}" for t in tenants]
    first = next(((stack.key_name(t.id), _names(t)[0]) for t in tenants if t.api_keys and t.models), None)
    if keyless := [t.id for t in tenants if not t.api_keys and t.id not in stack.file.keys]:
        state = stack.secrets_file.parent
        lines += [
            "",
            f"no key yet: {', '.join(keyless)}",
            f"  tenantgate keys issue {keyless[0]} --name first -f {stack.tenants} --state-dir {state}",
        ]
    made = ", ".join(stack.made_up)
    if made:
        lines += ["", f"made-up secrets ({made}) are in {stack.secrets_file}"]
    if first:
        name, model_name = first
        base = f"{stack.proxy_url}{stack.file.gateway.path_prefix}/v1"
        key = f'$(python3 -c \'import json; print(json.load(open("{stack.secrets_file}"))["{name}"])\')'
        lines += [
            "",
            "try (twice, and in other words):",
            f"  KEY={key if name in stack.made_up else '$' + name}",
            f"  curl -i {base}/chat/completions \\",
            '    -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\',
            f'    -d \'{{"model": "{model_name}", "messages": [{{"role": "user", "content": "Who pays?"}}]}}\'',
            f"or any OpenAI SDK: base_url={base}",
            "after a change of the file:",
            f"  tenantgate apply {stack.tenants} --state-dir {stack.secrets_file.parent}",
            "what happens, if tenants have an audit log (the same --dir for audit, usage and report):",
            f"  tenantgate top --dir {stack.audit_dir}",
        ]
    lines += ["", f"logs: {', '.join(map(str, stack.logs()))}", "Ctrl-C stops everything."]
    return "\n".join(lines)
