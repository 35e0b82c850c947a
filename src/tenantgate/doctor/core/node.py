"""What else of a node must be right: plugin servers, Redis, policies, secrets, clock, certificates, folders, models."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tenantgate.doctor.core.findings import Finding, Severity, ok

__all__ = [
    "FolderFacts",
    "PoliciesFacts",
    "RedisFacts",
    "ServerFacts",
    "check_certificate",
    "check_clock",
    "check_folder",
    "check_models",
    "check_policies",
    "check_redis",
    "check_secrets",
    "check_server",
    "check_worker_events",
]

_DAY_S: Final = 86_400.0
_EXPIRES_SOON_S: Final = 21 * _DAY_S
_CLOCK_WARN_S: Final = 1.0
_CLOCK_ERROR_S: Final = 5.0
_ROOM_WARN: Final = 1 << 30
_ROOM_ERROR: Final = 100 << 20
_LEAST_REDIS: Final = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """A plugin server.

    Attributes:
        name: the plugin's.
        socket: its path.
        mode: permissions of the socket; None where there is none.
        accepts: whether it takes connections.
        ready: answer of ``/readyz``; None where nobody answers.
        reason: why it isn't ready.
        version: of the plugin server that runs.
        errors: lines of its log of level error or critical, since it started.
    """

    name: str
    socket: str
    mode: int | None = None
    accepts: bool = False
    ready: bool | None = None
    reason: str = ""
    version: str = ""
    errors: int = 0


def check_server(facts: ServerFacts, version: str) -> Iterator[Finding]:
    """Judge a plugin server; `version` is this package's."""
    check, name = "plugin-servers", facts.name
    if facts.mode is None or not facts.accepts:
        what = "isn't there" if facts.mode is None else "refuses connections"
        yield Finding(
            check,
            Severity.ERROR,
            name,
            f"{facts.socket} {what}: Kong answers 500 or 503 to every request that needs it",
            "look for its lines in Kong's error log (level info: set log_level = info), or in systemd's "
            "journal; PREFIX must be writable for Kong's user",
        )
        return
    if facts.mode & 0o007:
        yield Finding(
            check,
            Severity.ERROR,
            name,
            f"{facts.socket} has mode {facts.mode & 0o777:o}: every user of this machine can send it requests of any "
            "tenant",
            "start it without --socket-mode (600), or with 660 for a group",
        )
    if facts.ready is None:
        yield Finding(
            check,
            Severity.WARNING,
            name,
            "nobody answers /readyz beside its socket",
            "if its start command has --metrics-socket, name it by --metrics-socket here, too; else start it anew",
        )
    elif not facts.ready:
        yield Finding(
            check,
            Severity.ERROR,
            name,
            f"isn't ready: {facts.reason or 'no reason told'}",
            _remedy(facts.reason),
        )
    if facts.version and facts.version != version:
        yield Finding(
            check,
            Severity.WARNING,
            name,
            f"runs version {facts.version}, installed is {version}",
            "reload Kong (`kong reload`), or restart the unit, on one node after the other",
        )
    if facts.errors:
        yield Finding(
            check,
            Severity.WARNING,
            name,
            f"has logged {facts.errors} errors since it started",
            "read them: the journal of its unit, or Kong's error log with log_level = info (Kong writes what servers "
            "that it starts say at that level)",
        )
    if facts.ready and not facts.mode & 0o007:
        yield ok(
            check, name, f"ready, version {facts.version or 'unknown'}, socket mode {facts.mode & 0o777:o}"
        )


def _remedy(reason: str) -> str:
    return "; ".join(_REMEDIES[one] for one in reason.split(", ") if one in _REMEDIES) or "see its log"


_REMEDIES: Final = {
    "configuration": "its log names the setting that it can't use; set the variable that `gateway` of tenants.yaml "
    "names for it (TENANTGATE_CACHE_KEY, if it names none) in Kong's environment, restart Kong",
    "policies": "publish them: `tenantgate apply`; `tenantgate status` says which node has which version",
    "models": "as Kong's user run `tenantgate models build`, set TENANTGATE_MODELS to their folder, reload Kong",
    "warming up": "wait some seconds",
    "overloaded": "more processes (--processes) or fewer requests for each node",
    "threads stuck": "see its log for the phase that is stuck; a restart frees them",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisFacts:
    """A Redis, for one use.

    Attributes:
        where: the field of tenants.yaml.
        use: plugins, rate limits, limits and budgets, policies.
        problem: what keeps the use from it; None if nothing does.
        version: such as 7.0.15; empty if unknown.
        eviction: maxmemory-policy; empty if unknown.
        maxmemory: bytes; 0 for no limit.
        appends: whether it writes an append-only file; None if unknown.
        keeps: whether the use loses something for good with a lost key.
    """

    where: str
    use: str
    problem: str | None = None
    version: str = ""
    eviction: str = ""
    maxmemory: int = 0
    appends: bool | None = None
    keeps: bool = False


def check_redis(facts: RedisFacts) -> Iterator[Finding]:
    """Judge a Redis for its use."""
    check, subject = "redis", f"{facts.where}, for the {facts.use}"
    if facts.problem is not None:
        yield Finding(
            check,
            Severity.ERROR,
            subject,
            facts.problem,
            "start it, or correct address, password and rights (docs/deploy.md, Redis access control)",
        )
        return
    bad = []
    major = facts.version.partition(".")[0]
    if major.isdecimal() and int(major) < _LEAST_REDIS:
        bad.append(Finding(check, Severity.ERROR, subject, f"Redis {facts.version}", "run Redis 7 or later"))
    if facts.keeps and facts.maxmemory and facts.eviction and facts.eviction != "noeviction":
        bad.append(
            Finding(
                check,
                Severity.ERROR,
                subject,
                f"maxmemory-policy {facts.eviction}: a full Redis forgets what was spent, so budgets let more through, "
                "or policies and records go",
                "set maxmemory-policy noeviction, or give this use a Redis of its own",
            )
        )
    if facts.keeps and facts.appends is False:
        bad.append(
            Finding(
                check,
                Severity.WARNING,
                subject,
                "no append-only file: after a crash up to all of it is gone",
                "set appendonly yes (appendfsync everysec)",
            )
        )
    yield from bad or [ok(check, subject, f"ready, version {facts.version or 'unknown'}")]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesFacts:
    """The policy store.

    Attributes:
        where: its kind; never its address, which may hold a password.
        problem: why it can't be read.
        version: the newest; 0 if there is none.
        nodes: how many run.
        behind: those that go by an earlier version, in words.
        ahead: whether a node has a newer version than the store.
        pending: whether tenants.yaml says something else; None if that wasn't compared.
    """

    where: str
    problem: str | None = None
    version: int = 0
    nodes: int = 0
    behind: Sequence[str] = ()
    ahead: bool = False
    pending: bool | None = None


def check_policies(facts: PoliciesFacts) -> Iterator[Finding]:
    """Judge the policies."""
    check, subject = "policies", facts.where
    if facts.problem is not None:
        yield Finding(
            check,
            Severity.ERROR,
            subject,
            f"{facts.problem}. Nodes go on by their copies; a new node has none, and answers 503",
            "make the store reachable for this user (address, password, rights of the file)",
        )
        return
    if not facts.version:
        yield Finding(
            check,
            Severity.ERROR,
            subject,
            "no policies were published: every request gets 503",
            "run `tenantgate apply` as a user who may write the store",
        )
        return
    bad = []
    if facts.ahead:
        bad.append(
            Finding(
                check,
                Severity.ERROR,
                subject,
                "nodes have a newer version than the store: it was emptied, replaced or restored",
                "run `tenantgate apply`: it publishes all again",
            )
        )
    if facts.behind:
        bad.append(
            Finding(
                check,
                Severity.ERROR,
                subject,
                f"version {facts.version} isn't in force on {', '.join(facts.behind)}",
                "on these nodes look at tenantgate_policy_store_up and at the engine's log",
            )
        )
    if not facts.nodes:
        bad.append(
            Finding(
                check,
                Severity.WARNING,
                subject,
                "no engine has said lately which version it goes by: none runs, or none has had a request",
                "start Kong, send a request, look again",
            )
        )
    if facts.pending:
        bad.append(
            Finding(
                check,
                Severity.WARNING,
                subject,
                "tenants.yaml says something else than what is in force",
                "run `tenantgate apply`",
            )
        )
    yield from bad or [ok(check, subject, f"version {facts.version} in force on all nodes")]


def check_secrets(named: Collection[str], there: Collection[str]) -> Iterator[Finding]:
    """Whether the environment variables that ``{vault://env/…}`` references name are there and not empty.

    `there` are those of the command, which stand for Kong's: nobody can read these.
    """
    missing = sorted(set(named) - set(there))
    for name in missing:
        yield Finding(
            "secrets",
            Severity.WARNING,
            name,
            "isn't in this command's environment, or is empty. If Kong's lacks it, too, what refers to it is empty: "
            "with an empty credential a provider answers 401, without a gateway's own secret all requests get 503",
            f"run this with Kong's environment; set {name} there, and restart Kong (a reload keeps the old one)",
        )
    if not missing:
        yield ok("secrets", "environment", f"all {len(set(named))} variables are there")


def check_secret_files(
    folder: str, problems: Mapping[str, str | None], *, vaults: str = "file"
) -> Iterator[Finding]:
    """Judge the files of ``{vault://file/…}`` references: by name what is wrong, None where nothing is.

    `vaults` is Kong's setting.
    """
    if "file" not in (name.strip() for name in vaults.split(",")):
        yield Finding(
            "secrets",
            Severity.ERROR,
            "vaults",
            f"is {vaults}, so Kong can't read {', '.join(sorted(problems))}: what refers to these has no credential",
            "vaults = bundled,file in kong.conf, and restart Kong",
        )
    bad = {name: problem for name, problem in problems.items() if problem}
    for name, problem in sorted(bad.items()):
        yield Finding(
            "secrets",
            Severity.ERROR,
            f"{folder}/{name}",
            f"{problem}: what refers to it has no credential",
            "write the file, readable for Kong's user only; no restart and no reload is needed",
        )
    if not bad:
        yield ok("secrets", folder, f"all {len(problems)} files are there")


def check_clock(offset_s: float | None, where: str) -> Finding:
    """Judge the difference between a Redis' clock and this node's, in seconds."""
    if offset_s is None:
        return Finding(
            "clock", Severity.UNKNOWN, where, "its clock couldn't be read", "make this Redis reachable"
        )
    what = f"{abs(offset_s):.1f} s {'ahead of' if offset_s > 0 else 'behind'} this node"
    if abs(offset_s) < _CLOCK_WARN_S:
        return ok("clock", where, what)
    severity = Severity.ERROR if abs(offset_s) >= _CLOCK_ERROR_S else Severity.WARNING
    meaning = "windows of limits and budgets, expiries and the order of records go by these clocks"
    return Finding(
        "clock", severity, where, f"{what}: {meaning}", "run chrony or systemd-timesyncd on both machines"
    )


def check_certificate(subject: str, left_s: float | None) -> Finding:
    """Judge a certificate by the seconds until it ends; None: it couldn't be read."""
    if left_s is None:
        return Finding(
            "certificates",
            Severity.ERROR,
            subject,
            "can't be read, or is no certificate",
            "set the path, or the file's rights for Kong's user, or put a certificate there; of an address: start Kong",
        )
    days = left_s / _DAY_S
    if left_s <= 0:
        return Finding(
            "certificates",
            Severity.ERROR,
            subject,
            f"ended {-days:.0f} days ago: clients refuse it",
            "replace it",
        )
    if left_s < _EXPIRES_SOON_S:
        return Finding("certificates", Severity.WARNING, subject, f"ends in {days:.0f} days", "replace it")
    return ok("certificates", subject, f"ends in {days:.0f} days")


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderFacts:
    """A folder that Kong's user writes.

    Attributes:
        use: what for.
        check: audit, or disk.
        there: whether it is a folder.
        writable: for the user that Kong's workers run as; None if that user isn't known.
        mode: its permissions.
        free: bytes left on its file system.
        private: whether what lies there is nobody else's business.
    """

    path: str
    use: str
    check: str = "disk"
    there: bool = True
    writable: bool | None = None
    mode: int = 0o700
    free: int | None = None
    private: bool = False


def check_folder(facts: FolderFacts) -> Iterator[Finding]:
    """Judge a folder."""
    check, subject = facts.check, f"{facts.path} ({facts.use})"
    if not facts.there:
        yield Finding(
            check,
            Severity.ERROR,
            subject,
            "isn't there",
            f"install -d -o USER_OF_KONG -m 750 {facts.path}, before Kong starts",
        )
        return
    bad = []
    if facts.writable is False:
        bad.append(
            Finding(
                check,
                Severity.ERROR,
                subject,
                "the user of Kong's workers can't write there: nothing is kept, and plugin servers can't start",
                f"chown USER_OF_KONG {facts.path}",
            )
        )
    if facts.private and facts.mode & 0o007:
        bad.append(
            Finding(
                check,
                Severity.WARNING,
                subject,
                f"mode {facts.mode & 0o777:o}: every user of this machine can read it",
                f"chmod o= {facts.path}",
            )
        )
    if facts.free is not None and facts.free < _ROOM_WARN:
        severity = Severity.ERROR if facts.free < _ROOM_ERROR else Severity.WARNING
        bad.append(
            Finding(check, severity, subject, f"{facts.free >> 20} MB left on its file system", "make room")
        )
    yield from bad or [
        ok(
            check,
            subject,
            "there" if facts.free is None else f"{facts.free >> 30} GB left on its file system",
        )
    ]


def check_worker_events(prefix: str, reachable: bool) -> Finding:
    """Judge whether users other than Kong's reach the socket by which its workers talk, which nginx makes for all."""
    if not reachable:
        return ok("sockets", prefix, "Kong's workers talk among themselves")
    return Finding(
        "sockets",
        Severity.WARNING,
        prefix,
        "every user of this machine can join the talk of Kong's workers (sockets/we), and speak as one of them",
        f"chmod o= {prefix}",
    )


def check_models(name: str, folder: str | None, problem: str | None = None) -> Finding:
    """Judge a set of models, by the folder where it was found."""
    if folder is not None:
        return ok("models", name, folder)
    return Finding(
        "models",
        Severity.ERROR,
        name,
        f"{problem or 'not built'}: the cache finds exact repeats only, and rules for prompt injection can't check",
        "run `tenantgate models build`"
        + (" --large" if name == "large" else "")
        + ", and set TENANTGATE_MODELS where the engine's differ from this command's",
    )
