"""What the Lua plugins use of Kong's inner modules is listed, each with a test, on the page about Kong."""

from __future__ import annotations

import re

from support import ROOT

PAGE = (ROOT / "docs" / "kong-facts.md").read_text("utf-8")
LISTED = PAGE.partition("## What the Lua plugins use of Kong\n")[2].partition("\n## ")[0]
SOURCES = {
    path: re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
    for path in sorted((ROOT / "plugins" / "kong").rglob("*.lua"))
}
FREE = {"kong.db.schema.typedefs", "resty.lrucache", "resty.random", "resty.string"}
"""For plugins of anybody's: documented by Kong or OpenResty."""


def used_modules() -> set[str]:
    found = set()
    for text in SOURCES.values():
        for name in re.findall(r"""\brequire[ (]+["']((?:kong|resty)\.[\w.-]+)["']""", text):
            found.add("kong.llm.drivers.NAME" if name == "kong.llm.drivers." else name)
        found |= {
            f"kong.service.{name}" for name in re.findall(r"kong\.service\.(set_target_retry\w+)", text)
        }
    return {n for n in found if not n.startswith(("kong.plugins.tenantgate-", "kong.vaults.file"))} - FREE


def used_fields() -> set[str]:
    """Fields of ``ngx.ctx`` that are Kong's."""
    found = set()
    for text in SOURCES.values():
        holders = {"ngx.ctx"} | ({"ctx"} if re.search(r"\blocal ctx\b[^\n]*= ngx\.ctx", text) else set())
        for holder in holders:
            found |= set(re.findall(rf"(?<![\w.]){re.escape(holder)}\.(\w+)", text))
    return {name for name in found if not name.startswith("tenantgate_")}


def test_the_plugins_use_nothing_of_kongs_inside_that_the_page_hasnt() -> None:
    named = set(re.findall(r"`((?:kong|resty)\.[\w.-]+)`", LISTED))
    assert used_modules() == named
    assert used_fields() == set(re.findall(r"`ngx\.ctx\.(\w+)", LISTED))


def test_each_entry_names_a_test_that_asks_a_real_kong() -> None:
    rows = [line for line in LISTED.splitlines() if line.startswith("| `")]
    assert len(rows) >= 12
    for row in rows:
        assert re.search(r"`e2e/\w+\.py::test_\w+`", row.rpartition(" | ")[2]), row
