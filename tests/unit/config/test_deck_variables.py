from __future__ import annotations

import pytest
import yaml

from tenantgate.config import deck_variables as placeholders
from tenantgate.errors import ConfigError

TEXT = """# top
keys:
  - '${{ env "DECK_A" }}'
  - 'Bearer ${{ env "DECK_A" }}'
  - '${{env "DECK_B"}}'
vault: '{vault://env/acme-openai-key}'
"""


def test_names() -> None:
    assert placeholders.names(TEXT) == ["DECK_A", "DECK_B"]
    assert placeholders.vault_names(TEXT) == ["ACME_OPENAI_KEY"]


@pytest.mark.parametrize(
    "value", ["plain", "12345", "yes", "it's", 'a"b', "a:b#c", "{x}", "${{", "ключ", "null"]
)
def test_any_value_arrives_as_it_is(value: str) -> None:
    tree = yaml.safe_load(TEXT)
    assert placeholders.names_in(tree) == {"DECK_A", "DECK_B"}
    resolved = placeholders.resolve_tree(tree, {"DECK_A": value, "DECK_B": "b-key"})
    assert resolved["keys"] == [value, f"Bearer {value}", "b-key"]


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({}, "no DECK_A, DECK_B"),
        ({"DECK_A": "x", "DECK_B": ""}, "no DECK_B"),
        ({"DECK_A": "seen", "DECK_B": "seen too"}, "white space or control characters in DECK_B"),
        ({"DECK_A": "seen", "DECK_B": "seen\n"}, "white space or control characters in DECK_B"),
        ({"DECK_A": "seen", "DECK_B": "seen"}, "DECK_A and DECK_B hold the same value"),
    ],
)
def test_what_is_missing_is_named_and_no_value_is(environ: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        placeholders.resolve_tree(yaml.safe_load(TEXT), environ)
    assert "seen" not in str(caught.value)
