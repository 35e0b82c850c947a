"""``tenantgate apply | history | rollback | status``: tenants.yaml in force, and which version is where."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import socket
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tenantgate.apply.core import nodes
from tenantgate.apply.core.entities import State, from_tree
from tenantgate.apply.running import Changes, Clock, Run, fail_unread, wait_for_nodes
from tenantgate.apply.targets import FileKong, Target, connect
from tenantgate.config import TenantsFile, deck_variables, load, tls
from tenantgate.config.commands import redis_address
from tenantgate.config.compile import CompileOptions, compile_records
from tenantgate.config.documents import documents
from tenantgate.config.load import TenantsFileError
from tenantgate.config.render import RenderOptions, entities, with_options
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.policy.core.difference import differences
from tenantgate.policy.core.overlay import carried
from tenantgate.policy.core.ports import PolicyStore, PublishNote, pages, roll_back
from tenantgate.policy.core.records import CATALOG
from tenantgate.policy.stores import open_store
from tenantgate.tenant import TenantId

__all__ = [
    "CLOCK",
    "Site",
    "apply",
    "carried_over",
    "file_arguments",
    "history",
    "kong_arguments",
    "rollback",
    "site_of",
    "status",
]

CLOCK: Final = Clock(now=time.time, monotonic=time.monotonic, pause=time.sleep)
_STATE: Final = "gateway.json"
_NAMED: Final = 10  # tenants in a message
_NO_VERSION: Final = "no version yet: `tenantgate apply` makes one; of a `tenantgate up` give --state-dir"


def apply(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``apply``."""
    file_arguments(parser)
    kong_arguments(parser)
    parser.add_argument(
        "--kong-config",
        type=Path,
        metavar="FILE",
        help="write Kong's whole configuration there, with the clients' keys, readable for its owner only",
    )
    parser.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="with --kong-config: a kong.yml of your own, whose entities are put there, too",
    )
    parser.add_argument(
        "--reload",
        metavar="COMMAND",
        help='run after a change of that file: "kong reload -c /etc/kong/kong.conf"',
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="only say what would change; exit status 1 if anything"
    )
    _note(parser)
    parser.set_defaults(func=_apply)


def history(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``history``."""
    file_arguments(parser)
    parser.add_argument(
        "-n", "--number", type=int, default=20, metavar="N", help="of versions (default: %(default)s)"
    )
    parser.set_defaults(func=_history)


def rollback(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rollback``."""
    parser.add_argument(
        "version", type=int, metavar="VERSION", help="the version whose policies come into force again"
    )
    file_arguments(parser, positional=False)
    parser.add_argument(
        "--admin-url",
        action="append",
        default=[],
        metavar="URL",
        help="Admin API of a Kong, to say whose keys there don't fit the version; it isn't changed",
    )
    _note(parser)
    parser.set_defaults(func=_rollback)


def status(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``status``."""
    file_arguments(parser)
    parser.set_defaults(func=_status)


def file_arguments(parser: argparse.ArgumentParser, *, positional: bool = True) -> None:
    """Add the arguments that say where tenants.yaml and the policies are."""
    if positional:
        parser.add_argument(
            "given",
            nargs="?",
            type=Path,
            metavar="FILE",
            help="tenants.yaml, or a folder (default: tenants.yaml)",
        )
    parser.add_argument("-f", "--file", type=Path, metavar="FILE", help="the same, as an option")
    parser.add_argument(
        "--state-dir", type=Path, metavar="DIR", help="the gateway that `tenantgate up --state-dir DIR` runs"
    )
    parser.add_argument(
        "--policy-path",
        type=Path,
        metavar="FILE",
        help="in place of gateway.policy: this node's file of policies",
    )


def kong_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that say which Kongs, and what in them depends on the place."""
    parser.add_argument(
        "--admin-url",
        action="append",
        default=[],
        metavar="URL",
        help="Admin API of a Kong, with a database or without one; once for each Kong without a database",
    )
    parser.add_argument("--mock-url", metavar="URL", help="where models of the provider `mock` are served")
    parser.add_argument(
        "--redis",
        type=redis_address,
        metavar="HOST[:PORT]",
        help="a Redis without password or TLS, in place of the file's",
    )


def _note(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-m", "--message", default="", help="for `tenantgate history`")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="of the wait until the new version is in force on each node (default: %(default)s)",
    )


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError("must be a number of seconds, 0 or more")
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """Where a command works."""

    file: TenantsFile
    options: RenderOptions
    environ: Mapping[str, str]
    admin_urls: tuple[str, ...]
    folder: Path
    """Of tenants.yaml: the files that it names are relative to it."""

    def entities(self) -> dict[str, Any]:
        """Kong's configuration as a kong.yml, with the clients' keys.

        Raises:
            ConfigError: names the variables of keys that are missing.
        """
        tree = tls.pinned(entities(self.file, self.options), self.environ)
        resolved: dict[str, Any] = deck_variables.resolve_tree(tree, self.environ)
        return resolved

    def records(self) -> dict[str, bytes]:
        """The policies' records."""
        read = documents(self.file, self.folder)
        return compile_records(self.file, CompileOptions(mock_url=self.options.mock_url, documents=read))

    @property
    def mirrors(self) -> bool:
        """Whether a platform's limits are laid over the file's, which an apply leaves in force."""
        return getattr(self.file.gateway.plugins.get("platform"), "url", None) is not None

    def store(self) -> PolicyStore:
        """The store of ``gateway.policy``: the one of all nodes, else this node's file."""
        gateway = with_options(self.file, self.options).gateway

        def secret(name: str, value: str) -> str:
            return deck_variables.value(value, self.environ, f"gateway.{name}")

        # The file needs no key; only who may write it may publish.
        url = gateway.policy.store and secret("policy.store", gateway.policy.store)
        key = secret("encryption_key", gateway.encryption_key) if url else ""
        return open_store(url, path=Path(gateway.policy.path), encryption_key=key)


def site_of(
    *,
    file: Path | None = None,
    given: Path | None = None,
    state_dir: Path | None = None,
    policy_path: Path | None = None,
    mock_url: str | None = None,
    redis: tuple[str, int] | None = None,
) -> Site:
    """The site that the arguments of `file_arguments` and of `apply` name.

    Raises:
        ConfigError: the file has problems, which are printed; or an argument is wrong.
    """
    if given is not None and file is not None:
        raise ConfigError("--file: FILE is given, too; give one of the two")
    path = given or file or Path("tenants.yaml")
    try:
        tenants = load(path)
    except TenantsFileError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        count = len(error.problems)
        raise ConfigError(f"{path}: {count} problem{'s'[: count != 1]}; nothing was changed") from None
    options: dict[str, Any] = {}
    environ = dict(os.environ)
    urls: tuple[str, ...] = ()
    if state_dir is not None:
        state = _read_state(state_dir / _STATE)
        options, urls = dict(state["options"]), (state["admin_url"],)
        environ = {**state["secrets"], **environ}
    if mock_url is not None:
        options["mock_url"] = mock_url
    if redis is not None:
        options["redis_host"], options["redis_port"] = redis
    if policy_path is not None:
        options["policy_path"] = str(policy_path.absolute())
    folder = path if path.is_dir() else path.parent
    return Site(
        file=tenants, options=RenderOptions(**options), environ=environ, admin_urls=urls, folder=folder
    )


def _site(args: argparse.Namespace) -> Site:
    names = ("given", "file", "state_dir", "policy_path", "mock_url", "redis")
    return site_of(**{name: getattr(args, name, None) for name in names})


def _read_state(path: Path) -> dict[str, Any]:
    """What `tenantgate up` has written about its gateway, and the secrets that it made up."""
    try:
        state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        state["secrets"] = json.loads(Path(state.pop("secrets_file")).read_text(encoding="utf-8"))
        state["secrets"] |= state.pop("environ", {})
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"{path.parent}: no gateway of `tenantgate up` runs there") from error
    return state


def _targets(args: argparse.Namespace, site: Site) -> list[Target]:
    if args.reload and args.kong_config is None:
        raise ConfigError("--reload: needs --kong-config")
    if args.into is not None and (args.kong_config is None or args.kong_config == args.into):
        raise ConfigError("--into: needs --kong-config, and another file than that")
    found: list[Target] = [connect(url) for url in (*args.admin_url, *site.admin_urls)]
    if args.kong_config is not None:
        found.append(FileKong(args.kong_config, args.reload, args.into))
    if not found:
        raise ConfigError("needs a Kong: --admin-url, --kong-config or --state-dir")
    return found


def _apply(args: argparse.Namespace) -> int:
    start = CLOCK.monotonic()
    site = _site(args)
    records = site.records()
    tree = site.entities()
    targets = _targets(args, site)
    store = site.store()
    try:
        records = carried_over(site, store, records)
        run = Run(store, targets, clock=CLOCK, say=_say, timeout_s=args.timeout)
        changes = run.changes(records, from_tree(tree))
        for doubt in store.doubts():
            print(f"warning: gateway.policy.store: {doubt}", file=sys.stderr)
        _show(store, changes)
        if args.dry_run:
            return int(not changes.empty)
        run.apply(changes, lambda: _publish_note(args.message))
    finally:
        store.close()
    _say(f"done ({CLOCK.monotonic() - start:.1f} s)")
    return 0


def carried_over(site: Site, store: PolicyStore, records: dict[str, bytes]) -> dict[str, bytes]:
    """The records of tenants.yaml, with a platform's limits of now where it mirrors one."""
    return carried(records, _stored(store)) if site.mirrors else records


def _stored(store: PolicyStore) -> dict[str, bytes]:
    """The records that are there; of those that are lost `Changes.damaged` tells."""
    index = store.index()
    found: dict[bytes, bytes] = {}
    for page in pages(set(index.values())):
        found |= store.contents(page)
    return {tenant: found[hashed] for tenant, hashed in index.items() if hashed in found}


def _show(store: PolicyStore, changes: Changes) -> None:
    """The difference in words."""
    compared = changes.records.keys() - changes.damaged
    old = dict(store.records(changes.head, only=compared))
    new = {t: record for t in compared if (record := changes.records[t]) is not None}
    for tenant in sorted(changes.damaged):
        _say(f"{TenantId(tenant).slug}: the store has lost its record; it is published again")
    for line in differences(old, new):
        _say(line)
    for tenant in sorted(t for t, record in changes.records.items() if record is None):
        slug = TenantId(tenant).slug
        _say(
            f"{slug}: a later tenant of this id would find its cache: `tenantgate cache purge --tenant {slug}`"
        )
    for target, plan in changes.plans:
        for line in plan.in_words():
            _say(f"{target.name}: {line}")
    if changes.least > changes.head + 1:
        _say(
            f"the store has version {changes.head} and nodes have {changes.least - 1}: it was emptied or replaced; all "
            "is published again"
        )
    if changes.empty:
        _say("no changes")


def _history(args: argparse.Namespace) -> int:
    store = _site(args).store()
    try:
        found = list(store.history(args.number))
        if not found:
            _say(_NO_VERSION)
        for info in found:
            changed = f"{info.changed} record{'s'[: info.changed != 1]}"
            _say(f"{info.number:>6}  {_date(info.at)}  {changed:>14}  {info.author}  {info.message}".rstrip())
    finally:
        store.close()
    return 0


def _rollback(args: argparse.Namespace) -> int:
    site = _site(args)
    store = site.store()
    try:
        head = store.head()
        changed = store.changes(head, args.version)
        if not changed:
            _say(f"version {head} has the policies of version {args.version} already")
            return 0
        old = dict(store.records(head, only=changed))
        for line in differences(old, dict(store.records(args.version, only=changed))):
            _say(line)
        note = _publish_note(args.message or f"rollback to version {args.version}")
        version = roll_back(store, args.version, expected=head, note=note)
        _say(f"version {version} has the policies of version {args.version}")
        unread = wait_for_nodes(store, version, CLOCK, _say, args.timeout)
        _say(
            "consumers and keys in Kong stay as they are, and tenants.yaml as it is: the next `tenantgate apply` goes "
            "by that, so check its earlier state out"
        )
        _say_unfit(site, args.admin_url, store.index(version).keys() - {CATALOG})
        fail_unread(version, unread)
    finally:
        store.close()
    return 0


def _say_unfit(site: Site, admin_urls: Sequence[str], tenants: Collection[str]) -> None:
    """Whose keys don't fit; the version is in force already, whether a Kong answers or not."""
    asked = 0
    for url in (*admin_urls, *site.admin_urls):
        try:
            lines = _unfit(tenants, _keyed(connect(url).read()))
        except EdgeError as error:
            _say(f"{error}: whose keys there don't fit isn't known")
            continue
        asked += 1
        for line in lines:
            _say(f"{url}: {line}")
    if not asked:
        for line in _unfit(tenants, {t.id for t in site.file.tenants if t.api_keys or site.file.keys_of(t)}):
            _say(f"by tenants.yaml: {line}")


def _unfit(tenants: Collection[str], keyed: Collection[str]) -> list[str]:
    """Which tenants have a policy and no key, or the other way round; ten of each are named."""
    found = (
        ("no policy but a key: requests with it get 403", set(keyed) - set(tenants)),
        ("a policy but no key: nobody can use it", set(tenants) - set(keyed)),
    )
    return [
        f"{what}: {', '.join(TenantId(t).slug for t in sorted(some)[:_NAMED])}"
        + (f" and {len(some) - _NAMED} more" if len(some) > _NAMED else "")
        for what, some in found
        if some
    ]


def _keyed(state: State) -> set[str]:
    """The tenants that have a key in a Kong."""
    owners = {str(e.fields.get("consumer")) for e in state.values() if e.kind == "keyauth_credentials"}
    return {
        str(e.fields["custom_id"])
        for e in state.values()
        if e.kind == "consumers" and e.ours and e.id in owners and e.fields.get("custom_id")
    }


def _status(args: argparse.Namespace) -> int:
    store = _site(args).store()
    try:
        head, now = store.latest(), CLOCK.now()
        found = store.acknowledgements()
    finally:
        store.close()
    _say(f"newest version: {head.number} of {_date(head.at)}" if head else _NO_VERSION)
    for line in nodes.lines(found, now=now):
        _say(line)
    running, newest = nodes.live(found, now=now), head.number if head else 0
    if lost := any(a.version > newest for a in running):
        _say("the store was emptied or replaced: the nodes go on, and `tenantgate apply` publishes all again")
    for line in (unread := nodes.unread(running)):
        _say(line)
    return int(lost or bool(unread or nodes.behind(running, newest)))


def _publish_note(message: str) -> PublishNote:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return PublishNote(author=f"{user}@{socket.gethostname()}", message=message, at=CLOCK.now())


def _date(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _say(text: str) -> None:
    print(text, flush=True)
