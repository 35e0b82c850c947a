"""``tenantgate keys issue | rotate | revoke | list | find``: keys of clients, of which only hashes are kept.

A key is printed once, alone, on standard output; what else there is to say goes to standard error. Each command
brings the register (`tenantgate.keys.core.register`) into the state that it names, and then the given Kongs in line, so
that the same command finishes one that was cut off.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tenantgate import api_keys
from tenantgate.apply.commands import Site, site_of
from tenantgate.apply.targets import FileKong, Target, connect
from tenantgate.config import load
from tenantgate.config.load import register, register_path
from tenantgate.config.names import issued_id
from tenantgate.config.render import issued_credential
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.keys.core.credentials import key_plan
from tenantgate.keys.core.register import IssuedKey, Register, State
from tenantgate.tenant import TenantId
from tenantgate.usage.core.entries import Ledger
from tenantgate.usage.sources import add_source, raw_records

__all__ = ["keys"]

_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def keys(parser: argparse.ArgumentParser) -> None:
    """Add ``keys issue``, ``rotate``, ``revoke``, ``list`` and ``find``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    issuing = actions.add_parser("issue", help="a new key; it is printed once")
    _tenant(issuing)
    _kong(issuing)
    issuing.set_defaults(func=_issue)
    rotating = actions.add_parser(
        "rotate",
        help="a next key beside the active one; with --finish the next becomes active, the other retires",
    )
    _tenant(rotating)
    _kong(rotating)
    rotating.add_argument(
        "--finish", action="store_true", help="only where the audit log shows that the next key is in use"
    )
    rotating.add_argument(
        "--grace",
        default="7d",
        metavar="SPAN",
        help="how long the old key is still accepted: 0s, 30m, 12h, 7d (default: %(default)s)",
    )
    rotating.add_argument("--unproven", action="store_true", help="finish without a look at the audit log")
    add_source(rotating)
    rotating.set_defaults(func=_rotate)
    revoking = actions.add_parser("revoke", help="keys are refused at once")
    revoking.add_argument("tenant", metavar="TENANT", help="the tenant's id")
    chosen = revoking.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--name", metavar="NAME", help="all keys of this name")
    chosen.add_argument("--id", metavar="ID", help="this key, by the id that `list` and audit records have")
    chosen.add_argument("--all", action="store_true", help="all issued keys of the tenant")
    _kong(revoking)
    revoking.set_defaults(func=_revoke)
    listing = actions.add_parser("list", help="keys, their states, and when the audit log saw them last")
    listing.add_argument("tenant", nargs="?", metavar="TENANT", help="only of this tenant")
    listing.add_argument("--gone", action="store_true", help="also those that are gone")
    _file(listing)
    add_source(listing)
    listing.set_defaults(func=_list)
    finding = actions.add_parser("find", help="whose a key is that was found somewhere: reads it from stdin")
    _file(finding)
    finding.set_defaults(func=_find)


def _tenant(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tenant", metavar="TENANT", help="the tenant's id")
    parser.add_argument("--name", default="default", metavar="NAME", help="of the key (default: %(default)s)")


def _file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--file", type=Path, metavar="FILE", help="default: tenants.yaml")


def _kong(parser: argparse.ArgumentParser) -> None:
    _file(parser)
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="the gateway that `tenantgate up --state-dir DIR` runs"
    )
    parser.add_argument(
        "--admin-url", action="append", default=[], metavar="URL", help="Admin API of a Kong, as in `apply`"
    )
    parser.add_argument("--kong-config", type=Path, metavar="FILE", help="as in `apply`")
    parser.add_argument("--reload", metavar="COMMAND", help="as in `apply`")


# -- actions -------------------------------------------------------------------------------------------------


def _issue(args: argparse.Namespace) -> int:
    tenant, now = _known(args), int(time.time())
    with _changing(args) as change:
        if found := change.register.of(tenant, args.name):
            _tell(f"{tenant.slug} has a key {args.name} already ({found[-1].state}); it can't be shown again")
        else:
            key = api_keys.made(secrets.randbelow)
            change.to(change.register.issue(tenant, args.name, api_keys.digest(key), now=now))
            print(key, flush=True)
    return _settle(args, tenant)


def _rotate(args: argparse.Namespace) -> int:
    tenant, now = _known(args), int(time.time())
    grace = _span(args.grace)
    with _changing(args) as change:
        found = {key.state: key for key in change.register.of(tenant, args.name)}
        if args.finish:
            if State.NEXT not in found and State.RETIRING in found:
                _tell(f"no next key {args.name}: the rotation is finished")
            else:
                if State.NEXT in found and not args.unproven:
                    _prove(args, found[State.NEXT])
                change.to(change.register.finish(tenant, args.name, until=now + grace))
        elif State.NEXT in found:
            _tell(f"{tenant.slug} has a next key {args.name} already; it can't be shown again")
        else:
            key = api_keys.made(secrets.randbelow)
            change.to(change.register.rotate(tenant, args.name, api_keys.digest(key), now=now))
            print(key, flush=True)
    return _settle(args, tenant)


def _prove(args: argparse.Namespace, key: IssuedKey) -> None:
    last = (_last_uses(args) or {}).get(_id(key))
    if last is None:
        raise ConfigError(
            "the audit log has no request with the next key: clients don't use it yet (--unproven)"
        )
    _tell(f"the next key was used at {_date(last // 1000)}")


def _revoke(args: argparse.Namespace) -> int:
    tenant, now = TenantId(args.tenant), int(time.time())
    with _changing(args) as change:
        own = [key for key in change.register.keys if key.tenant == tenant]
        chosen = [key for key in own if args.all or key.name == args.name or _id(key) == args.id]
        if not chosen:
            raise ConfigError(f"{tenant.slug} has no such key; `tenantgate keys list` names all")
        living = [key for key in chosen if key.state is not State.GONE]
        change.to(change.register.revoke(living, now=now))
        _tell(f"{len(living)} key{'s'[: len(living) != 1]} revoked")
    return _settle(args, tenant)


def _list(args: argparse.Namespace) -> int:
    path, now = _path(args), time.time()
    uses = _last_uses(args, required=False)
    rows = [("TENANT", "NAME", "STATE", "ISSUED", "UNTIL", "LAST USE", "ID")]
    for key in sorted(register(path).keys, key=lambda key: (str(key.tenant), key.name, key.issued)):
        if args.tenant not in (None, str(key.tenant)) or not (args.gone or key.accepted(now)):
            continue
        state = key.state if key.accepted(now) else State.GONE
        until = "" if key.until is None else _date(key.until)
        last = "unknown" if uses is None else _date(uses[i] // 1000) if (i := _id(key)) in uses else "never"
        rows.append((key.tenant.slug, key.name, str(state), _date(key.issued), until, last, _id(key)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    return 0


def _find(args: argparse.Namespace) -> int:
    text = sys.stdin.readline().strip()
    if not api_keys.is_issued(text):
        _tell("not a key of Tenantgate's, or not whole: its checksum doesn't fit")
        return 1
    found = [key for key in register(_path(args)).keys if key.sha256 == api_keys.digest(text)]
    for key in found:
        print(f"{key.tenant.slug}  {key.name}  {key.state}  {_id(key)}")
    if not found:
        _tell("has the form of a key of Tenantgate's, and isn't in this register")
    return int(not found)


# -- the register's file, and Kong ---------------------------------------------------------------------------


class _Change:
    def __init__(self, at: Path, found: Register) -> None:
        self._at = at
        self.register = found

    def to(self, changed: Register) -> None:
        """Write another register in its place: whole, or not at all."""
        if changed == self.register:
            return
        part = self._at.with_name(f".{self._at.name}.{os.getpid()}")
        try:
            with part.open("w", encoding="utf-8") as out:
                out.write(changed.text())
                out.flush()
                os.fsync(out.fileno())
            part.replace(self._at)
        except OSError as error:
            raise EdgeError(f"{self._at}: {error.strerror}") from error
        finally:
            part.unlink(missing_ok=True)
        self.register = changed


@contextlib.contextmanager
def _changing(args: argparse.Namespace) -> Iterator[_Change]:
    """The register, which nobody else on this machine changes meanwhile."""
    path = _path(args)
    at = register_path(path)
    try:
        folder = os.open(at.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise ConfigError(f"{at.parent}: {error.strerror}") from error
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        change = _Change(at, register(path))
        change.to(change.register.swept(now=int(time.time())))
        yield change
    finally:
        os.close(folder)


def _settle(args: argparse.Namespace, tenant: TenantId) -> int:
    """Bring the given Kongs in line, each by itself: one that is down keeps no other one from a revocation."""
    credentials = [issued_credential(key) for key in register(_path(args)).of(tenant)]
    targets, failed = list(_targets(args)), 0
    for target in targets:
        start = time.monotonic()
        try:
            plan = key_plan(target.read(), tenant, credentials)
            if target.due(plan):
                target.settle(plan)
                target.withdraw(plan)
        except (ConfigError, EdgeError) as error:
            failed += 1
            _tell(f"error: {target.name}: {error}")
        else:
            _tell(f"{target.name}: up to date ({time.monotonic() - start:.1f} s)")
    if not targets:
        _tell("no Kong was given: `tenantgate apply` brings it into force")
    return 2 if failed else 0


def _targets(args: argparse.Namespace) -> Iterator[Target]:
    urls: Sequence[str] = args.admin_url
    if args.state_dir is not None:
        urls = (*urls, *_site(args).admin_urls)
    yield from (connect(url) for url in urls)
    if args.kong_config is not None:
        yield FileKong(args.kong_config, args.reload)
    elif args.reload:
        raise ConfigError("--reload: needs --kong-config")


def _site(args: argparse.Namespace) -> Site:
    return site_of(file=args.file, state_dir=args.state_dir)


def _path(args: argparse.Namespace) -> Path:
    return args.file or Path("tenants.yaml")


def _known(args: argparse.Namespace) -> TenantId:
    """The tenant, which the file has."""
    if args.tenant not in {t.id for t in load(_path(args)).tenants}:
        raise ConfigError(f"{args.tenant[:80]!r}: {_path(args)} has no tenant of this id")
    return TenantId(args.tenant)


def _last_uses(args: argparse.Namespace, *, required: bool = True) -> dict[str, int] | None:
    """By a key's id when the audit log saw it last, in Unix milliseconds; None where there are no records."""
    ledger = Ledger()
    folder = args.dir
    if (state := getattr(args, "state_dir", None)) is not None and not (folder / "spool").exists():
        folder = state / "audit"  # of the gateway that `up` runs
    try:
        for raw in raw_records(args.records, folder, args.redis_url, args.node):
            ledger.add_record(raw)
    except ConfigError:
        if required or args.records:
            raise
        return None
    last: dict[str, int] = {}
    for entry in ledger.entries():
        if entry.key:
            last[entry.key] = max(entry.time_ms, last.get(entry.key, 0))
    return last


def _id(key: IssuedKey) -> str:
    return issued_id(key.tenant, key.sha256)


def _span(text: str) -> int:
    found = _SPAN.fullmatch(text)
    if found is None:
        raise ConfigError(f"--grace: {text[:20]!r}: such as 0s, 30m, 12h or 7d")
    return int(found[1]) * _SECONDS[found[2]]


def _date(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
