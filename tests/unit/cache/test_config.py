"""What an operator may set on the cache."""

from __future__ import annotations

from typing import Any

import pytest

from tenantgate import fields
from tenantgate.cache.config import CacheConfig
from tenantgate.cache.manifest import CACHE
from tenantgate.errors import ConfigError

KEY = {"encryption_key": "k" * 32}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"coalesce_max_wait_ms": 1701}, "coalesce_max_wait_ms"),
        ({"coalesce_max_wait_ms": -1}, "coalesce_max_wait_ms"),
        ({"coalesce_max_wait_ms": 1, "exact_caching": False}, "coalesce_max_wait_ms: needs exact_caching"),
        ({"stale_if_error_s": 1, "exact_caching": False}, "stale_if_error_s: needs exact_caching"),
        ({"mode": "off"}, "mode"),
    ],
)
def test_what_may_not_be_set(values: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        fields.parse(CacheConfig, {**KEY, **values}, where="cache")


@pytest.mark.parametrize(
    ("values", "rejects"),
    [
        ({}, False),
        ({"coalesce_max_wait_ms": 1700, "stale_if_error_s": 60}, False),
        ({"mode": "cache_only"}, True),
        ({"on_error": "reject"}, True),
    ],
)
def test_a_cache_that_alone_may_answer_lets_nothing_through_where_it_fails(
    values: dict[str, Any], rejects: bool
) -> None:
    assert CACHE.rejects(fields.parse(CacheConfig, {**KEY, **values}, where="cache")) is rejects
