from __future__ import annotations

import re
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder
from lupa import luajit21

from tenantgate import __version__
from tenantgate.lua_files import script

from support import ROOT

PACKAGE = ROOT / "src" / "tenantgate"
FILES = sorted(p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.lua"))
REDIS = "redis_scripts"
"""Name of the folders of scripts for Redis, whose texts are sent as they are."""
HOST = Path("devhost/kong_lua")
"""The embedded host's own."""
RENDERED = [p for p in FILES if p.parent.name != REDIS and p.parent != HOST]


@pytest.mark.parametrize("path", FILES, ids=str)
def test_each_lua_file_is_lua(path: Path) -> None:
    luajit21.LuaRuntime(encoding=None).compile((PACKAGE / path).read_bytes())


def test_each_lua_file_is_in_the_wheel() -> None:
    packed = {f.distribution_path for f in WheelBuilder(str(ROOT)).recurse_included_files()}
    assert {f"tenantgate/{path}" for path in FILES} <= packed


@pytest.mark.parametrize("path", RENDERED, ids=str)
def test_a_text_on_one_line_is_the_same_lua(path: Path) -> None:
    """Nothing follows code on its line, and no text goes over lines."""
    text = script(path.parts[0], path.stem)
    runtime = luajit21.LuaRuntime(encoding=None)
    assert "\n" not in text
    assert "--" not in text
    dumped = runtime.eval(b"function(code) return string.dump(assert(loadstring(code, '=x')), true) end")
    assert dumped(text.encode()) == dumped((PACKAGE / path).read_bytes())


@pytest.mark.parametrize("path", RENDERED, ids=str)
def test_each_file_says_in_its_first_line_where_it_runs(path: Path) -> None:
    first = (PACKAGE / path).read_text("utf-8").splitlines()[0]
    assert first.startswith(("-- pre-function, ", "-- post-function, ", "-- custom_fields_by_lua: "))


def test_words_are_filled_in_everywhere() -> None:
    assert script("guard", "refuse_unchecked", UNCHECKED="{}").count("'{}'") == 1
    with pytest.raises(ValueError, match=r"guard/lua/refuse_unchecked.lua: has no NOTHING"):
        script("guard", "refuse_unchecked", NOTHING="x")


def test_each_text_is_rendered_somewhere() -> None:
    """A file that nobody reads is left over."""
    source = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("scripts.py"))
    assert [p for p in RENDERED if f'"{p.parts[0]}", "{p.stem}"' not in source] == []


def test_lua_plugins_have_the_packages_version() -> None:
    found = {
        path.name: re.findall(r'VERSION = "([^"]+)"', path.read_text(encoding="utf-8"))
        for path in [
            *(ROOT / "plugins/kong/plugins").glob("*/handler.lua"),
            ROOT / "plugins/kong/vaults/file.lua",
        ]
    }
    assert set(map(tuple, found.values())) == {(__version__,)}
