"""Vault references on the embedded host."""

from __future__ import annotations

from pathlib import Path

import pytest

from tenantgate.devhost import vault


def test_files_are_read_where_kong_conf_enables_them(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk-1\n")
    settings = {"vaults": "bundled, file", "vault_file_prefix": str(tmp_path)}
    assert vault.secret("{vault://file/key}", {}, vault.files(settings)) == "sk-1"
    with pytest.raises(vault.VaultError, match="other: there is no such file"):
        vault.secret("{vault://file/other}", {}, vault.files(settings))
    assert vault.files({"vaults": "bundled"}) is None
    with pytest.raises(vault.VaultError, match="where `vaults` has it"):
        vault.secret("{vault://file/key}", {}, None)
