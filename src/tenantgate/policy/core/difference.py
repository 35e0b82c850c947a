"""The difference of two states of the policy directory in words, one line a tenant.

Generic over the stages: a field is called by its path, an entry of a list by its ``name``. A record holds no secret by
its making, but an operator's texts (addresses, phrases, expressions) are nobody else's business either: a text is shown
only if it is one plain word of a field that can't hold a secret, else the line says that it changed.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, Final

from tenantgate.errors import ConfigError
from tenantgate.fields import Field, Many, fields_of
from tenantgate.fields import Record as Nested
from tenantgate.limit_config import Budget, TokenLimit
from tenantgate.policy.core.records import (
    CATALOG,
    Blocked,
    ModelPolicy,
    Routing,
    Target,
    TenantPolicy,
    read_catalog,
    read_record,
)
from tenantgate.prices.core.price_list import KINDS, NANO_PER_DOLLAR, PriceList

__all__ = ["difference", "differences"]

_HIDDEN: Final = "…"
_SHOWN: Final = 160
"""Characters of a name that are shown."""
_MANY: Final = 5
"""Words of a list that are shown; more are counted."""
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,47}")
_SECRET: Final = re.compile(
    r"auth|cookie|credential|header|(^|_)key|passw|secret|signature|token$|url|uri|user", re.IGNORECASE
)
"""Names of fields whose texts aren't shown."""
_PERIODS: Final = {
    "per_second": "a second",
    "per_minute": "a minute",
    "per_hour": "an hour",
    "per_day": "a day",
}
_LIMITS: Final = {
    "tenant": "rate limit",
    "model": "rate limit of the model by itself",
    "key": "rate limit of each key",
}
_MAIN: Final = "mode"
"""The field of a rule that goes without saying."""
_HOSTS: Final = 10
"""Words of a list of hosts that are shown; more are counted."""
_ROUTING: Final = {
    "balance": "balance",
    "hash_on_header": "hash on header",
    "retries": "retries",
    "max_fails": "max fails",
    "fail_timeout_ms": "fail timeout",
    "connect_ms": "time-out of connecting",
    "ttft_ms": "time-out of a stream's first byte",
    "streaming_total_ms": "time-out of streams",
    "non_streaming_total_ms": "time-out of other replies",
}
_BLOCKED: Final = {
    None: "no",
    Blocked.DISABLED: "disabled by the platform",
    Blocked.STALE: "the platform's limits are too old",
}
_RULES: Final[Mapping[str, tuple[str, type]]] = {
    "limit": ("token_limits", TokenLimit),
    "budget": ("budgets", Budget),
}
_AMOUNTS: Final = ("limit", "max_budget")
_FLAGS: Final = {
    "fail_closed": ("requests while there is no engine:", "let pass", "refused"),
    "reply_guard": ("replies:", "passed on as they come", "held back until they are checked"),
    "log_payloads": ("replies in the log phase:", "not read", "read"),
}

Record = Mapping[str, Any]


def differences(
    old: Mapping[str, bytes], new: Mapping[str, bytes], sections: Mapping[str, type] | None = None
) -> Iterator[str]:
    """A line for each tenant whose record isn't the same bytes, in the order of their ids: ``acme: model m removed``.

    Of the catalog only the gateway's egress list has a line: the rest says again which models the tenants have.

    Args:
        old: records by tenant. Those that are equal to the new ones aren't parsed.
        new: the same, afterwards.
        sections: by section the class of its configuration, for defaults, units, and fields that may be secrets.
    """
    for line in _egress(*(_gateway_egress(records.get(CATALOG)) for records in (old, new))):
        yield f"gateway: {line}"
    for tenant in sorted((old.keys() | new.keys()) - {CATALOG}):
        if old.get(tenant) != new.get(tenant):
            yield f"{_shown(tenant)}: {'; '.join(difference(tenant, old.get(tenant), new.get(tenant), sections))}"


def difference(
    tenant: str, old: bytes | None, new: bytes | None, sections: Mapping[str, type] | None = None
) -> list[str]:
    """The changes of one tenant's record, None where there is none; empty only where both are the same bytes."""
    if old == new:
        return []
    before, after = _read(tenant, old), _read(tenant, new)
    if new is None:
        return ["removed"]
    if after is None:
        return ["the new record can't be read"]
    if old is None:
        return ["added, " + _summary(after)]
    if before is None:
        return ["in place of a record that can't be read, " + _summary(after)]
    found = [
        *_blocked(before, after),
        *_weight(before, after),
        *_money(before, after),
        *_names(before, after),
    ]
    found += _models(before, after, sections or {})
    found += _egress(before.egress, after.egress)
    found += _servers(before, after)
    if not found and _order(before) != _order(after):
        found = ["models or aliases in another order"]
    return found or ["written differently"]


def _servers(old: TenantPolicy, new: TenantPolicy) -> Iterator[str]:
    """MCP servers and tools that came, went or are others."""
    before, after = ({str(server.get("name")): server for server in policy.mcp} for policy in (old, new))
    for name in sorted(before.keys() | after.keys()):
        shown = f"MCP server {_shown(name)}"
        if name not in after:
            yield f"{shown} removed"
        elif name not in before:
            yield f"{shown} added, {_count(len(after[name].get('tools') or after[name].get('allowed', ())))}"
        elif before[name] != after[name]:
            ours, theirs = (
                {str(t.get("name")): t for t in server.get("tools", ())}
                for server in (before[name], after[name])
            )
            words = [f"tool {_shown(t)} removed" for t in sorted(ours.keys() - theirs.keys())]
            words += [f"tool {_shown(t)} added" for t in sorted(theirs.keys() - ours.keys())]
            both = sorted(ours.keys() & theirs.keys())
            words += [f"tool {_shown(t)} changed" for t in both if ours[t] != theirs[t]]
            more = f", and {len(words) - _HOSTS} more" if len(words) > _HOSTS else ""
            yield f"{shown}: {', '.join(words[:_HOSTS]) or 'settings changed'}{more}"


def _count(tools: int) -> str:
    return f"{tools} tool{'s'[: tools != 1]}"


def _weight(old: TenantPolicy, new: TenantPolicy) -> Iterator[str]:
    if old.weight != new.weight:
        yield f"share of limits of providers: weight {old.weight} -> {new.weight}"


def _blocked(old: TenantPolicy, new: TenantPolicy) -> Iterator[str]:
    if old.blocked != new.blocked:
        yield "all requests refused: " + " -> ".join(_BLOCKED[p.blocked] for p in (old, new))


def _money(old: TenantPolicy, new: TenantPolicy) -> Iterator[str]:
    """Limits and budgets: ``budget month 500 → 700``."""
    for kind, (list_name, cls) in _RULES.items():
        before, after = (_by_name_of(getattr(policy, list_name)) for policy in (old, new))
        for name in sorted(before.keys() | after.keys()):
            was, now, title = before.get(name), after.get(name), f"{kind} {_shown(name)}"
            if was is None or now is None:
                yield f"{title} {_rule_amount(was or now or {})} {'added' if was is None else 'removed'}"
            elif was != now:
                yield from _rule(title, was, now, cls)
        if list(before) != list(after) and sorted(before) == sorted(after):
            yield f"{kind}s in another order"
    was_header, now_header = old.end_user_header, new.end_user_header
    if was_header != now_header:
        header = "the request's user" if now_header is None else f"the header {_shown(now_header)}"
        yield f"end users: by {header}"


def _rule(title: str, old: Record, new: Record, cls: type) -> Iterator[str]:
    was, now = _rule_amount(old), _rule_amount(new)
    if was != now:
        yield f"{title} {was} → {now}"
    steps = [[_step(step) for step in rule.get("steps", ())] for rule in (old, new)]
    yield from _entries(f"{title} steps", *steps)
    if sorted(steps[0]) == sorted(steps[1]) and steps[0] != steps[1]:
        yield f"{title} steps in another order"
    before, after = (_without(rule, (*_AMOUNTS, "steps")) for rule in (old, new))
    yield from _records(f"{title} ", before, after, fields_of(cls))


def _rule_amount(rule: Record) -> str:
    """The amount of a limit or budget, without an empty fraction."""
    value = next((rule[name] for name in _AMOUNTS if name in rule), 0)
    return str(int(value)) if isinstance(value, float) and value == int(value) else _shown(str(value))


def _step(step: Record) -> str:
    """A step in words: ``90% degrade (model cheap, compress more)``."""
    text = f"{step.get('at')} {step.get('do')}"
    if step.get("to") is not None:
        text += f" to {step['to']}"
    if isinstance(changes := step.get("with"), Mapping) and changes:
        text += f" ({', '.join(f'{name} {value}' for name, value in changes.items())})"
    return text


def _by_name_of(rules: Sequence[Record]) -> dict[str, Record]:
    return {str(rule.get("name")): rule for rule in rules}


def _prices(which: str, old: PriceList | None, new: PriceList | None) -> Iterator[str]:
    """Prices: ``input price 0.15 → 0.2 dollars``; of the same prices in another book its name."""
    if old is None or new is None:
        if old != new:
            yield f"{which}prices no longer known" if new is None else f"{which}prices by {_shown(new.book)}"
        return
    was, now = old.periods[-1].prices, new.periods[-1].prices
    changed = [kind for kind in KINDS if was.get(kind) != now.get(kind)]
    for kind in changed:
        words = (_dollars(prices.get(kind)) for prices in (was, now))
        yield f"{which}{_words(kind)} price {' → '.join(words)}"
    if old.book != new.book:
        yield f"{which}prices by {_shown(new.book)}, before by {_shown(old.book)}"
    elif not changed and old != new:
        yield f"{which}prices of other times, or of long prompts, changed"


def _dollars(nano: int | None) -> str:
    return "none" if nano is None else f"{nano / NANO_PER_DOLLAR:.12g}"


def _read(tenant: str, raw: bytes | None) -> TenantPolicy | None:
    if raw is None:
        return None
    try:
        return read_record(tenant, raw)
    except ConfigError:
        return None


def _gateway_egress(raw: bytes | None) -> Sequence[str] | None:
    try:
        return read_catalog(raw).egress if raw is not None else None
    except ConfigError:
        return None


def _summary(policy: TenantPolicy) -> str:
    count = len(policy.models)
    aliases = [_shown(alias) for model in policy.models for alias in model.aliases]
    text = f"{count} model{'s'[: count != 1]}"
    if aliases:
        text += f", alias{'es'[: 2 * (len(aliases) != 1)]} {', '.join(sorted(aliases))}"
    budgets = [f"budget {_shown(str(b.get('name')))} {_rule_amount(b)}" for b in policy.budgets]
    return ", ".join([text, *budgets])


def _order(policy: TenantPolicy) -> list[tuple[str, tuple[str, ...]]]:
    return [(model.qualified, model.aliases) for model in policy.models]


def _names(old: TenantPolicy, new: TenantPolicy) -> Iterator[str]:
    """Models and aliases that came, went, or mean something else."""
    before, after = _by_name(old), _by_name(new)
    short = _short(before, after)
    for name in sorted(before.keys() - after.keys()):
        yield f"model {short[name]} removed"
    for name in sorted(after.keys() - before.keys()):
        yield f"model {short[name]} added"
    meant = {alias: model.qualified for model in old.models for alias in model.aliases}
    means = {alias: model.qualified for model in new.models for alias in model.aliases}
    for alias in sorted(meant.keys() | means.keys()):
        if alias not in means:
            yield f"alias {_shown(alias)} removed"
        elif alias not in meant:
            yield f"alias {_shown(alias)} added for {_shown(means[alias])}"
        elif meant[alias] != means[alias]:
            yield f"alias {_shown(alias)} now means {_shown(means[alias])}"


def _by_name(policy: TenantPolicy) -> dict[str, ModelPolicy]:
    return {model.qualified: model for model in policy.models}


def _short(before: Mapping[str, ModelPolicy], after: Mapping[str, ModelPolicy]) -> dict[str, str]:
    """By ``provider/model`` the model's own name where that says which one is meant."""
    every = {**before, **after}
    uses = Counter(model.model for model in every.values())
    return {name: _shown(model.model if uses[model.model] == 1 else name) for name, model in every.items()}


def _models(old: TenantPolicy, new: TenantPolicy, sections: Mapping[str, type]) -> Iterator[str]:
    """What changed for the models that stay: what holds for all of them once, the rest with their names."""
    before, after = _by_name(old), _by_name(new)
    short = _short(before, after)
    both = sorted(before.keys() & after.keys())
    words = _StageWords(sections, (*old.models, *new.models))
    where: dict[str, dict[str, None]] = {}
    for name in both:
        for change in _changes(before[name], after[name], words):
            where.setdefault(change, {})[short[name]] = None
    for change, models in where.items():
        yield change if len(models) == len(both) else f"{change} ({', '.join(models)})"


def _changes(old: ModelPolicy, new: ModelPolicy, words: _StageWords) -> Iterator[str]:
    for section in sorted(old.stages.keys() | new.stages.keys()):
        before, after = old.stages.get(section), new.stages.get(section)
        if section == "limits":
            yield from _limits(before or {}, after or {}, words)
        elif before is None:
            yield f"{_words(section)} added"
        elif after is None:
            yield f"{_words(section)} removed"
        else:
            yield from words.stage(section, before, after)
    yield from _targets(old, new)
    yield from _routing(old.routing, new.routing)
    for name, (title, off, on) in _FLAGS.items():
        if (now := getattr(new, name)) != getattr(old, name):
            yield f"{title} {on if now else off}"
    if old.route_name != new.route_name:
        yield "name of the route changed"


def _targets(old: ModelPolicy, new: ModelPolicy) -> Iterator[str]:
    before, after = _by_id(old), _by_id(new)
    for verb, names, others in (("removed", before, after), ("added", after, before)):
        yield from (f"target {_shown(name)} {verb}" for name in names if name not in others)
    stay = [name for name in before if name in after]
    if stay != [name for name in after if name in before]:
        yield f"targets in another order: {', '.join(map(_shown, after))}"
    for name in stay:
        which = f"target {_shown(name)} " if len(after) > 1 else ""
        yield from _target(
            which, before[name], after[name], new.provider if not which else before[name].provider
        )


def _by_id(model: ModelPolicy) -> dict[str, Target]:
    """Targets by their ids; those of version 0.3 had none, and there was one of a model."""
    return {target.id or model.qualified: target for target in model.targets}


def _target(which: str, old: Target, new: Target, provider: str) -> Iterator[str]:
    if old.credential != new.credential:
        change = "added" if old.credential is None else "removed" if new.credential is None else "changed"
        yield f"{which}credential of {_shown(provider)} {change}"
    for f in fields(Target):
        was, now = getattr(old, f.name), getattr(new, f.name)
        if f.name not in {"credential", "id", "options", "prices"} and was != now:
            yield which + _scalars(_words(f.name), f.name, was, now, None)
    yield from _prices(which, old.prices, new.prices)
    yield from _records(which, old.options, new.options, None)


def _routing(old: Routing | None, new: Routing | None) -> Iterator[str]:
    if old == new:
        return
    if old is None or new is None:
        yield f"failover and time-outs {'added' if old is None else 'removed'}"
    was, now = old or Routing(retries=0), new or Routing(retries=0)
    for name, title in _ROUTING.items():
        before, after, unit = getattr(was, name), getattr(now, name), ""
        if before == after:
            continue
        if name.endswith("_ms"):
            before, after, unit = before / 1000, after / 1000, " s"
        if before is None or after is None:
            yield f"{title} no longer set" if after is None else f"{title} set to {_shown(str(after))}"
        else:
            yield f"{title} {_figure(before)} → {_figure(after)}{unit}"
    yield from _entries("failover after", was.failover_criteria, now.failover_criteria)


def _figure(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else _shown(str(value))


def _egress(old: Sequence[str] | None, new: Sequence[str] | None) -> Iterator[str]:
    """Changes of a list of hosts; without a list there is no limit."""
    if old is None and new is not None:
        yield f"egress: only {_listed(new)}"
    elif new is None and old is not None:
        yield "egress: no longer limited"
    else:
        yield from _entries("egress", old or (), new or ())


def _entries(title: str, old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Words that came to a list and went from it; their order says nothing."""
    more = [text for text in new if text not in old]
    less = [text for text in old if text not in new]
    parts = [f"{_listed(texts)} {verb}" for verb, texts in (("added", more), ("removed", less)) if texts]
    if parts:
        yield f"{title}: {', '.join(parts)}"


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _HOSTS} more" if len(texts) > _HOSTS else ""
    return ", ".join(map(_shown, texts[:_HOSTS])) + more


def _limits(old: Record, new: Record, words: _StageWords) -> Iterator[str]:
    """Rate limits: ``rate limit 100 → 200 a minute``."""
    for name, title in _LIMITS.items():
        before, after = old.get(name) or {}, new.get(name) or {}
        if not isinstance(before, Mapping) or not isinstance(after, Mapping):
            yield f"{title} changed"
            continue
        for period, unit in _PERIODS.items():
            was, now = before.get(period), after.get(period)
            if was is None and now is not None:
                yield f"{title} {_value(now)} {unit} added"
            elif now is None and was is not None:
                yield f"{title} {_value(was)} {unit} removed"
            elif was != now:
                yield f"{title} {_value(was)} → {_value(now)} {unit}"
        yield from _records(f"{title} ", _without(before, _PERIODS), _without(after, _PERIODS), None)
    if old and new:
        yield from words.stage("limits", _without(old, _LIMITS), _without(new, _LIMITS))


class _StageWords:
    """Words for changes of stages.

    Args:
        sections: by section the class of its configuration, whose fields have defaults, units and secrets.
        models: all models of the tenant, before and after.
    """

    def __init__(self, sections: Mapping[str, type], models: Sequence[ModelPolicy]) -> None:
        self._sections = sections
        owners: dict[str, set[str]] = {}
        for model in models:
            for section, values in model.stages.items():
                for value in values.values():
                    for name in _by_entry(value) or ():
                        owners.setdefault(name, set()).add(section)
        self._alone = {name for name, of in owners.items() if len(of) == 1}

    def stage(self, section: str, old: Record, new: Record) -> Iterator[str]:
        """The changes of a stage that both have."""
        cls = self._sections.get(section)
        title = "rate limits" if section == "limits" else _words(section)
        yield from _records(f"{title} ", old, new, fields_of(cls) if cls else None, self._alone)


def _records(
    subject: str, old: Record, new: Record, known: Mapping[str, Field] | None, alone: Collection[str] = ()
) -> Iterator[str]:
    """Changes of an object's fields; `subject` is empty or ends with a blank."""
    for name in sorted(old.keys() | new.keys()):
        was, now = old.get(name), new.get(name)
        if was == now:
            continue
        f = known.get(name) if known else None
        title = _words(name)
        if subject and title.startswith(subject):  # cache_ttl of cache
            title = title.removeprefix(subject)
        if f is not None and f.spec.unit:  # deadline_ms, whose values are followed by ms
            title = title.removesuffix(f" {f.spec.unit}")
        if f is not None and isinstance(f.shape, Nested) and (was is None or now is None):
            was, now = was or {}, now or {}
        if isinstance(was, Mapping) and isinstance(now, Mapping):
            inner = fields_of(f.shape.cls) if f is not None and isinstance(f.shape, Nested) else None
            yield from _records(f"{subject}{title} ", was, now, inner)
        elif isinstance(was, list | None) and isinstance(now, list | None):
            yield from _lists(subject, title, name, was or [], now or [], f=f, alone=alone)
        elif name == _MAIN and subject:
            yield _scalars(subject.rstrip(), name, was, now, f)
        else:
            yield _scalars(f"{subject}{title}", name, was, now, f)


def _lists(
    subject: str,
    title: str,
    name: str,
    old: list[Any],
    new: list[Any],
    *,
    f: Field | None,
    alone: Collection[str],
) -> Iterator[str]:
    before, after = _by_entry(old), _by_entry(new)
    if before is None or after is None:
        yield _loose_lists(f"{subject}{title}", name, old, new)
        return
    one = title.removesuffix("s")
    element = f.shape.element if f is not None and isinstance(f.shape, Many) else None
    known = fields_of(element.cls) if isinstance(element, Nested) else None
    for entry in sorted(before.keys() - after.keys()):
        yield f"{subject}{one} {_shown(entry)} removed"
    for entry in sorted(after.keys() - before.keys()):
        yield f"{subject}{one} {_shown(entry)} added"
    changed = False
    for entry in sorted(before.keys() & after.keys()):
        own = _shown(entry) if entry in alone else f"{subject}{one} {_shown(entry)}"
        for line in _records(f"{own} ", before[entry], after[entry], known):
            changed = True
            yield line
    if before.keys() == after.keys() and not changed:
        yield f"{subject}{title} in another order"


def _loose_lists(title: str, name: str, old: list[Any], new: list[Any]) -> str:
    """A list whose entries have no names: the words that came and went, or how many entries."""
    was, now = Counter(map(_key, old)), Counter(map(_key, new))
    parts = []
    for verb, entries in (("added", now - was), ("removed", was - now)):
        words = [json.loads(key) for key in sorted(entries.elements())]
        if words:
            open_ = not _SECRET.search(name) and all(isinstance(w, str) and _WORD.fullmatch(w) for w in words)
            shown = ", ".join(words) if open_ and len(words) <= _MANY else str(len(words))
            parts.append(f"{shown} {verb}")
    return f"{title}: {', '.join(parts)}" if parts else f"{title} in another order"


def _key(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def _by_entry(value: Any) -> dict[str, Record] | None:
    """The objects of a list by their names; None where some have none, or the same."""
    if not isinstance(value, list):
        return None
    found = {v["name"]: v for v in value if isinstance(v, Mapping) and isinstance(v.get("name"), str)}
    return found if len(found) == len(value) else None


def _scalars(title: str, name: str, was: Any, now: Any, f: Field | None) -> str:
    if f is not None and not f.required:
        was = f.default if was is None else was
        now = f.default if now is None else now
    if isinstance(was, tuple | list | Mapping) or isinstance(now, tuple | list | Mapping):
        return f"{title} changed"
    if f is not None and f.spec.referenceable:
        was, now = (None if value is None else _HIDDEN for value in (was, now))
    else:
        closed = f is not None and bool(f.spec.one_of)
        was, now = (_value(value, name, closed=closed) for value in (was, now))
    unit = f" {f.spec.unit}" if f is not None and f.spec.unit and _HIDDEN not in (was, now) else ""
    if was is None:
        return f"{title} set" if now == _HIDDEN else f"{title} set to {now}{unit}"
    if now is None:
        return f"{title} no longer set"
    if _HIDDEN in (was, now):
        return f"{title} changed"
    if was == now:
        return f"{title} {now}{unit}, as before"
    return f"{title} {was} → {now}{unit}"


def _value(value: Any, name: str = "", *, closed: bool = False) -> str | None:
    """A value as it is shown; `_HIDDEN` where it could be more than a word."""
    if value is None:
        return None
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, int | float):
        return str(value)
    if closed or (isinstance(value, str) and _WORD.fullmatch(value) and not _SECRET.search(name)):
        return _shown(str(value))
    return _HIDDEN


def _without(values: Record, names: Collection[str]) -> Record:
    return {name: value for name, value in values.items() if name not in names}


def _words(name: str) -> str:
    return _shown(name.replace("_", " "))


def _shown(text: str) -> str:
    """A name from a record, without what would act on a terminal."""
    return "".join(c if c.isprintable() else "�" for c in text[:_SHOWN])
