"""Trained data that ships with the package: its folder, and the check of each file by its hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from tenantgate.errors import EdgeError

__all__ = ["SHA256SUMS", "SHIPPED", "check", "sha256_of"]

SHIPPED: Final = Path(__file__).resolve().parent / "data"

SHA256SUMS: Final = SHIPPED / "SHA256SUMS"
"""A line for each data file, as ``sha256sum`` writes them; ``training/checksums.py`` does."""


def sha256_of(file: Path) -> str:
    """The file's hash, in hexadecimal digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def check(path: Path, digest: str | None = None) -> None:
    """Whether a file in `SHIPPED` is the one that was released; files elsewhere are their owner's.

    For who loads or builds a model from it, not for a request. `digest` is the file's SHA-256, if known.

    Raises:
        EdgeError: it isn't, or can't be read; names the file.
    """
    if path.parent != SHIPPED:
        return
    try:
        sums = SHA256SUMS.read_text("ascii").splitlines()
        genuine = f"{digest or sha256_of(path)}  {path.name}" in sums
    except (OSError, ValueError) as error:
        raise EdgeError(f"models: {path}: can't be checked ({type(error).__name__})") from None
    if not genuine:
        raise EdgeError(f"models: {path} isn't the file that was released: its SHA-256 differs")
