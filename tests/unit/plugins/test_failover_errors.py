"""Errors of the plugin's own are worded as everywhere else."""

from __future__ import annotations

import json
import re

from tenantgate.kong.policy import UNAVAILABLE
from tenantgate.llm.errors import BY_STATUS, OTHER_STATUS, Code
from tenantgate.paths import plugins_dir

FOLDER = plugins_dir() / "kong" / "plugins" / "tenantgate-failover"
HOP = (FOLDER / "hop.lua").read_text(encoding="utf-8")
REQUEST = (FOLDER / "request.lua").read_text(encoding="utf-8")


def test_errors_of_the_hop() -> None:
    found = re.findall(r'\[(\d+)\] = \{"([^"]+)", "([^"]+)", "([^"]+)"\}', HOP)
    assert {int(status) for status, *_ in found} == {429, 502, 503, 504}
    assert all(tuple(BY_STATUS[int(status)]) == (text, kind, code) for status, text, kind, code in found)
    assert f'OTHER = {{"{OTHER_STATUS.message}", "{OTHER_STATUS.kind}", "{OTHER_STATUS.code}"}}' in HOP


def bodies() -> list[dict[str, str]]:
    """The error objects in request.lua, whose texts go over lines."""
    joined = re.sub(r"' \.\.\s*'", "", REQUEST)
    return [json.loads(text)["error"] for text in re.findall(r"'(?:data: )?(\{\"error\".*?\}\})", joined)]


def test_errors_of_the_plugin() -> None:
    found = bodies()
    assert json.loads(UNAVAILABLE[1])["error"] in found
    assert len(found) > 1
    for error in found:
        assert {*error} == {"message", "type", "param", "code"}
        assert Code(error["code"])
