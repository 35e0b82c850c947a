"""Vault references: ``{vault://env/NAME}`` reads the environment (`kong/vaults/env/init.lua`)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["VaultError", "secret"]

_REFERENCE: Final = re.compile(r"\{vault://([^/}]+)/([^/}?]+)(/[^}?]+)?(\?[^}]*)?\}")


class VaultError(ValueError):
    """A reference that the host doesn't resolve; the text says why."""


def secret(reference: str, environ: Mapping[str, str]) -> str:
    """What a reference stands for. A part after NAME, which looks into JSON, is refused.

    Raises:
        VaultError: it is none of this form, or the environment has nothing of this name.
    """
    found = _REFERENCE.fullmatch(reference)
    if not found or found[1] != "env" or found[3] or found[4]:
        raise VaultError("the embedded host resolves {vault://env/NAME} only")
    name = found[2].replace("-", "_").upper()
    if not (value := environ.get(name)):
        raise VaultError(f"the environment has no {name}")
    return value
