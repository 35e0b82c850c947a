"""What stands beside a value without a blank: emphasis, a name with an underscore, scripts that write without spaces."""

from __future__ import annotations

import itertools

import pytest

from tenantgate.pii.core import find_personal, find_secrets

AROUND = ["_{}_", "**_{}_**", "__{}__", "*{}*", "中{}文", "的{}、", "カ{}", "é {}é", "|{}|", "({}),"]
BEFORE = [*AROUND, "token_{}", "my_old_{}"]
SECRETS = [
    "ghp_" + "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8",
    "AKIA" + "IOSFODNN7EXAMPLE",
    "glpat-" + "abcdEFGH1234ijklMNOP",
    "AIza" + "SyA1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q",
]
NUMBERS = ["4111111111111111", "4111 1111 1111 1111", "078-05-1120"]
PERSONAL = ["DE89370400440532013000", "203.0.113.77", "00:1B:44:11:3A:B7", "nina@example.com"]


@pytest.mark.parametrize(("around", "secret"), [*itertools.product(BEFORE, SECRETS)])
def test_a_credential_is_found_whatever_stands_beside_it(around: str, secret: str) -> None:
    text = around.format(secret)
    assert any(secret in text[f.start : f.end] for f in find_secrets(text))


@pytest.mark.parametrize(
    ("around", "value"), [*itertools.product(BEFORE, NUMBERS), *itertools.product(AROUND, PERSONAL)]
)
def test_a_value_is_found_whatever_stands_beside_it(around: str, value: str) -> None:
    text = around.format(value)
    covered = {i for f in find_personal(text) for i in range(f.start, f.end)}
    at = text.index(value)
    assert covered.issuperset(range(at, at + len(value)))


@pytest.mark.parametrize(
    "text", ["app_1.2.3.4_amd64.deb", "release_10.2.0.1", "a_00:1B:44:11:3A:B7", "img_20240131_101530"]
)
def test_parts_of_file_names_are_no_addresses(text: str) -> None:
    assert list(find_personal(text)) == []
