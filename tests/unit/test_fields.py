from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tenantgate.cache.config import CacheConfig
from tenantgate.errors import ConfigError
from tenantgate.fields import Many, Record, Scalar, config_class, field, fields_of, parse
from tenantgate.store.config import ClusterNode


@config_class
class Inner:
    host: str = field("Where it listens.", default="127.0.0.1", len_min=1)


@config_class
class Sample:
    name: str = field("What it is called.", len_min=2, len_max=5, match=r"^[a-z]+$", lua_match="^[a-z]+$")
    ttl: int = field("How long it lives.", default=300, gt=0, unit="s")
    rate: float = field("The share of something.", default=0.5, between=(0, 1))
    mode: str = field("One of two ways.", default="on", one_of=("on", "off"))
    flag: bool = field("Whether it is so.", default=False)
    tags: tuple[str, ...] = field("Some labels, at most two.", default=(), len_max=2)
    sizes: dict[str, int] = field("Sizes by their name.", default={})
    inner: Inner = field("A record inside.", default=Inner())
    secret: str = field("A key nobody may see.", default="", referenceable=True, len_max=4)
    limit: int | None = field("An upper limit, or none.", default=None)


def test_defaults_are_filled_in() -> None:
    assert parse(Sample, {"name": "abc"}) == Sample(name="abc")


def test_values_are_taken_over_in_their_types() -> None:
    got = parse(
        Sample,
        {
            "name": "abc",
            "ttl": 5.0,
            "rate": 1,
            "tags": ["x"],
            "sizes": {"a": 1},
            "inner": {"host": "h"},
            "limit": 7,
        },
    )
    assert got == Sample(
        name="abc", ttl=5, rate=1.0, tags=("x",), sizes={"a": 1}, inner=Inner(host="h"), limit=7
    )
    assert type(got.ttl) is int
    assert type(got.rate) is float


def test_what_kong_adds_is_ignored_and_its_empty_tables_fit_everywhere() -> None:
    got = parse(
        Sample, {"name": "abc", "__plugin_id": "x", "route_id": "y", "tags": {}, "sizes": [], "ttl": None}
    )
    assert got == Sample(name="abc")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "config.name: required"),
        ({"name": 3}, "config.name: must be a text, not a number"),
        ({"name": "a"}, "config.name: 1 characters, needs at least 2"),
        ({"name": "abcdef"}, "config.name: 6 characters, takes at most 5"),
        ({"name": "AB"}, "config.name: 'AB' does not match"),
        ({"name": "ab", "ttl": 0}, "config.ttl: 0 must be above 0 s"),
        ({"name": "ab", "ttl": 1.5}, "config.ttl: must be a whole number"),
        ({"name": "ab", "ttl": True}, "config.ttl: must be a number"),
        ({"name": "ab", "ttl": float("inf")}, "config.ttl: must be a finite number"),
        ({"name": "ab", "ttl": 10**400}, "config.ttl: must be a finite number"),
        ({"name": "ab", "rate": 10**400}, "config.rate: must be a finite number"),
        ({"name": "ab", "rate": 1.1}, "config.rate: 1.1 is outside 0 to 1"),
        ({"name": "ab", "mode": "maybe"}, "config.mode: 'maybe' is not one of on, off"),
        ({"name": "ab", "flag": "yes"}, "config.flag: must be true or false"),
        ({"name": "ab", "tags": "x"}, "config.tags: must be a list"),
        ({"name": "ab", "tags": ["a", "b", "c"]}, "config.tags: 3 entries, takes at most 2"),
        ({"name": "ab", "tags": [1]}, r"config.tags\[0\]: must be a text"),
        ({"name": "ab", "sizes": {"a": "x"}}, "config.sizes.a: must be a number"),
        ({"name": "ab", "sizes": "x"}, "config.sizes: must be a mapping"),
        ({"name": "ab", "inner": {"host": ""}}, "config.inner.host: 0 characters"),
        ({"name": "ab", "inner": 3}, "config.inner: must be a mapping"),
    ],
)
def test_a_bad_value_is_refused_by_field_and_problem(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(Sample, values)


def test_an_unknown_field_is_an_error_where_an_operator_wrote_it() -> None:
    with pytest.raises(ConfigError, match=r"cache.tll: unknown field; known are name, ttl"):
        parse(Sample, {"name": "abc", "tll": 3}, where="cache", strict=True)


def test_an_unknown_fields_name_is_short_and_can_be_written_anywhere() -> None:
    with pytest.raises(ConfigError) as raised:
        parse(Sample, {"name": "ab", "\ud800" + "x" * 10_000: 1}, strict=True)
    assert len(str(raised.value).encode("ascii")) < 400


def test_a_secret_shows_in_no_message_and_no_repr() -> None:
    with pytest.raises(ConfigError) as refused:
        parse(Sample, {"name": "abc", "secret": "hunter2"})
    assert "hunter2" not in str(refused.value)
    assert "abcd" not in repr(parse(Sample, {"name": "abc", "secret": "abcd"}))


def test_kong_limits_descriptions() -> None:
    with pytest.raises(ConfigError, match="10 to 500"):
        field("short")


def test_the_fields_of_a_class_are_in_order_with_their_shapes() -> None:
    assert list(fields_of(Sample))[:2] == ["name", "ttl"]
    ttl, limit = fields_of(Sample)["ttl"], fields_of(Sample)["limit"]
    assert (ttl.spec.unit, ttl.default, ttl.optional, ttl.required) == ("s", 300, False, False)
    assert ttl.shape == Scalar(int, ttl.spec)
    assert (limit.shape, limit.optional) == (Scalar(int, limit.spec), True)
    assert fields_of(Sample)["name"].required
    assert fields_of(Sample)["inner"].shape == Record(Inner)
    tags = fields_of(Sample)["tags"]
    assert isinstance(tags.shape, Many)
    assert (tags.shape.spec.len_max, tags.shape.element) == (2, Scalar(str, replace(tags.spec, len_max=None)))


def test_what_holds_between_fields_is_checked_where_it_stands() -> None:
    values = {"encryption_key": "k" * 16, "redis": {"host": "h", "cluster_nodes": [{"ip": "a"}]}}
    with pytest.raises(ConfigError, match=r"^config\.redis\.host: cluster_nodes is given, too"):
        parse(CacheConfig, values)
    values["redis"] = {"host": "127.0.0.1", "port": 6379, "cluster_nodes": [{"ip": "a"}]}  # Kong's defaults
    assert parse(CacheConfig, values).redis.cluster_nodes == (ClusterNode(ip="a"),)
    values["redis"] = {"cluster_nodes": {}}  # an empty list, as Kong writes it
    assert parse(CacheConfig, values).redis.cluster_nodes == ()
