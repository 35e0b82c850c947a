"""``tenantgate budget``: what is left of budgets, temporary raises, and past traffic against proposed limits.

Which budgets hold the policy store says, as nodes have it; what is used Redis says. A raise is written to Redis, where
the next request finds it; it is an event of the tenant's audit log, which the next node that looks writes.
"""

from __future__ import annotations

import argparse
import getpass
import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import redis

from tenantgate.apply.commands import Site, file_arguments, site_of
from tenantgate.arguments import NO_SPOOL, until, whole_number
from tenantgate.audit.segments import stored
from tenantgate.budget.core.simulation import Finding, sentence, simulate
from tenantgate.budget.core.traffic import Request, estimated, request_of
from tenantgate.config import deck_variables
from tenantgate.config.catalog import redis_settings
from tenantgate.config.compile import CompileOptions, compile_records
from tenantgate.config.documents import documents
from tenantgate.config.load import load
from tenantgate.config.render import with_options
from tenantgate.errors import ConfigError, EdgeError
from tenantgate.fields import parse
from tenantgate.limits.alert_store import AlertStore, Seen, new_event
from tenantgate.limits.core.alerting import About, amount, moment, percent, shown, unit
from tenantgate.limits.core.claims import end_user_subject
from tenantgate.limits.core.forecast import Forecast, Sample, forecast
from tenantgate.limits.core.keys import counter_name
from tenantgate.limits.core.ladder import permille
from tenantgate.limits.core.raises import Raise
from tenantgate.limits.core.reading import rules_of
from tenantgate.limits.core.rules import Counted, Per, Rule
from tenantgate.llm.token_usage import TokenUsage
from tenantgate.policy.core.records import CATALOG, TenantPolicy, read_record
from tenantgate.prices.core.cost import cost
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR, PriceList
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.store.url import redis_config
from tenantgate.tenant import TenantId

__all__ = ["budget"]

_TIMEOUT_MS: Final = 2000
_WHO_MAX: Final = 100
_REASON_MAX: Final = 300
_AUDIT_DIR: Final = Path("/var/lib/tenantgate/audit")
_JSON: Final = "print JSON"


def budget(parser: argparse.ArgumentParser) -> None:
    """Add ``budget status | raise | lower | raises | simulate``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    status = actions.add_parser("status", help="limit, spent, held, left and forecast of each budget")
    status.add_argument("tenant", nargs="?", metavar="TENANT", help="default: all")
    _where(status)
    status.add_argument("--json", action="store_true", help=_JSON)
    status.add_argument(
        "--most",
        type=whole_number(1, 100_000),
        default=20,
        metavar="N",
        help="of a budget for each key, model, provider or end user, those that spent most (default: %(default)s)",
    )
    status.set_defaults(func=_status)
    more = actions.add_parser("raise", help="raise a budget or a limit for a time")
    lower = actions.add_parser("lower", help="end a raise before its time")
    for one in (more, lower):
        one.add_argument("tenant", metavar="TENANT", help="as in tenants.yaml")
        one.add_argument("budget", metavar="BUDGET", help="name of the budget, or of the limit")
        one.add_argument(
            "--subject",
            metavar="ID",
            help="of a budget for each key, model, provider or end user: which one's",
        )
        one.add_argument("--reason", required=True, metavar="TEXT", help="why; it is kept in the audit log")
        one.add_argument(
            "--who", metavar="NAME", help="who does this, as they say; default: the name of the user account"
        )
        _where(one)
    more.add_argument(
        "--by", required=True, metavar="AMOUNT", help="dollars of a budget; tokens or requests of a limit"
    )
    more.add_argument(
        "--until",
        required=True,
        metavar="WHEN",
        help="2026-01-31, 2026-01-31T18:00Z, or from now: 30m, 8h, 2d",
    )
    more.set_defaults(func=_raise)
    lower.set_defaults(func=_lower)
    raises = actions.add_parser("raises", help="raises that are in force")
    raises.add_argument("tenant", nargs="?", metavar="TENANT", help="default: all")
    _where(raises)
    raises.add_argument("--json", action="store_true", help=_JSON)
    raises.set_defaults(func=_raises)
    simulation = actions.add_parser(
        "simulate",
        help="recorded traffic against the limits of a tenants.yaml: who would have been blocked when",
    )
    simulation.add_argument(
        "records",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="audit records, also .gz; default: the spool in --dir",
    )
    simulation.add_argument(
        "-f", "--file", type=Path, default=Path("tenants.yaml"), metavar="FILE", help="default: %(default)s"
    )
    simulation.add_argument(
        "--dir", type=Path, default=_AUDIT_DIR, metavar="DIR", help="gateway.audit.dir (default: %(default)s)"
    )
    simulation.add_argument("--tenant", metavar="ID", help="only this tenant's")
    simulation.add_argument("--json", action="store_true", help=_JSON)
    simulation.set_defaults(func=_simulate)


def _where(parser: argparse.ArgumentParser) -> None:
    file_arguments(parser, positional=False)
    parser.add_argument(
        "--redis-url", metavar="URL", help="of the rate limits; default: the one that tenants.yaml names"
    )


# -- where budgets and counters are ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Place:
    """Budgets in force, and their counters."""

    site: Site
    store: AlertStore
    nodes: Any

    def policies(self, tenant: str | None) -> Iterator[TenantPolicy]:
        """The policies in force, of one tenant or of all, by their ids.

        Raises:
            ConfigError: there is no such tenant.
        """
        store = self.site.store()
        try:
            names = sorted(set(store.index()) - {CATALOG})
            if tenant is not None and tenant not in names:
                raise ConfigError(f"TENANT: no policy is in force for {tenant[:64]!r}")
            for name in names if tenant is None else [tenant]:
                raw = store.record(name)
                if raw is not None:
                    yield read_record(name, raw)
        finally:
            store.close()

    def rule(self, tenant: str, name: str) -> Rule:
        """A budget or limit of a tenant.

        Raises:
            ConfigError: it has none of this name.
        """
        rules = [rule for policy in self.policies(tenant) for rule in rules_of(policy)]
        for rule in rules:
            if rule.name == name:
                return rule
        names = ", ".join(rule.name for rule in rules) or "none"
        raise ConfigError(f"BUDGET: {tenant} has no {name[:40]!r}; it has: {names}")


def _place(args: argparse.Namespace) -> _Place:
    site = site_of(file=args.file, state_dir=args.state_dir, policy_path=args.policy_path)
    config = redis_config(args.redis_url) if args.redis_url else _redis(site)
    nodes = connect(config, timeout_ms=_TIMEOUT_MS)
    return _Place(site, AlertStore(nodes), nodes)


def _redis(site: Site) -> RedisConfig:
    """The Redis of the rate limits.

    Raises:
        ConfigError: counters aren't there, or a password isn't known here.
    """
    gateway = with_options(site.file, site.options).gateway
    limiting = gateway.rate_limiting
    if limiting.policy != "redis":
        raise ConfigError("gateway.rate_limiting.policy: is local; each process has its counters for itself")
    used = limiting.redis or gateway.redis
    values = redis_settings(used, used.timeout_ms)
    if values.get("password") is not None:
        values["password"] = deck_variables.value(values["password"], site.environ, "gateway.redis.password")
    return parse(RedisConfig, {name: value for name, value in values.items() if value is not None})


def _reached(call: Callable[[], int]) -> int:
    try:
        return call()
    except (redis.RedisError, OSError) as error:
        raise EdgeError(f"redis: {type(error).__name__}") from None


# -- status ----------------------------------------------------------------------------------------------------


def _status(args: argparse.Namespace) -> int:
    return _reached(lambda: _show_status(args))


def _show_status(args: argparse.Namespace) -> int:
    place = _place(args)
    rows: list[dict[str, Any]] = []
    for policy in place.policies(args.tenant):
        for rule in rules_of(policy):
            if rule.window.sliding_s:
                continue  # a rate, of which clients see the room in each reply
            rows += [_row(policy.tenant, *one) for one in _counters(place, policy.tenant, rule, args.most)]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    if not rows:
        print("no budget is in force")
        return 0
    columns = (
        "tenant",
        "budget",
        "subject",
        "spent",
        "uncertain",
        "held",
        "limit",
        "left",
        "used",
        "until",
        "forecast",
        "steps",
    )
    _table(columns, [[_cell(row, column) for column in columns] for row in rows])
    return 0


def _counters(place: _Place, tenant: TenantId, rule: Rule, most: int) -> Iterator[tuple[Rule, str, Seen]]:
    """Counters of a budget in the window of now: the tenant's, or those of the subjects that spent most."""
    if rule.per is Per.TENANT:
        yield rule, "", place.store.read(tenant, About(rule, "", counter_name(rule, "")))
        return
    found = []
    # As far as a name is in a key: of odd and long ones their digest.
    for counter, subject in place.store.subjects(tenant, rule):
        found.append((rule, subject, place.store.read(tenant, About(rule, subject, counter))))
    found.sort(key=lambda one: -one[2].standing.used)
    yield from found[:most]


def _row(tenant: TenantId, rule: Rule, subject: str, seen: Seen) -> dict[str, Any]:
    standing = seen.standing
    foretold = _forecast(seen)
    part = permille(standing.used, standing.most)

    def shown_(value: int) -> str:
        return amount(rule.counted, value)

    return {
        "tenant": str(tenant),
        "budget": rule.name,
        "per": rule.per.value,
        "subject": subject,
        "mode": rule.mode.value,
        "unit": unit(rule),
        "limit": shown_(standing.most),
        "raised_by": None if standing.most == rule.most else shown_(standing.most - rule.most),
        "spent": shown_(standing.used),
        "uncertain": shown_(seen.uncertain),
        "held": shown_(seen.held),
        "left": shown_(max(0, standing.most - standing.used - seen.held)),
        "used_permille": part,
        "window_start": moment(standing.start_ms),
        "window_end": moment(standing.end_ms),
        "projected_spend": None if foretold is None else shown_(foretold.at_end),
        "projected_exceeded_date": (
            None if foretold is None or foretold.exhausted_ms is None else moment(foretold.exhausted_ms)
        ),
        "steps": [
            {"at": percent(step.at_permille), "do": step.do.value, "reached": step.at_permille <= part}
            for step in rule.steps
        ],
    }


def _forecast(seen: Seen) -> Forecast | None:
    standing = seen.standing
    samples = seen.state.samples if seen.state.end_ms == standing.end_ms else ()
    now = Sample(standing.now_ms, standing.used)
    return forecast(samples, now, standing.most, start_ms=standing.start_ms, end_ms=standing.end_ms)


def _cell(row: Mapping[str, Any], column: str) -> str:
    if column == "used":
        return percent(row["used_permille"])
    if column == "until":
        return str(row["window_end"])
    if column == "limit":
        more = "" if row["raised_by"] is None else f" (raised by {row['raised_by']})"
        return f"{row['limit']} {row['unit']}{more}"
    if column == "forecast":
        date = row["projected_exceeded_date"]
        if row["used_permille"] >= 1000:
            return "used up"
        return "-" if row["projected_spend"] is None else "enough" if date is None else f"used up on {date}"
    if column == "steps":
        steps = " ".join(f"{s['at']} {s['do']}{' (reached)' if s['reached'] else ''}" for s in row["steps"])
        return ("shadow " if row["mode"] == "shadow" else "") + (steps or "-")
    return str(row[column] or "-")


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    lines = [[column.upper() for column in columns], *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


# -- raises ----------------------------------------------------------------------------------------------------


def _raise(args: argparse.Namespace) -> int:
    return _reached(lambda: _do_raise(args))


def _do_raise(args: argparse.Namespace) -> int:
    place, who, reason = _place(args), _who(args), _text(args.reason, "--reason", _REASON_MAX)
    rule = place.rule(args.tenant, args.budget)
    about, tenant = _about(rule, args.subject), TenantId(args.tenant)
    by = _amount(args.by, rule)
    now_ms = place.store.learn_time(tenant)
    ends_ms = int(until(args.until, now_ms / 1000) * 1000)
    if ends_ms <= now_ms:
        raise ConfigError("--until: is over already")
    place.store.set_raise(tenant, about.counter, Raise(by, ends_ms))
    more, ends = amount(rule.counted, by), moment(ends_ms)
    message = f"Budget {rule.name}{_of(about)}: raised by {more} {unit(rule)} until {ends}: {reason}"
    _tell(place, tenant, about, "budget_raised", message, by=more, until=ends, reason=reason, who=who)
    print(f"{args.tenant}, {rule.name}{_of(about)}: raised by {more} {unit(rule)} until {ends}")
    return 0


def _lower(args: argparse.Namespace) -> int:
    return _reached(lambda: _do_lower(args))


def _do_lower(args: argparse.Namespace) -> int:
    place, who, reason = _place(args), _who(args), _text(args.reason, "--reason", _REASON_MAX)
    rule = place.rule(args.tenant, args.budget)
    about, tenant = _about(rule, args.subject), TenantId(args.tenant)
    now_ms = place.store.learn_time(tenant)
    before = place.store.set_raise(tenant, about.counter, None)
    if before is None or before.until_ms <= now_ms:
        print(f"{args.tenant}, {rule.name}{_of(about)}: no raise is in force")
        return 1
    more = amount(rule.counted, before.amount)
    message = f"Budget {rule.name}{_of(about)}: the raise by {more} {unit(rule)} was ended: {reason}"
    _tell(place, tenant, about, "budget_raise_ended", message, by=more, reason=reason, who=who)
    print(f"{args.tenant}, {rule.name}{_of(about)}: the raise by {more} {unit(rule)} is over")
    return 0


def _tell(place: _Place, tenant: TenantId, about: About, kind: str, message: str, **more: str) -> None:
    """Have the event written, and the budget looked at: a step may be out of reach now, or within it."""
    rule = about.rule
    values = {
        "type": kind,
        "message": message,
        "budget": rule.name,
        "per": rule.per.value,
        "subject": about.subject,
        "unit": unit(rule),
        **more,
    }
    now_ms = place.store.now_ms()
    place.store.announce(tenant, new_event(now_ms, {name: text for name, text in values.items() if text}))
    place.store.look_at(tenant, about.counter, now_ms)


def _about(rule: Rule, subject: str | None) -> About:
    if rule.per is Per.TENANT and subject is not None:
        raise ConfigError(f"--subject: {rule.name} is one for the whole tenant")
    if rule.per is not Per.TENANT and not subject:
        raise ConfigError(f"--subject: {rule.name} is one for each {rule.per}; say which one's is raised")
    own = end_user_subject(subject or "") if rule.per is Per.END_USER else subject or ""
    return About(rule, shown(rule, own), counter_name(rule, own))


def _of(about: About) -> str:
    return f" of {about.subject}" if about.subject else ""


def _amount(text: str, rule: Rule) -> int:
    scale = NANO_PER_DOLLAR if rule.counted is Counted.COST else 1
    try:
        value = Decimal(text) * scale
        whole = int(value)
    except (InvalidOperation, ValueError, OverflowError):
        raise ConfigError(f"--by: {text[:40]!r} is no number") from None
    if not value.is_finite() or whole != value or not 0 < whole < 1 << 53:
        what = "a number of dollars" if scale > 1 else f"a whole number of {unit(rule)}"
        raise ConfigError(f"--by: must be {what}, more than 0 and less than 9 million dollars")
    return whole


def _text(text: str, where: str, most: int) -> str:
    if not text.strip() or len(text) > most or not text.isprintable():
        raise ConfigError(f"{where}: must be 1 to {most} printable characters on one line")
    return text.strip()


def _who(args: argparse.Namespace) -> str:
    try:
        return _text(str(args.who or getpass.getuser()), "--who", _WHO_MAX)
    except (KeyError, OSError):
        raise ConfigError("--who: this system doesn't say who you are; name yourself") from None


def _raises(args: argparse.Namespace) -> int:
    return _reached(lambda: _show_raises(args))


def _show_raises(args: argparse.Namespace) -> int:
    place = _place(args)
    rows = []
    for policy in place.policies(args.tenant):
        by_prefix = {counter_name(rule, "").rpartition(":")[0]: rule for rule in rules_of(policy)}
        for counter, found in sorted(place.store.raises(policy.tenant).items()):
            prefix, _, subject = counter.rpartition(":")
            rule = by_prefix.get(prefix)
            if rule is not None and found.until_ms > place.store.now_ms():
                by = amount(rule.counted, found.amount)
                ends = moment(found.until_ms)
                rows.append((str(policy.tenant), rule.name, subject, by, unit(rule), ends))
    names = ("tenant", "budget", "subject", "by", "unit", "until")
    if args.json:
        print(json.dumps([dict(zip(names, row, strict=True)) for row in rows], indent=2))
    elif rows:
        _table(names, [[cell or "-" for cell in row] for row in rows])
    else:
        print("no raise is in force")
    return 0


# -- simulation ------------------------------------------------------------------------------------------------


def _simulate(args: argparse.Namespace) -> int:
    file = load(args.file)
    folder = args.file if args.file.is_dir() else args.file.parent
    records = compile_records(file, CompileOptions(documents=documents(file, folder)))
    policies = {
        name: read_record(name, raw)
        for name, raw in records.items()
        if name != CATALOG and args.tenant in (None, name)
    }
    if args.tenant is not None and not policies:
        raise ConfigError(f"--tenant: {args.file} has no tenant {args.tenant[:64]!r}")
    prices = {name: _prices(policy) for name, policy in policies.items()}
    requests = estimated(_requests(args, prices))
    rules = {name: rules_of(policy) for name, policy in policies.items()}

    def price(request: Request, model: str) -> int | None:
        return _priced(prices.get(request.tenant, {}).get(model), request)

    findings = [
        f for f in simulate(requests, rules, price) if f.counted or f.unknown or args.tenant is not None
    ]
    if args.json:
        print(json.dumps([_plain(f) for f in findings], indent=2))
        return 0
    span = ""
    if requests:
        ends = [moment(requests[i].time_ms) for i in (0, -1)]
        span = f", from {ends[0]} to {ends[1]}"
    print(f"{len(requests)} requests{span}")
    for finding in findings:
        _print_finding(finding)
    if not findings:
        print("no limit or budget counts any of them")
    return 0


def _print_finding(finding: Finding) -> None:
    print(sentence(finding))
    rule = finding.rule
    peak = f"{amount(rule.counted, finding.most)} of {amount(rule.counted, rule.most)} {unit(rule)}"
    print(f"  most in one window: {peak}")
    for name, times in finding.steps.items():
        often = "once" if len(times) == 1 else f"{len(times)} times"
        print(f"  {name} reached {often}, first at {moment(times[0])}")
    if finding.degraded:
        print(f"  {finding.degraded} requests degraded")
    if finding.cache_only:
        print(f"  {finding.cache_only} requests refused that the cache couldn't answer")
    for day in finding.refused.values():
        print(f"  {day.date}: {day.requests} blocked, the first at {moment(day.first_ms)}")
    for subject, count in finding.subjects.most_common(5):
        print(f"  {rule.per} {shown(rule, subject) or '-'}: {count} blocked")
    if finding.unknown:
        print(f"  of {finding.unknown} requests no record tells the {rule.per}: they are left out")
    if finding.estimated:
        print(
            f"  of {finding.estimated} requests nobody told the usage: the average of the others stands for it"
        )


def _plain(finding: Finding) -> dict[str, Any]:
    rule = finding.rule
    return {
        "tenant": finding.tenant,
        "budget": rule.name,
        "mode": rule.mode.value,
        "unit": unit(rule),
        "limit": amount(rule.counted, rule.most),
        "requests": finding.counted,
        "estimated": finding.estimated,
        "unknown_subject": finding.unknown,
        "blocked": finding.refusals,
        "days": [
            {"date": d.date, "first": moment(d.first_ms), "blocked": d.requests}
            for d in finding.refused.values()
        ],
        "cache_only": finding.cache_only,
        "degraded": finding.degraded,
        "most_in_a_window": amount(rule.counted, finding.most),
        "steps": {name: [moment(at) for at in times] for name, times in finding.steps.items()},
    }


def _prices(policy: TenantPolicy) -> dict[str, PriceList]:
    """The prices of the tenant's models, of the first target that has some, by all names of the model."""
    found: dict[str, PriceList] = {}
    for model in policy.models:
        prices = next((t.prices for t in model.targets if t.prices is not None), None)
        if prices is not None:
            for name in (f"{model.provider}/{model.model}", model.model, *model.aliases):
                found.setdefault(name, prices)
    return found


def _priced(prices: PriceList | None, request: Request) -> int | None:
    if prices is None or request.prompt is None or request.completion is None:
        return None
    usage = TokenUsage(input=request.prompt, output=request.completion)
    return cost(prices, usage, request.time_ms).nano


def _requests(args: argparse.Namespace, prices: Mapping[str, Mapping[str, PriceList]]) -> Iterator[Request]:
    """The requests of the records; what a record doesn't say of the cost the proposed prices do."""
    seen: set[str] = set()
    for raw in _records(args):
        try:
            record = json.loads(raw)
        except (ValueError, RecursionError):
            raise ConfigError("FILE: holds a line that is no audit record") from None
        if not isinstance(record, dict):
            raise ConfigError("FILE: holds a line that is no audit record")
        identifier = str(record.get("id"))
        found = request_of(record)
        if found is None or identifier in seen or args.tenant not in (None, found.tenant):
            continue  # a sink may have got a record twice
        seen.add(identifier)
        if found.nano is None:
            nano = _priced(prices.get(found.tenant, {}).get(found.model), found)
            found = found.costing(nano)
        yield found


def _records(args: argparse.Namespace) -> Iterator[bytes]:
    for path in args.records:
        try:
            with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
                yield from (line for line in file if line.strip())
        except (OSError, EOFError) as error:
            raise EdgeError(f"{path}: can't be read ({type(error).__name__})") from error
    if not args.records:
        folder = args.dir / "spool"
        if not folder.is_dir():
            raise ConfigError(f"FILE: none is given, and --dir: {args.dir} has no spool; {NO_SPOOL}")
        yield from (entry.record for entry in stored(folder))
