"""From findings to the action, and masking to its end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import pytest

from tenantgate.errors import EdgeError, TenantgateError
from tenantgate.guard.config import RuleConfig
from tenantgate.guard.core.decision import Action, Decision, Detected, decide, mask
from tenantgate.guard.core.exemptions import Exemption
from tenantgate.guard.core.passages import Edits, Passage, of_text, rewrite
from tenantgate.pii.core import Finding, Placeholders

RULES = {mode: RuleConfig(name=mode, detector="secrets", mode=mode) for mode in ("alert", "mask", "block")}
TARGET = RULES["mask"].target
TEXT = "some text with other words"
STRONG, WEAK = Finding(0, 4, "TOKEN", 0.9), Finding(5, 9, "TOKEN", 0.3)


def decided(found: Mapping[str, Sequence[Finding]], *exemptions: Exemption, text: str = TEXT) -> Decision:
    """The decision by the rules named in `found`; an exemption's hash is the text that it covers."""

    def exempt(rule: RuleConfig, matched: str) -> Exemption | None:
        return next((e for e in exemptions if e.rule == rule.name and e.fingerprint in (None, matched)), None)

    return decide([RULES[name] for name in found], {TARGET: of_text(text)}, Detected(found), exempt)


def exemption(**changes: Any) -> Exemption:
    values = {"id": "x1", "rule": "block", "reason": "why", "by": "ann", "created": 1000.0, "until": 2000.0}
    return Exemption(**{**values, **changes})


@pytest.mark.parametrize(
    ("modes", "action"),
    [
        ((), Action.PASS),
        (("alert",), Action.ALERT),
        (("alert", "mask"), Action.MASK),
        (("mask", "block", "alert"), Action.BLOCK),
    ],
)
def test_the_strictest_rule_decides(modes: tuple[str, ...], action: Action) -> None:
    decision = decided({mode: [STRONG] for mode in modes})
    assert decision.action is action
    assert set(decision.verdict().get("rules", {})) == set(modes)
    assert [hit.rule.name for hit in decision.blocking()] == ["block"] * ("block" in modes)


def test_weak_findings_do_not_count() -> None:
    assert decided({"block": [WEAK]}) == Decision(Action.PASS, ())


def test_a_rule_that_failed_is_a_failure_and_no_hit() -> None:
    error = TenantgateError("gone")
    decision = decide(
        list(RULES.values()), {TARGET: of_text(TEXT)}, Detected({"alert": [STRONG]}, {"block": error})
    )
    assert (decision.action, decision.failures) == (Action.ALERT, {"block": error})


def test_an_exemption_lets_a_rule_s_findings_pass_and_shows() -> None:
    decision = decided({"block": [STRONG]}, exemption())
    assert decision.action is Action.PASS
    assert decision.hits[0].exemptions == ("x1",)
    assert decision.verdict()["rules"]["block"]["exempted"] == 1


def test_an_exemption_for_one_text_leaves_the_other_findings() -> None:
    other = Finding(15, 20, "TOKEN", 0.9)
    decision = decided({"block": [STRONG, other]}, exemption(fingerprint="some"))
    assert decision.action is Action.BLOCK
    assert decision.hits[0].findings == (other,)
    assert decision.hits[0].text(other) == "other"


def test_a_verdict_holds_no_place_and_no_text() -> None:
    decision = decided({"block": [STRONG]})
    assert decision.verdict() == {
        "action": "block",
        "rules": {"block": {"mode": "block", "kinds": {"TOKEN": 1}, "score": 0.9}},
    }
    assert "some" not in repr(decision)


# -- masking --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Text:
    """A text alone, with the same passage for all targets."""

    value: str

    def passages(self, targets: Iterable[str]) -> Mapping[str, Passage]:
        return dict.fromkeys(targets, of_text(self.value))

    def masked(self, edits: Edits) -> Self:
        return type(self)(rewrite(self.value, edits))


def words(text: str, *names: str) -> list[Finding]:
    return [Finding(text.find(n), text.find(n) + len(n), "TOKEN", 0.9) for n in names if n in text]


def masked(text: str, first: Decision | None = None, *names: str) -> str:
    def inspect(whole: Text) -> Decision:
        return decided({"mask": words(whole.value, *names)}, text=whole.value)

    return mask(Text(text), first or inspect(Text(text)), inspect, Placeholders()).value


def test_masking_goes_on_until_nothing_is_found() -> None:
    assert masked("a key and a password", None, "key") == "a [TOKEN_1] and a password"
    assert masked("a key and a password", None, "key", "d a p") == "a [TOKEN_1] an[TOKEN_2]assword"
    assert masked("nothing of the kind", None, "key") == "nothing of the kind"


def test_what_an_alert_or_an_exemption_covers_stays() -> None:
    assert decided({"alert": [STRONG]}).edits(Placeholders()) == {}
    assert decided({"mask": [STRONG]}, exemption(rule="mask")).edits(Placeholders()) == {}


def test_a_placeholder_that_is_found_needs_no_masking() -> None:
    assert masked("a [TOKEN_1] here", None, "[TOKEN_1]") == "a [TOKEN_1] here"


def test_a_rule_that_failed_at_first_is_applied_before_masking_ends() -> None:
    first = Decision(Action.PASS, (), {"mask": TenantgateError("still loading")})
    assert masked("a key", first, "key") == "a [TOKEN_1]"


class Stubborn(Text):
    """A text that stays as it is."""

    def masked(self, edits: Edits) -> Self:
        return self


def test_masking_without_an_end_is_given_up() -> None:
    decision = decided({"mask": [STRONG]})
    with pytest.raises(EdgeError, match="again and again"):
        mask(Stubborn(TEXT), decision, lambda _: decision, Placeholders())
