"""An operator's own model."""

from __future__ import annotations

import sys

import pytest

from tenantgate.errors import ConfigError
from tenantgate.models.sentence_transformers import SentenceTransformerEmbedder


def test_sentence_transformers_missing_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ConfigError, match=r"tenantgate\[sentence-transformers\]"):
        SentenceTransformerEmbedder("any")
