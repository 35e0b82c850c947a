from __future__ import annotations

from typing import Any

import pytest

from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.limits.config import LimitsConfig

LIMIT = {"per_minute": 60}


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"tenant": LIMIT, "redis": {}}, None),
        ({"key": LIMIT, "policy": "local"}, None),
        ({"model": LIMIT, "model_name": "gpt", "policy": "local"}, None),
        ({"policy": "local"}, "needs one of tenant, model, key"),
        ({"model": LIMIT, "policy": "local"}, "model_name: required with model"),
        ({"tenant": LIMIT}, "redis: required with policy redis"),
        ({"tenant": LIMIT, "policy": "cluster"}, "policy: 'cluster' is not one of redis, local"),
        ({"tenant": {}, "policy": "local"}, "tenant: needs one of per_second, per_minute, per_hour, per_day"),
        ({"key": {"per_minute": 0}}, "key.per_minute: 0 is outside"),
        ({"key": {"per_minute": 1.5}}, "key.per_minute: must be a whole number"),
        (
            {"key": {"per_minute": 9, "per_day": 8}, "policy": "local"},
            r"key.per_day: 8 is less than per_minute \(9\)",
        ),
    ],
)
def test_what_is_a_configuration(values: dict[str, Any], problem: str | None) -> None:
    if problem is None:
        assert parse(LimitsConfig, values, strict=True)
        return
    with pytest.raises(ConfigError, match=problem):
        parse(LimitsConfig, values, strict=True)
