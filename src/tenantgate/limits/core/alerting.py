"""What is to be told of a budget's counter, and what is kept so that it is told once. Pure.

A counter's `State` is one hash in Redis, shared by all nodes. Whoever looks reads it together with the counter, makes a
`Plan`, and writes that if nobody was quicker; so each step is told once in a window and fleet, by one node.

* A step is told when it is reached; again after a raise has put it out of reach, and in each new window.
* Recovery is told once for all steps that a raise has put out of reach, and once when a window ends of which anything
  was told.
* That the limit will be reached before the window ends is told once in a window, and again after a raise.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from zoneinfo import ZoneInfo

from tenantgate.limits.core.forecast import BUCKETS, Forecast, Sample, bucket, forecast
from tenantgate.limits.core.ladder import permille
from tenantgate.limits.core.rules import Counted, Do, Mode, Per, Rule, Step, Window
from tenantgate.prices.core.price_list import NANO_PER_DOLLAR

__all__ = [
    "About",
    "Plan",
    "Standing",
    "State",
    "amount",
    "moment",
    "percent",
    "plan",
    "quiet_until",
    "read_about",
    "read_state",
    "shown",
    "unit",
]

_PROJECTED: Final = "projected"
_TOLD: Final = "told:"
_SAMPLE: Final = "s:"
_UNITS: Final = {Counted.COST: "USD", Counted.REQUESTS: "requests", Counted.BYTES: "bytes"}
_DAY_MS: Final = 86_400_000
_DOES: Final = {
    Do.NOTIFY: "",
    Do.DEGRADE: "requests are degraded",
    Do.CACHE_ONLY: "only the cache answers",
    Do.BLOCK: "requests are refused",
}
_WHOLE: Final = 1000


@dataclass(frozen=True, slots=True)
class About:
    """The budget of a counter, as far as alerts need it; it is kept with the state, for who looks without a request.

    Attributes:
        rule: the budget.
        subject: whose counter it is, as it may be shown; empty for the tenant.
        counter: its name.
    """

    rule: Rule
    subject: str
    counter: str

    def to_json(self) -> str:
        """For `read_about`."""
        rule = self.rule
        steps = [[step.at_permille, step.do, step.to] for step in rule.steps]
        window = [rule.window.unit, rule.window.timezone, rule.window.anchor_day]
        kept = [rule.name, rule.counted, rule.most, rule.per, rule.mode, window, steps]
        return json.dumps([*kept, self.subject, self.counter], separators=(",", ":"))


def read_about(text: bytes | None) -> About | None:
    """What `About.to_json` has written; None if it isn't that."""
    try:
        name, counted, most, per, mode, window, steps, subject, counter = json.loads(text or b"")
        rule = Rule(
            name=str(name),
            counted=Counted(counted),
            most=int(most),
            per=Per(per),
            mode=Mode(mode),
            window=Window(unit=str(window[0]), timezone=str(window[1]), anchor_day=int(window[2])),
            steps=tuple(Step(at_permille=int(at), do=Do(do), to=str(to)) for at, do, to in steps),
            budget=True,
        )
        return About(rule, str(subject), str(counter))
    except (ValueError, TypeError, LookupError):
        return None


def shown(rule: Rule, subject: str) -> str:
    """A counter's subject as alerts name it; of an end user the beginning of the digest that the subject is."""
    if rule.per is Per.TENANT:
        return ""
    if rule.per is Per.END_USER:
        return f"sha256:{subject[:16]}"
    return "".join(c if c.isprintable() else "?" for c in subject)[:200]


@dataclass(frozen=True, slots=True)
class State:
    """What was told of a counter.

    Attributes:
        version: of the state, growing; 0: there is none.
        end_ms: when the window ends that it is about.
        most: the limit when it was written.
        told: marks of what was told in this window: of steps, and that the limit will be reached.
        samples: earlier states of the counter in this window.
    """

    version: int = 0
    end_ms: int = 0
    most: int = 0
    told: frozenset[str] = frozenset()
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Standing:
    """A counter and its window at one moment; times are Unix ms by Redis' clock."""

    used: int
    most: int
    start_ms: int
    end_ms: int
    now_ms: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be written and told.

    Attributes:
        put: fields of the state's hash to set.
        gone: fields to remove.
        events: values of events (`tenantgate.audit.core.event`), each told once.
        standing: what it was made of.
        open: whether something is told that will have to be taken back.
    """

    standing: Standing
    put: Mapping[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    events: tuple[Mapping[str, str], ...] = ()
    open: bool = False


def read_state(fields: Mapping[bytes, bytes]) -> State:
    """The state in a hash; what can't be read counts as not there."""
    told, samples = set(), []
    numbers = {b"version": 0, b"end": 0, b"most": 0}
    for name, value in fields.items():
        text = name.decode("utf-8", "replace")
        try:
            if name in numbers:
                numbers[name] = int(value)
            elif text.startswith(_TOLD):
                told.add(text.removeprefix(_TOLD))
            elif text.startswith(_SAMPLE):
                at, used = value.split()
                samples.append(Sample(int(at), int(used)))
        except ValueError:
            continue
    return State(
        numbers[b"version"], numbers[b"end"], numbers[b"most"], frozenset(told), tuple(sorted(samples))
    )


def plan(about: About, state: State, standing: Standing) -> Plan | None:
    """What is to be told now; None if nothing is, and nothing has to be kept.

    A standing of a window before the state's is late, and nothing.
    """
    if standing.end_ms < state.end_ms:
        return None
    fresh = standing.end_ms != state.end_ms
    told = frozenset() if fresh else state.told
    samples = () if fresh else state.samples
    rule = about.rule
    foretold = _forecast(standing, samples)
    marks = {_mark(step): step for step in rule.steps}
    part = permille(standing.used, standing.most)
    events: list[Mapping[str, str]] = []
    if fresh and state.told:
        old = [step for mark, step in marks.items() if mark in state.told]
        events.append(_recovered(about, standing, foretold, old, ended=True))
    out_of_reach = [m for m in told if m in marks and marks[m].at_permille > part]
    raised = standing.most > state.most
    if _PROJECTED in told and raised and not _will_exceed(standing, foretold):
        out_of_reach.append(_PROJECTED)
    if out_of_reach:
        steps = [marks[m] for m in out_of_reach if m in marks]
        events.append(_recovered(about, standing, foretold, steps))
    news = [m for m, step in marks.items() if step.at_permille <= part and m not in told]
    events += [_reached(about, standing, foretold, marks[m]) for m in news]
    if _PROJECTED not in told and _will_exceed(standing, foretold):
        news.append(_PROJECTED)
        events.append(_projected(about, standing, foretold))
    number = bucket(standing.now_ms, standing.start_ms, standing.end_ms)
    known = {bucket(s.at_ms, standing.start_ms, standing.end_ms) for s in samples}
    sampled = standing.used > 0 and number not in known
    if not events and not sampled and (fresh or standing.most == state.most):
        return None
    put = {f"{_TOLD}{mark}": "1" for mark in news}
    if sampled:
        put[f"{_SAMPLE}{number}"] = f"{standing.now_ms} {standing.used}"
    put |= {"end": str(standing.end_ms), "most": str(standing.most), "about": about.to_json()}
    gone = [f"{_TOLD}{mark}" for mark in out_of_reach]
    if fresh:
        gone += [f"{_TOLD}{mark}" for mark in state.told if f"{_TOLD}{mark}" not in put]
        gone += [f"{_SAMPLE}{n}" for n in range(BUCKETS) if f"{_SAMPLE}{n}" not in put]
    left = (told - set(out_of_reach)) | set(news)
    return Plan(standing, put, tuple(gone), tuple(events), bool(left))


def quiet_until(about: About, standing: Standing) -> int:
    """The use from which on there may be something to tell; below it nothing has to be read before the next part."""
    for step in about.rule.steps:
        needed = -(-standing.most * step.at_permille // _WHOLE)
        if needed > standing.used:
            return needed
    return standing.used + max(standing.most, 1)


def _forecast(standing: Standing, samples: tuple[Sample, ...]) -> Forecast | None:
    now = Sample(standing.now_ms, standing.used)
    return forecast(samples, now, standing.most, start_ms=standing.start_ms, end_ms=standing.end_ms)


def _will_exceed(standing: Standing, foretold: Forecast | None) -> bool:
    return foretold is not None and foretold.exhausted_ms is not None and standing.used < standing.most


def _mark(step: Step) -> str:
    return f"{step.at_permille}.{step.do}.{step.to}"


# -- events --------------------------------------------------------------------------------------------------


def _reached(about: About, standing: Standing, foretold: Forecast | None, step: Step) -> Mapping[str, str]:
    rule, at = about.rule, percent(step.at_permille)
    kind = "budget_crossed" if step.at_permille >= _WHOLE else "threshold_crossed"
    effect = _DOES[step.do]
    if effect:
        effect = f"; {effect}" if rule.mode is Mode.ENFORCE else "; in shadow mode, without effect"
    message = (
        f"{_name(about)}: {at} reached, {_spent(rule, standing)}{effect}{_pace(about, standing, foretold)}."
    )
    return _event(about, standing, foretold, kind, message, at=at, do=step.do.value, to=step.to)


def _projected(about: About, standing: Standing, foretold: Forecast | None) -> Mapping[str, str]:
    message = f"{_name(about)}: {_spent(about.rule, standing)}{_pace(about, standing, foretold)}."
    return _event(about, standing, foretold, "projected_limit_exceeded", message)


def _recovered(
    about: About, standing: Standing, foretold: Forecast | None, steps: list[Step], *, ended: bool = False
) -> Mapping[str, str]:
    lowest = min((step.at_permille for step in steps), default=None)
    at = "" if lowest is None else percent(lowest)
    to = {step.to for step in steps}
    why = (
        "a new window has begun" if ended else f"below {at} again" if at else "no longer used up at this pace"
    )
    message = f"{_name(about)}: {why}, {_spent(about.rule, standing)}."
    only = to.pop() if len(to) == 1 else ""
    # Of a window that ended everything is over, also what was above its lowest step.
    return _event(about, standing, foretold, "budget_recovered", message, at=at, to=only)


def _event(
    about: About, standing: Standing, foretold: Forecast | None, kind: str, message: str, **more: str
) -> Mapping[str, str]:
    rule = about.rule
    values = {
        "type": kind,
        "message": message,
        "budget": rule.name,
        "per": rule.per.value,
        "subject": about.subject,
        "mode": rule.mode.value,
        "unit": unit(rule),
        "max_budget": amount(rule.counted, standing.most),
        "spend": amount(rule.counted, standing.used),
        "window_start": moment(standing.start_ms),
        "window_end": moment(standing.end_ms),
        "timezone": rule.window.timezone,
        **more,
    }
    if foretold is not None:
        values["projected_spend"] = amount(rule.counted, foretold.at_end)
        if foretold.exhausted_ms is not None:
            values["projected_exceeded_date"] = moment(foretold.exhausted_ms)
    return {name: value for name, value in values.items() if value}


def _name(about: About) -> str:
    rule = about.rule
    return f"Budget {rule.name}" + (f" of {rule.per} {about.subject}" if about.subject else "")


def _spent(rule: Rule, standing: Standing) -> str:
    used, most = amount(rule.counted, standing.used), amount(rule.counted, standing.most)
    return f"{used} of {most} {unit(rule)} used"


def _pace(about: About, standing: Standing, foretold: Forecast | None) -> str:
    if foretold is None or foretold.exhausted_ms is None or standing.used >= standing.most:
        return ""
    then = datetime.fromtimestamp(foretold.exhausted_ms / 1000, ZoneInfo(about.rule.window.timezone))
    long = standing.end_ms - standing.start_ms > _DAY_MS * 3 // 2
    return f"; used up on {then:%Y-%m-%d} at this pace" if long else f"; used up at {then:%H:%M} at this pace"


def percent(permille_: int) -> str:
    """Thousandths as a percentage: 800 is 80%, 985 is 98.5%."""
    whole, tenth = divmod(permille_, 10)
    return f"{whole}.{tenth}%" if tenth else f"{whole}%"


def amount(counted: Counted, value: int) -> str:
    """An amount as an exact decimal: of a cost in dollars, else as it is."""
    if counted is not Counted.COST:
        return str(value)
    text = f"{Decimal(value) / NANO_PER_DOLLAR:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def unit(rule: Rule) -> str:
    """The unit of a rule's amounts as they are shown."""
    return _UNITS.get(rule.counted, "tokens")


def moment(ms: int) -> str:
    """A Unix time in ms as ISO 8601 in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
