"""Counters and reservations: how requests are counted for all of their limits, or for none.

A counter of a *calendar's window* is a sum, of which live reservations hold a part. A reservation that is settled is
replaced by what was used; one that expires stays in the sum, as charged, until a late settlement replaces it.

A counter of a *sliding window* is a log of runs: amounts within one sixtieth of the window are one run, which counts
until the last of them is a window old. A limit of up to sixty is exact. Above, too, no window ever has too much, and an
amount is counted for a sixtieth of the window too long at most. Kong's counters begin anew with each minute of the
clock, so twice the limit can pass around its turn; GCRA (the generic cell rate algorithm) lets nearly twice the limit
pass in the first window after a pause. What a request uses less than was reserved is taken out of the run in which it
was counted; what it uses more counts from its settlement on, so that a reply longer than the window counts, too.

``redis_scripts`` are the same algorithm in Redis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tenantgate.limits.core.ledger import (
    AMOUNT_MAX,
    LIFETIME_MAX_MS,
    TOKENS_MAX,
    Certainty,
    Claim,
    Refused,
    Reservation,
    Reserved,
    Room,
    Settlement,
    Used,
)
from tenantgate.limits.core.rules import Counted, OnTight, Reserve, Window

__all__ = [
    "DAY_MS",
    "RUNS",
    "Counter",
    "amounts_of",
    "kept_ms",
    "life_ms",
    "reserve",
    "run_width_us",
    "settle",
]

RUNS: Final = 60
"""Runs of a full window, give or take one: at most 1 kB."""
DAY_MS: Final = 86_400_000
"""So long a reservation that has expired can still be settled."""

_MICRO: Final = 1_000_000
_REQUEST_MS: Final = 60_000
_AGAIN_MS: Final = 1000


def run_width_us(window: Window, most: int) -> int:
    """The time in µs whose amounts are one run. 1 for limits that are exact."""
    return max(1, -(-window.sliding_s * _MICRO // RUNS)) if most > RUNS else 1


def life_ms(window: Window, counted: Counted, lifetime_ms: int = LIFETIME_MAX_MS) -> int:
    """How long a reservation is known to a counter; left out the lifetime, how long at most.

    A sliding window knows it for longer, since what it reserved counts anyway. One of requests has nothing to settle.
    """
    lifetime_ms = min(max(1, lifetime_ms), LIFETIME_MAX_MS)
    if not window.sliding_s:
        return lifetime_ms
    if counted is Counted.REQUESTS:
        return min(lifetime_ms, _REQUEST_MS)
    return lifetime_ms + min(window.sliding_s * 1000, DAY_MS)


def kept_ms(window: Window, counted: Counted, lifetime_ms: int, start_ms: int, end_ms: int) -> int:
    """How long a counter is kept: a sliding one after its last amount, a calendar's after its window's end."""
    life = life_ms(window, counted, lifetime_ms)
    if window.sliding_s:
        return max(life, window.sliding_s * 1000)
    return max(life, min(end_ms - start_ms, 2 * DAY_MS))


def amounts_of(claim: Claim) -> tuple[int, int, int]:
    """What a claim takes: fixed, whole units for a token of the reply, and millionths of one beside."""
    each, rest = divmod(claim.per_million, _MICRO) if claim.per_million > 0 else (0, 0)
    fixed = max(0, claim.fixed)
    return min(fixed, AMOUNT_MAX), min(each, AMOUNT_MAX), rest


@dataclass(slots=True)
class _Held:
    """A request's reservation in one counter."""

    amount: int
    time_us: int
    deadline_ms: int
    charged: bool
    tokens: int


@dataclass(slots=True)
class Counter:
    """One counter in memory."""

    sliding_us: int = 0
    total: int = 0
    held: int = 0
    runs: list[tuple[int, int]] = field(default_factory=list)
    reservations: dict[str, _Held] = field(default_factory=dict)
    next_ms: int = 0

    def open(self, now_us: int, life: int) -> None:
        """Leave out what is too old, and charge what has expired."""
        if self.sliding_us:
            self.runs = [(min(end, now_us), n) for end, n in self.runs]
            self.runs = [run for run in self.runs if run[0] > now_us - self.sliding_us]
            self.total = min(AMOUNT_MAX, sum(n for _, n in self.runs))
        now_ms = now_us // 1000
        if not self.next_ms or (now_ms < self.next_ms <= now_ms + 2 * life):
            return
        self.held, self.next_ms, seen = 0, now_ms + life, len(self.reservations)
        for id_, own in list(self.reservations.items()):
            own.deadline_ms = min(own.deadline_ms, now_ms + life)  # the clock was set back
            if now_ms >= own.deadline_ms + (0 if self.sliding_us else DAY_MS):
                del self.reservations[id_]
            elif now_ms >= own.deadline_ms:
                own.charged = True
            else:
                self.next_ms = min(self.next_ms, own.deadline_ms)
                self.held += 0 if own.charged or self.sliding_us else own.amount
        self.next_ms = max(self.next_ms, now_ms + _AGAIN_MS + seen)

    def add(self, amount: int, now_us: int, width_us: int) -> None:
        """Count an amount from now on; within `width_us` it is one run with the one before."""
        if amount <= 0:
            return
        self.total = min(AMOUNT_MAX, self.total + amount)
        if self.sliding_us:
            if self.runs and self.runs[-1][0] // width_us == now_us // width_us:
                amount += self.runs.pop()[1]
            self.runs.append((now_us, min(AMOUNT_MAX, amount)))

    def take(self, amount: int, time_us: int, now_us: int) -> None:
        """No longer count an amount that was counted at a time."""
        if not self.sliding_us:
            self.total = max(0, self.total - max(0, amount))
            return
        if time_us <= now_us - self.sliding_us:
            return
        left, out = max(0, amount), []
        for end, n in self.runs:
            part = min(n, left) if end >= min(time_us, now_us) else 0
            left -= part
            if n > part:
                out.append((end, n - part))
        self.runs = out
        self.total = min(AMOUNT_MAX, sum(n for _, n in out))

    def forget(self, id_: str, now_us: int) -> None:
        """Take a request's reservation out, as if it had never been."""
        own = self.reservations.pop(id_, None)
        if own is None:
            return
        if not self.sliding_us and not own.charged:
            self.held = max(0, self.held - own.amount)
        self.take(own.amount, own.time_us, now_us)

    def spend(self, used: Used, ended: Settlement) -> None:
        """Put what was used in the place of what a reservation holds, which stays; of a calendar's counter."""
        own = self.reservations.get(ended.id)
        if own is None:
            return
        amount = _charged(used, own, ended.certainty)
        self.total += amount - own.amount
        self.held -= 0 if own.charged else own.amount
        own.amount, own.charged = amount, True

    def room(self, most: int, end_ms: int, amount: int = 1) -> Room:
        """What it says; `amount` is what shall fit into a sliding window."""
        if not self.sliding_us:
            return Room(self.total - self.held, self.held, most, end_ms)
        left, ends = self.total, 0
        for end, n in self.runs:
            left, ends = left - n, end
            if left + amount <= most:
                break
        return Room(self.total, 0, most, -(-(ends + self.sliding_us) // 1000) if ends else 0)


class _Asked:
    """A claim on a counter, while it is decided."""

    def __init__(self, claim: Claim, counter: Counter, asked: Reservation, worst: int, now_us: int) -> None:
        self.claim, self.counter, self.worst = claim, counter, worst
        self.most = min(max(0, claim.most), AMOUNT_MAX)
        expected = min(worst, max(0, asked.expected_tokens))
        self._tokens = expected if claim.reserve is Reserve.EXPECTED else worst
        self._fixed, self._each, self._rest = amounts_of(claim)
        self.least = min(worst, claim.min_tokens)
        self._before = counter.total, counter.held, counter.runs, counter.reservations.get(asked.id)
        if asked.replaces:
            counter.forget(asked.id, now_us)
        self.shrinks = claim.on_tight is OnTight.SHRINK

    def amount(self, tokens: int) -> int:
        n = min(self._tokens, tokens)
        all_ = min(AMOUNT_MAX, self._fixed + n * self._each + -(-n * self._rest // _MICRO))
        if self.claim.reserve is Reserve.EXPECTED:  # else a small limit would never let it pass
            all_ = min(all_, max(self._fixed, self.most))
        return all_

    def fitting(self, room: int) -> int:
        """The most tokens of a reply that fit into a room; -1 where not even the prompt does."""
        if room <= 0 or self._fixed > room:
            return -1
        if self.amount(self.worst) <= room:
            return self.worst
        per_million = self._each * _MICRO + self._rest
        return min(self.worst, (room - self._fixed) * _MICRO // per_million)

    def passes(self, room: int, tokens: int) -> bool:
        if room <= 0:
            return False
        if self.claim.on_tight is OnTight.ADMIT:
            return True
        if self.shrinks:
            return self.fitting(room) >= self.least
        return self.amount(tokens) <= room

    def as_before(self, id_: str, end_ms: int, least: int) -> Room:
        """The counter's room, with a reservation that would have been replaced, which stands."""
        counter = self.counter
        counter.total, counter.held, runs, own = self._before
        room = counter.room(self.most, end_ms, least)
        counter.runs = runs
        if own is not None:
            counter.reservations[id_] = own
        return room

    @property
    def room(self) -> int:
        return self.most - self.counter.total

    def least_amount(self, tokens: int) -> int:
        """The smallest amount that passes."""
        if self.claim.on_tight is OnTight.ADMIT:
            return 1
        return max(1, self.amount(self.least) if self.shrinks else self.amount(tokens))


def reserve(
    counters: Sequence[Counter],
    asked: Reservation,
    ends_ms: Sequence[int],
    now_us: int,
    given_back: Sequence[tuple[Counter, Claim]] = (),
    *,
    settled: bool = False,
) -> Reserved:
    """Hold what a request may take of its counters, or of none where one has no room.

    Args:
        counters: one for each claim; they are changed.
        asked: what the request asks for.
        ends_ms: the windows' ends, 0 of sliding ones.
        now_us: the time in µs, at least 0, of one clock. Where it goes back, earlier amounts count as made now.
        given_back: those of `asked.replaces` that no claim counts in.
        settled: whether the request is at its end already, so that nothing is held.
    """
    now_ms, worst = now_us // 1000, min(max(0, asked.worst_tokens), TOKENS_MAX)
    claims = []
    for claim, counter in zip(asked.claims, counters, strict=True):
        counter.open(now_us, life_ms(claim.window, claim.counted))
        claims.append(_Asked(claim, counter, asked, worst, now_us))
    known = [own.tokens for counter in counters if (own := counter.reservations.get(asked.id))]
    tokens, refused = min([worst, *known]), None
    by: set[int] = set()
    if not (known or settled):
        fits = [c.fitting(c.room) for c in claims if c.shrinks and not c.claim.shadow]
        leasts = [c.least for c in claims if c.shrinks and not c.claim.shadow]
        tokens = min([worst, *(n for n, least in zip(fits, leasts, strict=True) if n >= least)])
        by = {i for i, c in enumerate(claims) if not c.passes(c.room, tokens)}
        refusing = [claims[i] for i in by if not claims[i].claim.shadow]
        if refusing:
            held = all(c.passes(c.room + c.counter.held, tokens) for c in refusing)
            refused = Refused.HELD if held else Refused.EXHAUSTED
    rooms = []
    for c, end_ms in zip(claims, ends_ms, strict=True):
        least = c.least_amount(tokens)
        if refused is None and not settled:
            _hold(c, asked, tokens, now_us)
            rooms.append(c.counter.room(c.most, end_ms, least))
        else:
            rooms.append(c.as_before(asked.id, end_ms, least))
    if refused is None and not settled:
        for counter, claim in given_back:
            counter.open(now_us, life_ms(claim.window, claim.counted))
            counter.forget(asked.id, now_us)
    return Reserved(
        refused=refused, by=tuple(sorted(by)), max_tokens=tokens, rooms=tuple(rooms), now_ms=now_ms
    )


def _hold(c: _Asked, asked: Reservation, tokens: int, now_us: int) -> None:
    counter, claim = c.counter, c.claim
    if asked.id in counter.reservations:
        return
    amount = c.amount(tokens)
    if claim.on_tight is OnTight.ADMIT and not claim.shadow:
        amount = min(amount, max(0, c.room))
    counter.add(amount, now_us, run_width_us(claim.window, c.most))
    if asked.final:
        return
    deadline_ms = now_us // 1000 + life_ms(claim.window, claim.counted, asked.lifetime_ms)
    requests = claim.counted is Counted.REQUESTS
    counter.reservations[asked.id] = _Held(amount, now_us, deadline_ms, requests, tokens)
    if not counter.sliding_us and not requests:
        counter.held = min(AMOUNT_MAX, counter.held + amount)
    counter.next_ms = min(counter.next_ms or deadline_ms, deadline_ms)


def settle(counter: Counter, used: Used, ended: Settlement, now_us: int) -> None:
    """Put what a request used of one counter, which is open, in the place of what it held."""
    own = counter.reservations.get(ended.id)
    if own is None and counter.sliding_us and used.counted is Counted.REQUESTS:
        return  # counted when it came, or never
    counter.next_ms = counter.next_ms or now_us // 1000 + life_ms(used.window, used.counted)
    amount = _charged(used, own, ended.certainty)
    width_us = run_width_us(used.window, AMOUNT_MAX)
    if own is not None and counter.sliding_us:
        counter.take(own.amount - amount, own.time_us, now_us)
        counter.add(amount - own.amount, now_us, width_us)
        del counter.reservations[ended.id]
        return
    counter.forget(ended.id, now_us)
    counter.add(amount, now_us, width_us)


def _charged(used: Used, own: _Held | None, certainty: Certainty) -> int:
    """What a request is charged, given what it used and what was held."""
    amount = min(max(0, used.amount), AMOUNT_MAX)
    if certainty is Certainty.NONE:
        return 0
    if own is None or certainty is Certainty.EXACT:
        return amount
    return own.amount if certainty is Certainty.UNCERTAIN else max(amount, own.amount)
