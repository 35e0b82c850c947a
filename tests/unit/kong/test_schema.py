"""Kong's schema from a configuration class: only what Kong's metaschema allows."""

from __future__ import annotations

from typing import Any, Final

from tenantgate.fields import config_class, field
from tenantgate.kong import kong_fields

# kong/db/schema/metaschema.lua at 3.9.3: which attribute goes with which type.
TYPES: Final = {"string", "number", "integer", "boolean", "array", "set", "map", "record"}
ANYWHERE: Final = {"type", "required", "default", "description"}
BY_TYPE: Final[dict[str, set[str]]] = {
    "string": {"one_of", "match", "referenceable", "len_min", "len_max"},
    "integer": {"between", "gt", "one_of"},
    "number": {"between", "gt", "one_of"},
    "boolean": set(),
    "array": {"elements", "len_min", "len_max"},
    "set": {"elements", "len_min", "len_max"},
    "map": {"keys", "values"},
    "record": {"fields"},
}


@config_class
class Inner:
    name: str = field("A name of something.", len_min=1, len_max=10)
    weight: float = field("A weight of something.", default=0.5, between=(0, 1))


@config_class
class Config:
    url: str = field("Where the thing is.", match="^redis", lua_match="^redis", default="redis://x")
    secret: str | None = field("A secret of the thing.", default=None, referenceable=True)
    level: str = field("How much of it.", one_of=("low", "high"), default="low")
    ttl: int = field("How long it stays.", default=300, gt=0, unit="s")
    on: bool = field("Whether it is on.", default=False)
    names: tuple[str, ...] = field("Names of things.", default=("a",), len_max=5)
    kinds: frozenset[str] = field("Kinds of things.", default=frozenset())
    weights: dict[str, float] = field("Weights by name.", default={})
    rules: tuple[Inner, ...] = field("Rules for things.", default=())
    inner: Inner = field("A thing of its own.", default=Inner(name="x"))
    needed: str = field("What can't be left out.")


def walk(fields: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for entry in fields:
        ((_, spec),) = entry.items()
        found.append(spec)
        stack = [spec]
        while stack:
            spec = stack.pop()
            for key in ("elements", "values", "keys"):
                if key in spec:
                    stack.append(spec[key])
                    found.append(spec[key])
            if "fields" in spec:
                found += walk(spec["fields"])
    return found


def test_every_attribute_is_one_that_kong_allows() -> None:
    for spec in walk(kong_fields(Config)):
        assert spec["type"] in TYPES
        assert set(spec) <= ANYWHERE | BY_TYPE[spec["type"]], spec
        assert 10 <= len(spec.get("description", "ten letters")) <= 500


def test_fields() -> None:
    found = {name: spec for entry in kong_fields(Config) for name, spec in entry.items()}
    for spec in found.values():
        spec.pop("description")
    name = {"type": "string", "len_min": 1, "len_max": 10, "required": True}
    weight = {"type": "number", "between": [0, 1], "required": True, "default": 0.5}
    inner = [
        {"name": name | {"description": "A name of something."}},
        {"weight": weight | {"description": "A weight of something."}},
    ]
    assert found == {
        "url": {"type": "string", "match": "^redis", "required": True, "default": "redis://x"},
        "secret": {"type": "string", "referenceable": True},
        "level": {"type": "string", "one_of": ["low", "high"], "required": True, "default": "low"},
        "ttl": {"type": "integer", "gt": 0, "required": True, "default": 300},
        "on": {"type": "boolean", "required": True, "default": False},
        "names": {
            "type": "array",
            "elements": {"type": "string"},
            "len_max": 5,
            "required": True,
            "default": ["a"],
        },
        "kinds": {"type": "set", "elements": {"type": "string"}},
        "weights": {"type": "map", "keys": {"type": "string"}, "values": {"type": "number"}},
        "rules": {"type": "array", "elements": {"type": "record", "fields": inner}},
        "inner": {"type": "record", "fields": inner, "required": True},
        "needed": {"type": "string", "required": True},
    }
