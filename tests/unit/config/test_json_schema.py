from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from tenantgate.config.json_schema import json_schema

from support import ROOT


def test_the_committed_schema_is_in_step() -> None:
    committed = (ROOT / "docs/tenants.schema.json").read_text(encoding="utf-8")
    assert committed == json_schema(), "run: tenantgate schema -o docs/tenants.schema.json"


@pytest.mark.parametrize("name", ["tenants.yaml", "examples/demo.yaml"])
def test_the_examples_use_only_what_the_schema_knows(name: str) -> None:
    schema = json.loads(json_schema())

    def check(value: Any, rule: dict[str, Any]) -> None:
        if "$ref" in rule:
            rule = schema["$defs"][rule["$ref"].rpartition("/")[2]]
        if isinstance(value, dict):
            assert set(rule.get("required", ())) <= value.keys() <= rule["properties"].keys()
            for key, child in value.items():
                check(child, rule["properties"][key])
        elif isinstance(value, list):
            for child in value:
                check(child, rule["items"])
        else:
            assert value in rule.get("enum", [value])

    check(yaml.safe_load((ROOT / name).read_text(encoding="utf-8")), schema)


def test_unknown_fields_are_marked_everywhere() -> None:
    schema = json.loads(json_schema())
    for rule in (schema, *schema["$defs"].values()):
        assert rule["additionalProperties"] is False
