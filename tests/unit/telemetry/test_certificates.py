"""Certificates in files as metrics: names and times, and nothing of what lies beside them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import made
from tenantgate.telemetry import certificates, metrics

DAY_S = 86_400


@pytest.fixture(autouse=True)
def _nothing_after() -> Iterator[None]:
    yield
    certificates.show([])


def shown() -> dict[str, float]:
    lines = [line for line in metrics.exposition().splitlines() if line.startswith("tenantgate_certificate_")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def ends(path: Path, name: str) -> str:
    return f'tenantgate_certificate_expiration_timestamp_seconds{{file="{path}",name="{name}"}}'


def unreadable(path: Path) -> str:
    return f'tenantgate_certificate_unreadable{{file="{path}"}}'


def test_a_folder_of_secrets(tmp_path: Path) -> None:
    text, key = made("ai.example.com", days=30)
    issuer, _ = made("issuer.example.com", days=10)
    (tmp_path / "tls.crt").write_text(text)
    (tmp_path / "tls.key").write_text(key)
    (tmp_path / "both.pem").write_text(key + text + issuer)
    (tmp_path / "acme-openai").write_text("sk-of-a-provider")
    (tmp_path / "cut.pem").write_text(text[:200])
    (tmp_path / "..2026").mkdir()
    (tmp_path / "..2026" / "tls.crt").write_text(text)
    (tmp_path / ".tls.crt").write_text(text)
    certificates.show([tmp_path])
    found = shown()
    one, both = (ends(tmp_path / "tls.crt", "ai.example.com"), ends(tmp_path / "both.pem", "ai.example.com"))
    assert found.keys() == {one, both, unreadable(tmp_path / "cut.pem")}
    assert found[one] == pytest.approx(time.time() + 30 * DAY_S, abs=DAY_S)
    assert found[both] == pytest.approx(time.time() + 10 * DAY_S, abs=DAY_S)  # whichever ends first
    assert not [line for line in metrics.exposition().splitlines() if "sk-of" in line]


def test_what_changes_is_shown_and_what_goes_isn_t(tmp_path: Path) -> None:
    file = tmp_path / "ai.pem"
    for days in (3, 40):
        file.write_text(made("ai.example.com", days=days)[0])
        certificates.show([file])
        assert shown()[ends(file, "ai.example.com")] == pytest.approx(time.time() + days * DAY_S, abs=DAY_S)
    file.write_text(made("other.example.com")[0])
    certificates.show([file])
    assert shown().keys() == {ends(file, "other.example.com")}
    file.unlink()
    certificates.show([file])
    assert not shown()


@pytest.mark.parametrize("text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_a_file_that_is_named_must_have_one(tmp_path: Path, text: str) -> None:
    file = tmp_path / "clients.pem"
    file.write_text(text)
    certificates.show([file])
    assert shown() == {unreadable(file): 1}
