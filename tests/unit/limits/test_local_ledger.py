"""Reservations in memory: what holds whatever is asked, checked against an account of single requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from ledger_rig import (
    AMOUNTS,
    CERTAINTIES,
    GAPS_US,
    TOKENS,
    Account,
    Clock,
    claims,
    reservation,
    reserve_and_check,
    settle_in_account,
    settlement,
)
from tenantgate.limits import local_ledger
from tenantgate.limits.core.ledger import Certainty, Claim
from tenantgate.limits.local_ledger import LocalLedger


class Requests(RuleBasedStateMachine):
    """Requests that are reserved for, settled late, twice or never, while time passes."""

    running = Bundle("running")
    ended = Bundle("ended")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(local_ledger, "time", self.clock)
        self.ledger, self.account, self.number = LocalLedger(), Account(), 0

    def teardown(self) -> None:
        self.patch.undo()

    @rule(gap_us=GAPS_US)
    def time_passes(self, gap_us: int) -> None:
        self.clock.us += gap_us

    @rule(target=running, asks=claims(), tokens=TOKENS)
    def reserve(self, asks: tuple[Claim, ...], tokens: int) -> Any:
        self.number += 1
        asked = reservation(f"q{self.number}", *asks, worst=tokens)
        answer = reserve_and_check(self.ledger, self.account, asked, self.clock.us)
        return asked, answer

    @rule(
        target=ended,
        request=consumes(running),
        amounts=st.lists(AMOUNTS, min_size=4, max_size=4),
        how=CERTAINTIES,
    )
    def settle(self, request: Any, amounts: list[int], how: Certainty) -> Any:
        asked, answer = request
        if answer.refused:
            return request
        ended = settlement(asked, answer, amounts[: len(asked.claims)], how)
        self.ledger.settle(ended)
        settle_in_account(self.account, ended, asked, self.clock.us)
        return request

    @rule(request=ended, amount=AMOUNTS)
    def settle_again(self, request: Any, amount: int) -> None:
        asked, answer = request
        if not answer.refused:
            self.ledger.settle(settlement(asked, answer, amount))


TestRequests = Requests.TestCase
TestRequests.settings = settings(max_examples=40, stateful_step_count=30, phases=[Phase.generate])
