"""The detector `presidio`. Skipped where the extra isn't installed: ``pip install 'tenantgate[presidio]'``."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.errors import ConfigError, TenantgateError
from tenantgate.fields import check
from tenantgate.guard.config import GuardConfig, RuleConfig
from tenantgate.guard.core.detectors import detector
from tenantgate.guard.models import SharedParts
from tenantgate.guard.presidio import PresidioFinder

RECOGNIZERS = r"""
recognizers:
  - name: Badge
    supported_language: en
    supported_entity: "Employee badge"
    patterns:
      - {name: badge, regex: "\\bBX-[0-9]{4}\\b", score: 0.3}
    context: [badge]
  - name: Titles
    supported_language: en
    supported_entity: TITLE
    deny_list: [Prof., Rev.]
  - name: EmailRecognizer
    type: predefined
    supported_languages: [en]
"""


@pytest.fixture(scope="module")
def installed() -> None:
    pytest.importorskip("presidio_analyzer", reason="needs the extra presidio")


@pytest.fixture(scope="module")
def file(installed: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("presidio") / "recognizers.yaml"
    path.write_text(RECOGNIZERS, "utf-8")
    return str(path)


@pytest.mark.filterwarnings("ignore")
def test_recognisers_of_a_file_are_found_with_their_context(file: str) -> None:
    rule = RuleConfig(name="own", detector="presidio", recognizers=file)
    parts = SharedParts()
    with pytest.raises(TenantgateError, match="loading"):
        parts.presidio(rule)
    for thread in list(parts.builds.building.values()):
        thread.join()
    find = detector(rule, parts)
    text = "Prof. Nina, my badge is BX-1234, mail nina@example.com"
    found = {f.kind: (text[f.start : f.end], f.score) for f in find(text)}
    assert found["TITLE"][0] == "Prof."
    assert found["EMAIL_ADDRESS"][0] == "nina@example.com"
    assert found["EMPLOYEE_BADGE"][0] == "BX-1234"
    assert found["EMPLOYEE_BADGE"][1] > 0.3  # "badge" beside it counts
    (alone,) = find("see BX-1234")
    assert alone.score == pytest.approx(0.3)


@pytest.mark.filterwarnings("ignore")
def test_only_the_entities_asked_for(file: str) -> None:
    finder = PresidioFinder(file, "en", ("TITLE",))
    assert [f.kind for f in finder.find("Rev. Nina, nina@example.com")] == ["TITLE"]
    long = "word " * 5000 + "Rev. Nina"
    (found,) = finder.find(long)
    assert long[found.start : found.end] == "Rev."


@pytest.mark.filterwarnings("ignore")
def test_what_can_t_be_loaded_is_said_without_the_file_s_text(file: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recognizer for en finds NO_SUCH"):
        PresidioFinder(file, "en", ("NO_SUCH",))
    with pytest.raises(TenantgateError, match="can't be read"):
        PresidioFinder(str(tmp_path / "none.yaml"), "en", ())
    broken = tmp_path / "broken.yaml"
    broken.write_text("recognizers: [{name: secret-name, patterns: 7}]", "utf-8")
    with pytest.raises(TenantgateError) as caught:
        PresidioFinder(str(broken), "en", ())
    assert "secret-name" not in str(caught.value)


def test_its_fields_are_its_own() -> None:
    with pytest.raises(ConfigError, match="presidio alone"):
        check(GuardConfig(rules=(RuleConfig(name="p", detector="personal_data", entities=("PERSON",)),)))
    rule = RuleConfig(name="p", detector="presidio", entities=("PERSON",), mode="mask")
    check(GuardConfig(rules=(rule,)))
