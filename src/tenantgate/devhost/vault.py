"""Vault references: ``{vault://env/NAME}`` of the environment (`kong/vaults/env/init.lua`), ``{vault://file/NAME}``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tenantgate import secret_files

__all__ = ["VaultError", "files", "secret"]

_REFERENCE: Final = re.compile(r"\{vault://([^/}]+)/([^/}?]+)(/[^}?]+)?(\?[^}]*)?\}")


class VaultError(ValueError):
    """A reference that the host doesn't resolve; the text says why."""


def secret(reference: str, environ: Mapping[str, str], files: Path | None = None) -> str:
    """What a reference stands for. Of the environment a part after NAME, which looks into JSON, is refused.

    Args:
        reference: ``{vault://…}``.
        environ: of the gateway.
        files: the folder of the vault `file`; None: this vault isn't enabled.

    Raises:
        VaultError: it is none of this form, or there is nothing of this name.
    """
    if files is not None and (at := secret_files.parse(reference)):
        try:
            return secret_files.read(files, *at)
        except secret_files.SecretFileError as error:
            raise VaultError(f"{at[0]}: {error}") from None
    found = _REFERENCE.fullmatch(reference)
    if not found or found[1] != "env" or found[3] or found[4]:
        raise VaultError(
            "the embedded host resolves {vault://env/NAME}, and {vault://file/NAME} where `vaults` has it"
        )
    name = found[2].replace("-", "_").upper()
    if not (value := environ.get(name)):
        raise VaultError(f"the environment has no {name}")
    return value


def files(settings: Mapping[str, str]) -> Path | None:
    """The folder of the vault `file` by kong.conf's settings; None where it isn't among `vaults`."""
    enabled = {name.strip() for name in settings.get("vaults", "bundled").split(",")}
    return Path(settings.get(secret_files.SETTING) or secret_files.FOLDER) if "file" in enabled else None
