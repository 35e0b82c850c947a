from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.config import yaml_nodes

from support import ROOT


def told(node: Any) -> Any:
    """All that the loader reads of a node."""
    if isinstance(node, yaml.ScalarNode):
        return node.tag, node.value, node.style or None, node.start_mark.line
    if isinstance(node, yaml.MappingNode):
        return node.tag, node.start_mark.line, [(told(k), told(v)) for k, v in node.value]
    return node.tag, node.start_mark.line, [told(child) for child in node.value]


def ours(text: str) -> Any:
    node = yaml_nodes.compose(text)
    return node and told(node)


def theirs(text: str) -> Any:
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    return node and told(node)


@pytest.mark.parametrize("name", ["tenants.yaml", "examples/demo.yaml", "tests/e2e/tenants.yaml"])
def test_files_are_read_as_pyyaml_reads_them(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert ours(text) == theirs(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing",
        "a",
        "- a\n- {b: c}",
        "{}",
        "a: [1, 0600, 1.5, yes, ~, '1', \"2\", 2024-01-01, <<]",
        "a: !!str 1\nb: !x {c: d}\nd: ! 5",
        "a: |\n  two\n  lines\nb: >\n  one\n  line",
        "a: &x {b: [1]}\nc: [*x, *x]\nd: *x",
        "a: &x [1]\nc: *x",
        "&r {a: 1}",
        "? [1, 2]\n: 3",
        "a: é 🦊",
        "---\na: 1\n...\n",
    ],
)
def test_all_of_yaml_is_read_as_pyyaml_reads_it(text: str) -> None:
    assert ours(text) == theirs(text)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("ab-: #", max_size=5), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_what_pyyaml_writes_is_read_as_pyyaml_reads_it(value: Any, flow: bool) -> None:
    text = yaml.safe_dump(value, default_flow_style=flow, allow_unicode=True)
    assert ours(text) == theirs(text)


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ("a: 1\n---\nb: 2", 2, "another document"),
        ("- 1\n---\n- 2", 2, "another document"),
        ("a: 1\nb: *x", 2, "undefined alias 'x'"),
        ("a: &x 1\nb: &x 2", 2, "duplicate anchor 'x'"),
        ("a: [", 2, "did not find expected node content"),
        ("a:\n  - b\n c: 1", 3, "did not find expected key"),
        ("[" * 100_000, 1, "nested too deeply"),
        ("a: " + "{a: " * 100_000, 1, "nested too deeply"),
    ],
)
def test_what_is_not_yaml_is_refused_with_its_line(text: str, line: int, problem: str) -> None:
    with pytest.raises(yaml.MarkedYAMLError) as caught:
        ours(text)
    assert caught.value.problem_mark is not None
    assert caught.value.problem_mark.line + 1 == line
    assert problem in str(caught.value.problem)


def test_aliases_that_stand_for_more_than_a_file_can_hold_are_refused() -> None:
    levels = "".join(f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 10)}]\n" for i in range(1, 30))
    root = yaml_nodes.compose(f"l0: &l0 [1, 2]\n{levels}")
    assert root is not None
    with pytest.raises(
        yaml.MarkedYAMLError, match="too many values"
    ):  # and nothing is made of what they stand for
        list(root.value)


def test_a_list_that_nobody_reads_is_passed_over() -> None:
    root = yaml_nodes.compose("a: [1, [2, 3], {b: 4}]\nc: [5, 6]\nd: 7")
    assert root is not None
    pairs = iter(root.value)
    assert next(pairs)[0].value == "a"
    key, value = next(pairs)
    assert (key.value, next(iter(value.value)).value) == ("c", "5")
    key, value = next(pairs)
    assert (key.value, value.value) == ("d", "7")
    assert list(pairs) == []
