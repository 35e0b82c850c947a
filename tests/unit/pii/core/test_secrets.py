"""Secrets: each rule finds its examples whole and exactly, and none of its counter-examples."""

from __future__ import annotations

import random
import re
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tenantgate.pii.core import SECRET_KINDS, find_secrets
from tenantgate.pii.core.secret_rules import names, rules

CLASSES = {
    "alnum": string.ascii_letters + string.digits,
    "upper": string.ascii_uppercase + string.digits,
    "lower": string.ascii_lowercase + string.digits,
    "hex": string.digits + "abcdef",
    "digits": string.digits,
    "url": string.ascii_letters + string.digits + "_-",
}
MADE_UP = re.compile(r"⟨(\w+) (\d+)⟩")
AROUND = (
    "{}",
    "Why does {} not work?",
    "Here is my config:\n{}\nPlease fix it.",
    "curl -H 'X: {}' https://example.com",
    "k='{}'",
    '{{"k": "{}"}}',
    "- {}\n",
    "({}), ",
)


def filled(example: str, seed: int) -> str:
    """The example with made-up characters, the same for the same seed; ends in letters and digits."""
    source = random.Random(f"{example}{seed}")

    def some(found: re.Match[str]) -> str:
        alphabet, size = CLASSES[found[1]], int(found[2])
        made = "".join(source.choice(alphabet) for _ in range(size))
        ends = alphabet.replace("_", "").replace("-", "")
        fixed = "4f7a" if found[1] == "hex" else "4271" if found[1] == "digits" else ""
        made = source.choice(ends) + made[1:-1] + source.choice(ends) if size > 1 else made
        return (fixed + made[len(fixed) :])[:size] if size > 8 else made

    return MADE_UP.sub(some, example)


def texts(part: str) -> list[tuple[str, str]]:
    return [(row["kind"], text) for row in (*rules(), *names()) for text in row[part]]


@pytest.mark.parametrize(("kind", "example"), texts("examples"))
def test_each_example_is_found_whole_and_exactly(kind: str, example: str) -> None:
    for seed in range(4):
        marked = filled(example, seed)
        text = marked.replace("«", "").replace("»", "")
        start, end = marked.index("«"), marked.rindex("»") - 1
        found = [(f.start, f.end) for f in find_secrets(text)]
        assert (start, end) in found, (text, [(f.kind, text[f.start : f.end]) for f in find_secrets(text)])


@pytest.mark.parametrize(("kind", "text"), texts("counter"))
def test_no_counter_example_is_found(kind: str, text: str) -> None:
    assert [(f.kind, text[f.start : f.end]) for f in find_secrets(text)] == []


def alone() -> list[tuple[str, str]]:
    """Examples that are a key and nothing else."""
    return [(k, e) for k, e in texts("examples") if e.startswith("«") and e.endswith("»") and "⟨" in e]


@pytest.mark.parametrize(("kind", "example"), alone())
def test_keys_are_found_wherever_they_stand(kind: str, example: str) -> None:
    assert kind in SECRET_KINDS
    for n, around in enumerate(AROUND):
        key = filled(example[1:-1], n)
        text = around.format(key)
        found = [text[f.start : f.end] for f in find_secrets(text)]
        assert any(key in part for part in found), (text, found)


@given(st.text(alphabet=st.sampled_from("aZ1 =:\"'\n-_$<>{}.@/password token key is"), max_size=120))
def test_findings_are_in_order_apart_and_in_the_text(text: str) -> None:
    at = 0
    for found in find_secrets(text):
        assert at <= found.start < found.end <= len(text)
        assert found.kind in SECRET_KINDS
        at = found.end


@pytest.mark.parametrize(
    "before", ["aws_secret_access_key = ", "AWS_SECRET_ACCESS_KEY=", "the aws secret is "]
)
def test_the_secret_of_an_aws_key_is_told_by_the_word_nearby(before: str) -> None:
    value = filled("⟨alnum 20⟩/⟨alnum 19⟩", 1)
    text = f"{before}{value} and so on"
    assert [text[f.start : f.end] for f in find_secrets(text)] == [value]
    assert find_secrets(f"the path {value} and so on") == ()
    assert "AWS_SECRET_KEY" in SECRET_KINDS


def test_keys_that_documentation_shows_count() -> None:
    text = "export AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE"
    assert [(f.kind, text[f.start : f.end]) for f in find_secrets(text)] == [
        ("AWS_ACCESS_KEY", "AKIAIOSFODNN7EXAMPLE")
    ]
