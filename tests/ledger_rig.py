"""Ledgers with a clock of the test's, and an account of what they should say that knows no algorithm of theirs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import redis
from hypothesis import strategies as st

from tenantgate.limits.core.counters import life_ms, run_width_us
from tenantgate.limits.core.ledger import (
    Certainty,
    Claim,
    Ledger,
    Refused,
    Reservation,
    Reserved,
    Settlement,
    Used,
)
from tenantgate.limits.core.rules import Counted, OnTight, Reserve, Window
from tenantgate.limits.core.windows import window_at
from tenantgate.limits.redis_ledger import RedisLedger
from tenantgate.store.config import RedisConfig
from tenantgate.store.redis_nodes import connect
from tenantgate.tenant import TenantId

ACME = TenantId("acme")
START_MS = 1_700_000_000_000
LIFE_MS = 30_000
MINUTE = Window(sliding_s=60)
HOUR = Window(unit="hour")
DAY = Window(unit="day", timezone="Europe/Berlin")
MONTH = Window(unit="month", timezone="America/Sao_Paulo", anchor_day=31)


class Clock:
    """Stands where the module `time` does."""

    def __init__(self) -> None:
        self.us = START_MS * 1000

    def time_ns(self) -> int:
        return self.us * 1000

    def monotonic(self) -> float:
        return 0.0


class _Timed:
    """A script that is told the time."""

    def __init__(self, store: redis.Redis, text: str, clock: Clock) -> None:
        asks = "call('TIME')"
        assert text.count(asks) == 1
        self._run: Any = store.register_script(text.replace(asks, "{ARGV[#ARGV - 1], ARGV[#ARGV]}"))
        self._clock = clock

    def __call__(self, keys: list[str], args: list[Any], client: object) -> Any:
        del client
        return self._run(keys=keys, args=[*args, *divmod(self._clock.us, 1_000_000)])


def timed(store: redis.Redis, clock: Clock) -> RedisLedger:
    """A ledger whose scripts go by the test's clock; the module's own is to be patched, too."""
    port = store.get_connection_kwargs()["port"]
    made = RedisLedger(connect(RedisConfig(port=port, timeout_ms=1000)))
    for name in ("_reserve", "_settle", "_read"):
        setattr(made, name, _Timed(store, getattr(made, name).text, clock))
    return made


def claim(counter: str = "c", **changes: Any) -> Claim:
    """A claim of a day's budget, 1 a token."""
    values = {"counted": Counted.COST, "most": 1000, "window": DAY, "fixed": 0, "per_million": 1_000_000}
    return Claim(**{"counter": counter, **values, **changes})


def requests(most: int, window: Window = MINUTE, counter: str = "r", **changes: Any) -> Claim:
    """A claim of one request."""
    values = {"counted": Counted.REQUESTS, "fixed": 1, "per_million": 0, "most": most, "window": window}
    return claim(counter, **{**values, **changes})


def reservation(id_: str, *claims: Claim, worst: int = 100, **changes: Any) -> Reservation:
    """What a request of acme asks for."""
    values = {"tenant": ACME, "expected_tokens": min(worst, 10), "lifetime_ms": LIFE_MS}
    return Reservation(**{**values, "id": id_, "claims": claims, "worst_tokens": worst, **changes})


def settlement(
    asked: Reservation, answer: Reserved, amounts: int | list[int], certainty: Certainty = Certainty.EXACT
) -> Settlement:
    """The end of a request that was reserved for."""
    each = [amounts] * len(asked.claims) if isinstance(amounts, int) else amounts
    used = [
        Used(c.counter, c.window, amount, c.counted, c.most)
        for c, amount in zip(asked.claims, each, strict=True)
    ]
    return Settlement(
        tenant=asked.tenant, id=asked.id, certainty=certainty, used=tuple(used), started_ms=answer.now_ms
    )


# -- what may be asked -------------------------------------------------------------------------------------

WINDOWS = (Window(sliding_s=1), MINUTE, Window(sliding_s=3600), Window(unit="minute"), HOUR, DAY, MONTH)


@st.composite
def claims(draw: st.DrawFn) -> tuple[Claim, ...]:
    """Claims on some of seven counters, each of which has its window and what it counts for good."""
    out = []
    for i in sorted(draw(st.sets(st.integers(0, len(WINDOWS) - 1), min_size=1, max_size=4))):
        counted = Counted.REQUESTS if i in (1, 4) else Counted.COST
        paid = {"fixed": 1, "per_million": 0}
        if counted is Counted.COST:
            per_million = draw(st.sampled_from([0, 1, 333_333, 1_000_000, 2_500_001]))
            paid = {"fixed": draw(st.sampled_from([0, 1, 7])), "per_million": per_million}
        out.append(
            Claim(
                counter=f"c{i}",
                counted=counted,
                window=WINDOWS[i],
                most=draw(st.sampled_from([0, 1, 5, 60, 61, 100, 400])),
                reserve=draw(st.sampled_from(list(Reserve))),
                on_tight=draw(st.sampled_from(list(OnTight))),
                min_tokens=draw(st.sampled_from([1, 10, 50])),
                shadow=draw(st.sampled_from([False, False, True])),
                **paid,
            )
        )
    return tuple(out)


TOKENS = st.sampled_from([1, 10, 40, 100])
GAPS_US = st.sampled_from([0, 0, 1, 999, 1_000_000, 10_000_000, 31_000_000, 61_000_000, 3_600_000_000])
AMOUNTS = st.sampled_from([0, 1, 5, 50, 150])
CERTAINTIES = st.sampled_from(list(Certainty))


# -- an account of it --------------------------------------------------------------------------------------


@dataclass
class Item:
    """What counts in a counter."""

    amount: int
    time_us: int
    until_ms: int = 0
    """Live reservations: when they expire."""


@dataclass
class Account:
    """What each request did, one by one, as long as the clock doesn't go back."""

    items: dict[tuple[str, int], dict[str, Item]] = field(default_factory=dict)

    def of(self, claim: Claim, now_ms: int) -> dict[str, Item]:
        """What was counted in the window that contains this moment."""
        start = 0 if claim.window.sliding_s else window_at(claim.window, now_ms)[0]
        return self.items.setdefault((claim.counter, start), {})

    def total(self, claim: Claim, now_us: int, *, late: bool = False) -> int:
        """The sum of what counts now; with `late`, of what a run may count for too long."""
        items = self.of(claim, now_us // 1000).values()
        if not claim.window.sliding_s:
            return sum(item.amount for item in items)
        since = now_us - claim.window.sliding_s * 1_000_000
        since -= run_width_us(claim.window, 61) if late else 0
        return sum(item.amount for item in items if item.time_us > since)

    def held(self, claim: Claim, now_us: int) -> tuple[int, int]:
        """The least and the most that may be held now: expired reservations may be seen a little later."""
        if claim.window.sliding_s:
            return 0, 0
        items = self.of(claim, now_us // 1000).values()
        slack = 2000 + 2 * len(items)
        live = [item for item in items if item.until_ms > now_us // 1000 - slack]
        return sum(i.amount for i in live if i.until_ms > now_us // 1000), sum(i.amount for i in live)


def amount(claim: Claim, asked: Reservation, tokens: int) -> int:
    """What a claim takes for so many tokens of a reply."""
    if claim.reserve is Reserve.EXPECTED:
        tokens = min(tokens, asked.expected_tokens)
    found = claim.fixed + -(-tokens * claim.per_million // 1_000_000)
    return min(found, max(claim.fixed, claim.most)) if claim.reserve is Reserve.EXPECTED else found


def least(claim: Claim, asked: Reservation, tokens: int) -> int:
    """The least room with which a claim passes."""
    if claim.on_tight is OnTight.ADMIT:
        return 1
    if claim.on_tight is OnTight.SHRINK:
        tokens = min(claim.min_tokens, asked.worst_tokens)
    return max(1, amount(claim, asked, tokens))


def reserve_and_check(ledger: Ledger, account: Account, asked: Reservation, now_us: int) -> Reserved:
    """The ledger's answer to a new request, which must be as the account has it."""
    now_ms = now_us // 1000
    before = [account.total(c, now_us) for c in asked.claims]
    before_late = [account.total(c, now_us, late=True) for c in asked.claims]
    held = [account.held(c, now_us) for c in asked.claims]
    answer = ledger.reserve(asked)
    assert answer.now_ms == now_ms
    assert 0 < answer.max_tokens <= asked.worst_tokens
    refusing = [i for i in answer.by if not asked.claims[i].shadow]
    assert bool(refusing) == (answer.refused is not None)
    for i, c in enumerate(asked.claims):
        need = least(c, asked, answer.max_tokens)
        if i in answer.by:
            assert before_late[i] + need > c.most
            if answer.refused is Refused.HELD and not c.shadow:
                assert before[i] - held[i][1] + need <= c.most
        else:
            assert before[i] + need <= c.most
    if answer.refused is Refused.EXHAUSTED:
        assert any(
            before_late[i] - held[i][0] + least(asked.claims[i], asked, answer.max_tokens)
            > asked.claims[i].most
            for i in refusing
        )
    for i, c in enumerate(asked.claims):
        if answer.refused is None:
            taken = amount(c, asked, answer.max_tokens)
            if c.on_tight is OnTight.ADMIT and not c.shadow:
                taken = min(taken, c.most - answer.rooms[i].used - answer.rooms[i].held + taken, taken)
                taken = max(0, min(taken, c.most - before[i]))
            life = life_ms(c.window, c.counted, asked.lifetime_ms)
            live = 0 if c.counted is Counted.REQUESTS else now_ms + life
            account.of(c, now_ms)[asked.id] = Item(taken, now_us, live)
        check_room(account, c, answer, i, now_us)
    return answer


def check_room(account: Account, c: Claim, answer: Reserved, i: int, now_us: int) -> None:
    """One room of an answer."""
    room = answer.rooms[i]
    assert account.total(c, now_us) <= room.used + room.held <= account.total(c, now_us, late=True)
    low, high = account.held(c, now_us)
    assert low <= room.held <= high
    assert room.most == c.most
    if not c.window.sliding_s:
        assert room.reset_ms == window_at(c.window, answer.now_ms)[1]
    elif room.used:
        assert answer.now_ms < room.reset_ms <= answer.now_ms + c.window.sliding_s * 1000 + 1


def settle_in_account(account: Account, ended: Settlement, asked: Reservation, now_us: int) -> None:
    """Put what was used in the place of what was counted."""
    for used, c in zip(ended.used, asked.claims, strict=True):
        items = account.of(c, ended.started_ms)
        own = items.get(ended.id)
        known_ms = life_ms(c.window, c.counted, asked.lifetime_ms) + (0 if c.window.sliding_s else 86_400_000)
        if own is not None and now_us // 1000 >= ended.started_ms + known_ms:
            own = None
        if own is None and c.window.sliding_s and c.counted is Counted.REQUESTS:
            continue
        taken = used.amount
        if ended.certainty is Certainty.NONE:
            taken = 0
        elif own and ended.certainty is Certainty.UNCERTAIN:
            taken = own.amount
        elif own and ended.certainty is Certainty.LOWER_BOUND:
            taken = max(taken, own.amount)
        if own is None:
            items[f"{ended.id} late"] = Item(taken, now_us)
        elif not c.window.sliding_s:
            items[ended.id] = Item(taken, own.time_us)
        else:
            items[ended.id] = Item(min(taken, own.amount), own.time_us)
            items[f"{ended.id} more"] = Item(max(0, taken - own.amount), now_us)
