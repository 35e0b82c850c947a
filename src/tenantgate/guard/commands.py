"""``tenantgate guard``: exemptions, and what the rules would have done.

Exemptions are sealed under the tenant's key, so to make, approve or list them takes the encryption_key. Nothing here
prints a prompt, a reply or a match, except `report --key-env`: examples, with personal data and secrets masked.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import re
import shlex
import sys
import time
from collections import defaultdict
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tenantgate.arguments import add_json, add_key_env, add_redis_url, redis_url, until, whole_number
from tenantgate.config.load import load
from tenantgate.config.model import TenantsFile
from tenantgate.errors import ConfigError, TenantgateError
from tenantgate.guard.core.exemptions import Exemption, State
from tenantgate.guard.notes import fingerprint, sealer
from tenantgate.guard.records import GuardRecords, new_id
from tenantgate.guard.stored import Keys
from tenantgate.store.redis_nodes import connect
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

__all__ = ["guard"]

_FILE: Final = Path("tenants.yaml")


def guard(area: argparse.ArgumentParser) -> None:
    """Add ``guard exempt | request | approve | revoke | list | events | report | hash``."""
    actions = area.add_subparsers(metavar="ACTION", required=True)
    for name, text in (
        ("exempt", "let what a rule finds pass, until a date"),
        ("request", "ask for an exemption, which a second person must approve"),
    ):
        parser = actions.add_parser(name, help=text)
        _tenant(parser)
        parser.add_argument("--rule", required=True, metavar="NAME", help="the rule's name")
        parser.add_argument(
            "--pattern-hash",
            metavar="HASH",
            help="only what has this hash (see `guard hash`); left out, all that the rule finds",
        )
        parser.add_argument("--reason", required=True, help="why; it is kept with the exemption")
        parser.add_argument(
            "--until",
            required=True,
            metavar="WHEN",
            help="2026-01-31, 2026-01-31T18:00Z, or from now: 8h, 30d, 2w",
        )
        parser.add_argument(
            "-f",
            "--file",
            type=Path,
            metavar="FILE",
            help="tenants.yaml, which must have the tenant and the rule; default: ./tenants.yaml if it is there, else "
            "neither is checked",
        )
        _by(parser)
        _sealed(parser)
        parser.set_defaults(func=_grant, requested=name == "request")
    approving = actions.add_parser("approve", help="put a requested exemption in force, as a second person")
    revoking = actions.add_parser("revoke", help="end an exemption; this needs no key")
    for parser, handler in ((approving, _approve), (revoking, _revoke)):
        _tenant(parser)
        parser.add_argument("id", metavar="ID", help="the exemption's id, as `guard list` shows it")
        _by(parser)
        parser.set_defaults(func=handler)
    _sealed(approving)
    listing = actions.add_parser("list", help="a tenant's exemptions")
    _tenant(listing)
    _sealed(listing)
    add_json(listing)
    listing.set_defaults(func=_list)
    events = actions.add_parser("events", help="what happened to exemptions, and what was blocked")
    _tenant(events)
    add_json(events)
    events.add_argument(
        "--limit",
        type=whole_number(1, 10_000),
        default=50,
        metavar="N",
        help="the latest (default: %(default)s)",
    )
    events.set_defaults(func=_events)
    report = actions.add_parser(
        "report", help="what each rule in alert would have blocked on the tenant's own traffic"
    )
    _tenant(report)
    add_json(report)
    report.add_argument(
        "--days",
        type=whole_number(1, 10_000),
        default=7,
        metavar="N",
        help="how far back (default: %(default)s)",
    )
    report.add_argument(
        "--key-env",
        metavar="NAME",
        help="the environment variable with the encryption_key, to show the masked examples that the tenant allows",
    )
    report.set_defaults(func=_report)
    hashing = actions.add_parser("hash", help="the hash of a text on standard input, for --pattern-hash")
    hashing.add_argument("--tenant", required=True, metavar="ID", help="the tenant's id, as in tenants.yaml")
    hashing.add_argument("--rule", required=True, metavar="NAME", help="the rule's name")
    hashing.add_argument(
        "--key-env", required=True, metavar="NAME", help="the environment variable with the encryption_key"
    )
    hashing.set_defaults(func=_hash)


def _tenant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tenant", required=True, metavar="ID", help="the tenant's id, as in tenants.yaml")
    add_redis_url(parser)


def _by(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--by", metavar="NAME", help="who does this, as they say; default: the name of the user account"
    )


def _sealed(parser: argparse.ArgumentParser) -> None:
    add_key_env(parser, use=", which seals exemptions")


def _records(args: argparse.Namespace) -> GuardRecords:
    return _opened(args, None)


def _sealed_records(args: argparse.Namespace) -> GuardRecords:
    """The records with the key that exemptions are sealed with."""
    return _opened(args, _key(args))


def _opened(args: argparse.Namespace, key: str | None) -> GuardRecords:
    tenant = TenantId(args.tenant)
    url = redis_url(args.redis_url)
    nodes = connect(redis_config(url), timeout_ms=2000)
    return GuardRecords(nodes, tenant, None if key is None else sealer(key, tenant))


def _who(args: argparse.Namespace) -> str:
    try:
        return str(args.by or getpass.getuser())
    except (KeyError, OSError):
        raise ConfigError("--by: this system doesn't say who you are; name yourself") from None


def _grant(args: argparse.Namespace) -> int:
    if args.pattern_hash and not re.fullmatch(r"[0-9a-f]{32}", args.pattern_hash):
        raise ConfigError("--pattern-hash: must be 32 hexadecimal digits, as `guard hash` prints them")
    _check_names(args)
    now = time.time()
    exemption = Exemption(
        id=new_id(),
        rule=args.rule,
        reason=args.reason,
        by=_who(args),
        created=now,
        until=until(args.until, now),
        fingerprint=args.pattern_hash,
        state=State.REQUESTED if args.requested else State.ACTIVE,
    )
    _sealed_records(args).grant(exemption)
    print(f"{exemption.id} {exemption.state} until {_time(exemption.until)}")
    return 0


def _check_names(args: argparse.Namespace) -> None:
    """A misspelt tenant or rule would be exempted, and nothing ever found by it.

    Raises:
        ConfigError: the file has no such tenant or rule, or has problems.
    """
    path = args.file or _FILE
    if args.file is None and not path.exists():
        print(f"warning: tenant and rule aren't checked: no {path} here, and no --file", file=sys.stderr)
        return
    elsewhere = "" if args.file is not None else "; if the gateway's file is another one, give it with --file"
    try:
        problem = _unknown(load(path), args.tenant, args.rule)
    except TenantgateError as error:
        raise ConfigError(f"{error}{elsewhere}") from None
    if problem is not None:
        raise ConfigError(f"{problem} in {path}{elsewhere}")


def _unknown(file: TenantsFile, tenant: str, rule: str) -> str | None:
    found = next((t for t in file.tenants if t.id == tenant), None)
    if found is None:
        return f"--tenant: there is no tenant {tenant[:64]!r}"
    levels = [file.defaults.plugins, found.plugins, *(m.plugins for m in found.models)]
    sections = [section for level in levels for section in level.values()]
    rules = sorted(
        {str(r["name"]) for s in sections for r in s.get("rules", ()) if isinstance(r, dict) and "name" in r}
    )
    if rule in rules:
        return None
    return f"--rule: tenant {tenant} has no rule {rule[:64]!r}, but {', '.join(rules) or 'none'}"


def _approve(args: argparse.Namespace) -> int:
    exemption = _sealed_records(args).approve(args.id, _who(args))
    print(f"{exemption.id} {exemption.state} until {_time(exemption.until)}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    _records(args).revoke(args.id, _who(args))
    print(f"{args.id} revoked")
    return 0


def _list(args: argparse.Namespace) -> int:
    records = _sealed_records(args)
    found = records.exemptions()
    for identifier in records.unauthenticated():
        told = "".join(c if c.isprintable() else "?" for c in identifier[:40])
        print(
            f"warning: {told} counts for nothing: it wasn't sealed with this encryption_key", file=sys.stderr
        )
    if args.json:
        print(json.dumps([asdict(e) for e in found], indent=2))
        return 0
    for e in found:
        only = f" only {e.fingerprint}" if e.fingerprint else ""
        second = f", approved by {e.approved_by}" if e.approved_by else ""
        print(f"{e.id}  {e.state}  {e.rule}{only}  until {_time(e.until)}  by {e.by}{second}: {e.reason}")
    if not found:
        print("no exemptions")
    return 0


def _events(args: argparse.Namespace) -> int:
    for event in _records(args).events(args.limit):
        if args.json:
            print(json.dumps(event))
        else:
            rest = " ".join(
                f"{k}={shlex.quote(v)}" for k, v in event.items() if k not in ("id", "at", "event")
            )
            print(
                f"{_time(float(event.get('at', 0)))}  {event.get('event', '')}  {event.get('id', '')}  {rest}"
            )
    return 0


def _report(args: argparse.Namespace) -> int:
    counts = _records(args).counts(args.days)
    seen, replies = (counts.pop(("", of, "all"), 0) for of in ("request", "reply"))
    rules: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for (rule, mode, what), n in sorted(counts.items()):
        rules[rule, mode][what] = n
    if args.json:
        out = [
            {"rule": r, "mode": m, **whats, **({"examples": found} if (found := _examples(args, r)) else {})}
            for (r, m), whats in rules.items()
        ]
        print(
            json.dumps(
                {
                    "tenant": args.tenant,
                    "days": args.days,
                    "checked": seen,
                    "replies_checked": replies,
                    "rules": out,
                },
                indent=2,
            )
        )
        return 0
    print(f"{args.tenant}, the last {args.days} days: {seen} requests and {replies} replies checked")
    for (rule, mode), whats in rules.items():
        hits, exempted = whats.get("hits", 0), whats.get("exempted", 0)
        share = f" ({hits / seen:.2%})" if seen else ""
        verb = {"alert": "would have blocked", "block": "blocked", "mask": "masked"}.get(mode, mode)
        passed = f", {exempted} let pass by exemptions" if exempted else ""
        print(f"\n{rule} (mode {mode}): {verb} {hits}{share}{passed}")
        for kind, n in sorted(whats.items(), key=lambda item: -item[1]):
            if kind not in ("hits", "exempted"):
                print(f"    {kind:28} {n}")
        for text in _examples(args, rule) if mode == "alert" else ():
            print(f"    for example: {text}")
        if mode == "alert" and hits:
            print(
                f"    to block: in tenants.yaml `mode: block` on the rule `{rule}` of {args.tenant}; tenantgate apply"
            )
    return 0


def _examples(args: argparse.Namespace, rule: str) -> list[str]:
    if not args.key_env:
        return []
    tenant = TenantId(args.tenant)
    keys, name = sealer(_key(args), tenant), Keys(tenant).examples(rule).encode()
    opened = (keys.open(sealed, key=name) for sealed in _records(args).examples(rule))
    # Control characters would let a prompt draw on the operator's terminal.
    return ["".join(c if c.isprintable() else " " for c in o.decode()) for o in opened if o is not None]


def _key(args: argparse.Namespace) -> str:
    key = os.environ.get(args.key_env)
    if not key:
        raise ConfigError(f"--key-env: the environment has no {args.key_env}")
    return key


def _hash(args: argparse.Namespace) -> int:
    text = sys.stdin.read().rstrip("\n")
    print(fingerprint(sealer(_key(args), TenantId(args.tenant)), args.rule, text))
    return 0


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
