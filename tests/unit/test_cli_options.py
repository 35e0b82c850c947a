"""Every option of every command reaches the code that the command runs.

For each command the functions that its handler can reach within its module are read, and with them which attributes of
``args`` they use: an option that none of them uses changes nothing.
"""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Iterator
from functools import cache
from types import ModuleType

import pytest

from tenantgate import cli
from tenantgate.guard import commands as guard_commands

HOLDERS = {"args", "_args"}


def commands(
    parser: argparse.ArgumentParser, path: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    groups = [a for a in parser._actions if isinstance(a, argparse._SubParsersAction)]
    for group in groups:
        for name, inner in group.choices.items():
            if isinstance(inner, cli.CommandParser):
                inner.complete()
            yield from commands(inner, f"{path} {name}".strip())
    if not groups:
        yield path, parser


@cache
def parts(module: ModuleType) -> dict[str, tuple[frozenset[str], frozenset[str]]]:
    """By function or class of a module: the names that it mentions, and the attributes of ``args`` that it uses."""
    return {
        node.name: (frozenset(_names(node)), frozenset(_used(node)))
        for node in ast.parse(inspect.getsource(module)).body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def _names(node: ast.AST) -> Iterator[str]:
    yield from (n.id for n in ast.walk(node) if isinstance(n, ast.Name))


def _used(node: ast.AST) -> Iterator[str]:
    for n in ast.walk(node):
        if isinstance(n, ast.Constant) and isinstance(n.value, str):
            yield n.value  # a name for getattr, in a table
        elif isinstance(n, ast.Attribute) and _is_holder(n.value):
            yield n.attr


def _is_holder(node: ast.AST) -> bool:
    return (isinstance(node, ast.Name) and node.id in HOLDERS) or (
        isinstance(node, ast.Attribute) and node.attr in HOLDERS
    )


def used_by(module: ModuleType, handler: str) -> set[str]:
    """The attributes of ``args`` that `handler` and what it reaches use."""
    known, seen, waiting = parts(module), set(), [handler]
    used: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in known and name not in seen:
            seen.add(name)
            mentioned, attributes = known[name]
            used |= attributes
            waiting += mentioned
    return used


@pytest.mark.parametrize(("path", "parser"), list(commands(cli.build_parser())), ids=lambda v: str(v)[:30])
def test_each_option_of_a_command_is_used_by_what_it_runs(path: str, parser: argparse.ArgumentParser) -> None:
    handler = parser.get_default("func")
    module = inspect.getmodule(handler)
    assert module is not None
    used = used_by(module, handler.__name__)
    options = {a.dest for a in parser._actions if a.dest != "help"}
    assert options - used == set()


def test_an_option_that_is_not_reached_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(parts(guard_commands))
    names, used = known["_report"]
    known["_report"] = (names - {"_examples"}, used)
    monkeypatch.setitem(used_by.__globals__, "parts", lambda _module: known)
    assert "key_env" not in used_by(guard_commands, "_report")
