"""``tenantgate egress render | verify``: egress lists for networks, and the audit log against them."""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

from tenantgate.apply.commands import Site, file_arguments, site_of
from tenantgate.config import emit
from tenantgate.config.addresses import installed
from tenantgate.config.egress import gateway_allow
from tenantgate.egress.core.formats import FORMATS, NOTES, objects, squid
from tenantgate.egress.core.rules import Selection, rules
from tenantgate.egress.core.verification import Lists, Refused, Version, check
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.policy.core.ports import PolicyStore
from tenantgate.policy.core.records import CATALOG, read_catalog, read_record

__all__ = ["egress"]

_VERSIONS: Final = 100_000


def egress(parser: argparse.ArgumentParser) -> None:
    """Add ``egress render | verify``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    render = actions.add_parser("render", help="the gateway's list as rules of a network")
    file_arguments(render)
    render.add_argument("--format", required=True, choices=FORMATS, help="which network")
    render.add_argument("--name", default="tenantgate-egress", help="of the objects (default: %(default)s)")
    render.add_argument("--namespace", default="kong", help="of the gateway (default: %(default)s)")
    render.add_argument(
        "--selector",
        default="app.kubernetes.io/name=kong",
        metavar="LABEL=VALUE[,…]",
        help="labels of the gateway's pods (default: %(default)s)",
    )
    render.add_argument("--mock-url", metavar="URL", help="where models of the provider `mock` are served")
    render.set_defaults(func=_render)
    verify = actions.add_parser(
        "verify",
        help="find tries in audit records that the lists of their time didn't permit; status 1 if any",
    )
    file_arguments(verify)
    verify.add_argument(
        "--log",
        action="append",
        required=True,
        type=Path,
        metavar="FILE",
        help="audit records as JSON lines, also .gz; may be given several times",
    )
    verify.set_defaults(func=_verify)


def _site(args: argparse.Namespace) -> Site:
    names = ("given", "file", "state_dir", "policy_path", "mock_url")
    return site_of(**{name: getattr(args, name, None) for name in names})


def _render(args: argparse.Namespace) -> int:
    site = _site(args)
    allow = gateway_allow(site.file, mock_url=site.options.mock_url)
    if allow is None:
        raise ConfigError("gateway.egress: required; without a list there is nothing to render")
    found = rules(allow, [(service.host, service.port) for service in installed(site.file)])
    note = "".join(f"# {line}\n" for line in NOTES[args.format].splitlines())
    head = f"# Written by `tenantgate egress render --format {args.format}` from tenants.yaml.\n{note}"
    if args.format == "proxy":
        sys.stdout.write(head + squid(found))
        return 0
    selection = Selection(args.name, args.namespace, _labels(args.selector))
    made = objects(args.format, found, selection)
    sys.stdout.write(head + "---\n".join(emit.dump(tree) for tree in made))
    return 0


def _labels(text: str) -> tuple[tuple[str, str], ...]:
    out = []
    for part in text.split(","):
        name, equals, value = part.strip().partition("=")
        if not name or not equals:
            raise ConfigError(f"--selector {text}: must be LABEL=VALUE, several with commas")
        out.append((name, value))
    return tuple(out)


def _verify(args: argparse.Namespace) -> int:
    store = _site(args).store()
    try:
        versions = [Version(info.number, info.at) for info in reversed(store.history(_VERSIONS))]
        lists = _lists(store)
        tries = records = unlimited = 0
        refused: list[Refused] = []
        for record in _records(args.log):
            verdict = check(record, versions, lists)
            records += 1
            tries += verdict.tries
            unlimited += verdict.unlimited
            refused += verdict.refused
            for one in verdict.refused:
                parts = (one.time, one.tenant, one.target, one.asked, one.record)
                print(f"{'  '.join(map(_shown, filter(None, parts)))}: {one.why}")
    finally:
        store.close()
    without = f", {unlimited} requests at times without an egress list" if unlimited else ""
    print(f"{records} records, {tries} tries, {len(refused)} not permitted{without}", file=sys.stderr)
    return int(bool(refused))


def _lists(store: PolicyStore) -> Any:
    """The lists of a version and a tenant, each version and record read once."""

    @cache
    def gateway(version: int) -> Sequence[str] | None:
        raw = store.record(CATALOG, version)
        return None if raw is None else read_catalog(raw).egress

    @cache
    def lists(version: int, tenant: str) -> Lists:
        raw = store.record(tenant, version)
        own = None if raw is None else read_record(tenant, raw).egress
        return Lists(gateway(version), own)

    return lists


def _records(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    yield from _record(line, f"{path}:{number}")
        except (OSError, EOFError) as error:
            raise EdgeError(f"{path}: can't be read ({type(error).__name__})") from error


def _record(line: bytes, where: str) -> Iterator[dict[str, Any]]:
    if not line.strip():
        return
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: isn't an audit record")
    yield found


def _shown(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text[:200])
