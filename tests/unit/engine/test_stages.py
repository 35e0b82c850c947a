"""Stages as they are made from policies."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tenantgate.audit import service
from tenantgate.audit.config import AuditConfig
from tenantgate.engine import stages as engine_stages
from tenantgate.engine.config import EngineConfig
from tenantgate.engine.stages import StageBuilder
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.policy.core.records import ModelPolicy, Target, read_price_list
from tenantgate.prices.core.price_list import PriceList, Prices

KEY = "key-of-the-tests-key-of-the-tests"


def test_a_feature_gets_the_price_lists_that_it_asks_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AuditConfig] = []
    monkeypatch.setattr(service.AuditLog, "__init__", lambda _self, config: made.append(config))
    pipeline = {"journal": str(tmp_path / "journal.jsonl"), "state_dir": str(tmp_path)}
    values: dict[str, Any] = {"encryption_key": KEY, "policy_path": "/p", "audit": pipeline}
    builder = StageBuilder(parse(EngineConfig, values))
    prices = PriceList(book="b 1", periods=(Prices(prices={"input": 1, "output": 2}),))
    targets = (
        Target(provider="openai", name="a", id="openai/a", prices=prices),
        Target(provider="openai", name="b", id="openai/b"),
    )
    model = ModelPolicy(provider="p", model="m", route_name="r", targets=targets, stages={"audit": {}})
    builder.stages(model)
    (config,) = made
    assert {t: read_price_list(json.loads(text), t) for t, text in config.prices.items()} == {
        "openai/a": prices
    }


@pytest.mark.parametrize(
    ("stages", "problem"),
    [
        ({}, None),
        ({"transform": {"maximum": {"max_tokens": 5}}}, None),
        ({"nowhere": {}}, "m: nowhere isn't known to this version"),
        ({"transform": {"later": 1}}, "transform.later: unknown field"),
        ({"transform": {"maximum": {"max_tokens": "{vault://env/X}"}}}, "hold no secret for this reference"),
    ],
)
def test_a_check_refuses_what_no_stage_can_be_made_of_and_makes_none(
    stages: dict[str, Any], problem: str | None
) -> None:
    builder = StageBuilder(parse(EngineConfig, {"encryption_key": KEY, "policy_path": "/p"}))
    model = ModelPolicy(provider="p", model="m", route_name="r", targets=(), stages=stages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine_stages, "_made", None)  # would raise
        for _ in range(2):  # what was right once, and what wasn't
            if problem is None:
                builder.check(model)
            else:
                with pytest.raises(ConfigError, match=problem):
                    builder.check(model)
    if problem is None:
        assert len(builder.stages(model)) == len(stages)
    else:
        with pytest.raises(ConfigError, match=problem):
            builder.stages(model)
