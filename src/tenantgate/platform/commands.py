"""``tenantgate platform pull | serve | status | openapi`` and ``tenantgate platform-mock``."""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tenantgate.apply.commands import CLOCK, Site, file_arguments, site_of
from tenantgate.apply.running import fail_unread, wait_for_nodes
from tenantgate.arguments import whole_number
from tenantgate.config import deck_variables
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.platform.client import Client, PlatformError
from tenantgate.platform.config import Platform
from tenantgate.platform.core.signature import secret_bytes
from tenantgate.platform.document import document
from tenantgate.platform.last_good import CopyFile
from tenantgate.platform.listener import Listener, Webhooks
from tenantgate.platform.mirror import Mirror
from tenantgate.policy.core.difference import differences
from tenantgate.policy.core.ports import PolicyStore
from tenantgate.store.threads import BackgroundThread
from tenantgate.telemetry import logs, metrics

__all__ = ["platform", "platform_mock"]

_log: Final = logging.getLogger("tenantgate.platform")
_SECTION: Final = "platform"
_LEAST_S: Final = 1.0  # between two pulls, however many webhooks come
_STOP_S: Final = 5.0
_TOKEN: Final = "TENANTGATE_PLATFORM_TOKEN"  # noqa: S105 - the variable's name
_WEBHOOK_SECRET: Final = "TENANTGATE_PLATFORM_WEBHOOK_SECRET"  # noqa: S105 - the variable's name


def platform(area: argparse.ArgumentParser) -> None:
    """Add ``platform pull | serve | status | openapi``."""
    actions = area.add_subparsers(metavar="ACTION", required=True)
    pull = actions.add_parser("pull", help="pull the platform's limits once, and bring them into force")
    _common(pull)
    pull.add_argument(
        "--dry-run", action="store_true", help="only say what would change; exit status 1 if anything"
    )
    pull.add_argument(
        "--accept-older",
        action="store_true",
        help="take a list with a lower version than the last one, as after a restore of the platform",
    )
    pull.add_argument(
        "--timeout",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="of the wait until the limits are in force on each node (default: %(default)s)",
    )
    pull.set_defaults(func=_pull)
    serve = actions.add_parser("serve", help="mirror the platform until SIGTERM, with a webhook and metrics")
    _common(serve)
    serve.add_argument("--log-level", default="info", choices=("debug", "info", "warning", "error"))
    serve.set_defaults(func=_serve)
    status = actions.add_parser(
        "status",
        help="age of the copy, entries that can't be used, usage that the platform misses: exit status 1 if "
        "something is wrong",
    )
    _common(status)
    status.set_defaults(func=_status)
    openapi = actions.add_parser("openapi", help="print the Platform API's OpenAPI document")
    openapi.set_defaults(func=_openapi)


def _common(parser: argparse.ArgumentParser) -> None:
    file_arguments(parser)
    parser.add_argument(
        "--copy", type=Path, metavar="FILE", help="in place of gateway.platform.path: the last good copy"
    )


def platform_mock(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``platform-mock``."""
    parser.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    parser.add_argument(
        "--port", type=whole_number(0, 65_535), default=8197, help="0 takes any (default: %(default)s)"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="FILE",
        help="SQLite file of its state; default: in memory, gone at the end",
    )
    parser.add_argument(
        "--tenants",
        type=Path,
        metavar="FILE",
        help="YAML or JSON list of tenants that it begins with: id, enabled, keys, token_limits, budgets",
    )
    parser.add_argument(
        "--token-env",
        default=_TOKEN,
        metavar="NAME",
        help="environment variable with the bearer token (default: %(default)s)",
    )
    parser.add_argument(
        "--webhook-url", metavar="URL", help="gets a signed message at each change of tenants"
    )
    parser.add_argument(
        "--webhook-secret-env",
        default=_WEBHOOK_SECRET,
        metavar="NAME",
        help="environment variable with the secret of the signatures (default: %(default)s)",
    )
    parser.set_defaults(func=_mock)


# -- the mirror ----------------------------------------------------------------------------------------------


def _site(args: argparse.Namespace) -> tuple[Site, Platform]:
    site = site_of(
        **{name: getattr(args, name, None) for name in ("given", "file", "state_dir", "policy_path")}
    )
    settings = site.file.gateway.plugins.get(_SECTION)
    if not isinstance(settings, Platform) or settings.url is None:
        raise ConfigError("gateway.platform.url: required; there is no platform without it")
    return site, settings


def _client(site: Site, settings: Platform) -> Client:
    token = deck_variables.value(settings.token or "", site.environ, "gateway.platform.token")
    return Client(settings.url or "", token, timeout_s=settings.timeout_s, ssl_verify=settings.ssl_verify)


def _file(args: argparse.Namespace, settings: Platform) -> CopyFile:
    return CopyFile(args.copy or Path(settings.path))


def _mirror(args: argparse.Namespace) -> tuple[Mirror, PolicyStore, Platform]:
    site, settings = _site(args)
    store = site.store()
    receivers = [r.name for r in getattr(getattr(site.file.gateway, "alerts", None), "receivers", ())]
    mirror = Mirror(settings, _client(site, settings), _file(args, settings), store, receivers=receivers)
    return mirror, store, settings


def _pull(args: argparse.Namespace) -> int:
    mirror, store, _ = _mirror(args)
    try:
        pulled = mirror.pull(accept_older=args.accept_older)
        copy = mirror.copy
        if copy is not None:
            print(f"the platform's version {copy.version}, {len(copy.entries)} tenants: {pulled}")
        laid = mirror.lay_over(publish=False)
        before = dict(store.records(only=laid.changes))
        for line in differences(before, dict(laid.changes)):
            print(line)
        for tenant, problem in laid.refused.items():
            print(f"{tenant}: {problem}; its last good limits hold", file=sys.stderr)
        if laid.unknown:
            print(f"tenants.yaml hasn't: {', '.join(laid.unknown)}", file=sys.stderr)
        if store.head() == 0:
            print("no policies yet: `tenantgate apply` publishes them", file=sys.stderr)
        if args.dry_run:
            return int(bool(laid.changes))
        laid = mirror.lay_over()
        if laid.version is None:
            print("no changes")
        else:
            print(f"version {laid.version} of the policies has them")
            fail_unread(laid.version, wait_for_nodes(store, laid.version, CLOCK, print, args.timeout))
        return int(bool(laid.refused))
    finally:
        store.close()


def _serve(args: argparse.Namespace) -> int:
    logs.setup("tenantgate-platform", args.log_level)
    site, _ = _site(args)
    mirror, store, settings = _mirror(args)
    secret = None
    if settings.webhook_secret is not None:
        where = "gateway.platform.webhook_secret"
        secret = secret_bytes(deck_variables.value(settings.webhook_secret, site.environ, where), where=where)
    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    work = _Work(mirror.step)
    thread = work.thread
    host, _, port = settings.listen.rpartition(":")

    def exposition() -> str:
        mirror.update_gauges()
        return metrics.exposition()

    def healthz() -> str:
        return json.dumps({"status": "alive", "pid": os.getpid(), "stale": mirror.stale})

    listener = Listener(
        host.strip("[]"),
        int(port),
        webhooks=Webhooks(secret, thread.wake),
        pages={"/metrics": exposition, "/healthz": healthz},
    )
    print(f"mirroring {settings.url}; metrics at http://{host}:{listener.port}/metrics", flush=True)
    thread.start()
    try:
        stopped.wait()
    finally:
        listener.close()
        thread.stop(_STOP_S)
        store.close()
    return 0


class _Work:
    """The mirror's thread: at its time, and when a webhook wakes it, but not twice within a second."""

    def __init__(self, step: Callable[[], float]) -> None:
        self._step = step
        self._next = 0.0
        self.thread = BackgroundThread(
            "platform-mirror", self._turn, log=_log, failed="mirroring the platform's limits fails"
        )

    def _turn(self) -> float:
        left_s = self._next - time.monotonic()
        if left_s > 0:
            return left_s
        self._next = time.monotonic() + _LEAST_S
        return self._step() * random.uniform(0.9, 1.1)


def _status(args: argparse.Namespace) -> int:
    mirror, store, settings = _mirror(args)
    wrong = False
    try:
        copy = mirror.copy
        now = CLOCK.now()
        if copy is None:
            print("no copy of the platform's list yet: tenants.yaml's limits hold")
            wrong = True
        else:
            at = datetime.fromtimestamp(copy.fetched_at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
            print(f"the platform's version {copy.version} of {at}, {len(copy.entries)} tenants")
            print(f"confirmed {copy.age_s(now):.0f} s ago{_stale(mirror, settings)}")
            wrong = mirror.stale
        laid = mirror.lay_over(publish=False)
        for tenant, problem in laid.refused.items():
            print(f"{tenant}: {problem}; its last good limits hold")
        if laid.changes:
            print(f"not in force yet: {len(laid.changes)} tenants")
        if laid.unknown:
            print(f"tenants.yaml hasn't: {', '.join(laid.unknown)}")
        if laid.unlisted:
            print(f"the platform hasn't {laid.unlisted} tenants of tenants.yaml, whose limits hold for them")
        wrong = wrong or bool(laid.refused or laid.changes)
        wrong = not _show_sources(args) or wrong
    finally:
        store.close()
    return int(wrong)


def _stale(mirror: Mirror, settings: Platform) -> str:
    return f": older than max_age_s {settings.max_age_s}, {settings.on_stale}" if mirror.stale else ""


def _show_sources(args: argparse.Namespace) -> bool:
    """What the platform has of each node's usage; False where it can't be asked or misses some."""
    site, settings = _site(args)
    try:
        sources = _client(site, settings).sources()
    except PlatformError as error:
        print(f"{error}")
        return False
    whole = True
    for row in sources:
        gaps = row.get("gaps") or []
        whole = whole and not gaps
        named = ", ".join(f"{gap.get('from')}-{gap.get('to')}" for gap in gaps[:5] if isinstance(gap, dict))
        missing = f"; misses {named}{' …' * (len(gaps) > 5)}" if gaps else ""
        where = "  ".join(str(row[name]) for name in ("source", "tenant") if row.get(name))
        print(f"usage of {where}: all up to {row.get('watermark')}{missing}")
    return whole


def _openapi(_args: argparse.Namespace) -> int:
    print(json.dumps(document(), indent=2))
    return 0


# -- the reference server ------------------------------------------------------------------------------------


def _mock(args: argparse.Namespace) -> int:
    token = os.environ.get(args.token_env)
    if not token:
        raise ConfigError(f"--token-env: the environment has no {args.token_env}")
    secret = None
    if args.webhook_url:
        text = os.environ.get(args.webhook_secret_env, "")
        secret = secret_bytes(text, where=f"--webhook-secret-env: {args.webhook_secret_env}")
    try:
        from tenantgate.platform.reference.server import Options, run
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise EdgeError("platform-mock needs aiohttp: pip install 'tenantgate[mock]'") from None
    return run(
        Options(
            host=args.host,
            port=args.port,
            token=token,
            data=args.data,
            tenants=args.tenants,
            webhook_url=args.webhook_url,
            webhook_secret=secret,
        )
    )
