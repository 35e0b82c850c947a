"""``tenantgate providers``: health of providers' models, and the switches that drain and restore them.

Switches are sealed under the gateway's key, so all of this takes the encryption_key. Every node goes by a switch within
two seconds; requests that are under way end as they began.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import shlex
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime

from tenantgate.arguments import add_json, add_key_env, add_redis_url, redis_url, until, whole_number
from tenantgate.errors import ConfigError
from tenantgate.routing.core.circuit import State, back_at, state_of
from tenantgate.routing.core.provider_limits import Allowance, left
from tenantgate.routing.core.switches import Switch
from tenantgate.routing.records import RoutingRecords, StoredHealth
from tenantgate.routing.stored import sealer
from tenantgate.store.redis_nodes import connect
from tenantgate.store.url import redis_config

__all__ = ["providers"]


def providers(area: argparse.ArgumentParser) -> None:
    """Add ``providers status | drain | restore | events``."""
    actions = area.add_subparsers(metavar="ACTION", required=True)
    status = actions.add_parser("status", help="what is drained, and how targets with failover do")
    _common(status)
    add_json(status)
    status.add_argument(
        "--max-fails",
        type=whole_number(0, 1000),
        default=3,
        metavar="N",
        help="judge circuits by this max_fails, which is each model's own (default: %(default)s)",
    )
    status.add_argument(
        "--fail-timeout",
        type=whole_number(1, 86_400),
        default=10,
        metavar="SECONDS",
        help="and by this fail_timeout_s (default: %(default)s)",
    )
    status.set_defaults(func=_status)
    drain = actions.add_parser("drain", help="send no new request to a provider, a model or one target")
    restore = actions.add_parser("restore", help="end a drain; what is drained within it is restored, too")
    for parser, drained in ((drain, True), (restore, False)):
        parser.add_argument(
            "target",
            metavar="TARGET",
            help="a provider (openai), one of its models (openai/gpt-4o), a target's id (openai/gpt-4o#2), or all",
        )
        _common(parser)
        parser.add_argument(
            "--tenant", metavar="ID", help="for this tenant only, as in tenants.yaml; default: all"
        )
        parser.add_argument(
            "--by", metavar="NAME", help="who does this, as they say; default: the name of the user account"
        )
        parser.add_argument("--reason", required=drained, default="", help="why; it is kept with the switch")
        parser.set_defaults(func=_switch, drained=drained, until=None)
    drain.add_argument(
        "--until",
        metavar="WHEN",
        help="2026-01-31, 2026-01-31T18:00Z, or from now: 30m, 8h, 2d; default: until it is restored",
    )
    events = actions.add_parser(
        "events", help="what was drained and restored, and which credentials were refused"
    )
    _common(events)
    add_json(events)
    events.add_argument(
        "--limit",
        type=whole_number(1, 10_000),
        default=50,
        metavar="N",
        help="the latest (default: %(default)s)",
    )
    events.set_defaults(func=_events)


def _common(parser: argparse.ArgumentParser) -> None:
    add_redis_url(parser)
    add_key_env(parser)


def _records(args: argparse.Namespace) -> RoutingRecords:
    key = os.environ.get(args.key_env)
    if not key:
        raise ConfigError(f"--key-env: the environment has no {args.key_env}")
    url = redis_url(args.redis_url)
    return RoutingRecords(connect(redis_config(url), timeout_ms=2000), sealer(key))


def _switch(args: argparse.Namespace) -> int:
    now = time.time()
    switch = Switch(
        scope=args.target,
        tenant=args.tenant,
        drained=args.drained,
        reason=args.reason,
        by=_who(args),
        created=now,
        until=None if args.until is None else until(args.until, now),
    )
    _records(args).set(switch)
    ends = "" if switch.until is None else f" until {_time(switch.until)}"
    print(f"{switch.scope} {'drained' if switch.drained else 'restored'}{ends}")
    return 0


def _who(args: argparse.Namespace) -> str:
    try:
        return str(args.by or getpass.getuser())
    except (KeyError, OSError):
        raise ConfigError("--by: this system doesn't say who you are; name yourself") from None


def _status(args: argparse.Namespace) -> int:
    records = _records(args)
    now = time.time()
    switches, targets = records.switches(), [_shown(s, args, now) for s in records.health()]
    if foreign := records.unauthenticated():
        print(f"warning: {foreign} switches count for nothing: another key sealed them", file=sys.stderr)
    if args.json:
        print(json.dumps({"drained": [asdict(s) for s in switches], "targets": targets}, indent=2))
        return 0
    for switch in switches:
        whose = "" if switch.tenant is None else f" for tenant {switch.tenant}"
        ends = "restored" if switch.until is None else _time(switch.until)
        print(f"drained: {switch.scope}{whose} until {ends}, by {switch.by}: {switch.reason}")
    for target in targets:
        parts = [f"{name}={shlex.quote(str(v))}" for name, v in target.items() if v not in (None, "", 0)]
        print(" ".join(parts))
    if not switches and not targets:
        print("nothing is drained, and no target with failover was asked in the last hour")
    return 0


def _shown(stored: StoredHealth, args: argparse.Namespace, now: float) -> dict[str, object]:
    circuit, limits = stored.health.circuit, stored.health.limits
    terms = {"max_fails": args.max_fails, "fail_timeout_s": float(args.fail_timeout)}
    state = state_of(circuit, **terms, now=now)
    return {
        "target": f"{stored.provider}/{stored.model}",
        "host": stored.host,
        "deployment": stored.deployment,
        "state": state.value,
        "failures": circuit.failures,
        "cause": circuit.cause if circuit.failures else "",
        "back_in_s": round(back_at(circuit, **terms) - now, 1) if state is State.OPEN else None,
        "first_byte_ms": round(stored.health.streamed.seconds * 1000),
        "reply_ms": round(stored.health.whole.seconds * 1000),
        "requests_left": _left(limits.requests, now),
        "tokens_left": _left(limits.tokens, now),
    }


def _left(allowance: Allowance | None, now: float) -> int | None:
    if allowance is None or (now >= allowance.full_at and allowance.limit is None):
        return None
    return int(left(allowance, now))


def _events(args: argparse.Namespace) -> int:
    for event in _records(args).events(args.limit):
        if args.json:
            print(json.dumps(event))
        else:
            rest = " ".join(f"{k}={shlex.quote(v)}" for k, v in event.items() if k not in ("at", "event"))
            print(f"{_time(float(event.get('at', 0)))}  {event.get('event', '')}  {rest}")
    return 0


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
