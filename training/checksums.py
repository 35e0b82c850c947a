"""Writes the hashes that the shipped data is checked by: ``python training/checksums.py``, after any training."""

from __future__ import annotations

from tenantgate.models.shipped import SHA256SUMS, SHIPPED, sha256_of

__all__ = ["current"]

NOT_DATA = {SHA256SUMS.name, "README.md"}


def current() -> str:
    """What `SHA256SUMS` has to say of the files as they are."""
    files = sorted(path for path in SHIPPED.iterdir() if path.is_file() and path.name not in NOT_DATA)
    return "".join(f"{sha256_of(path)}  {path.name}\n" for path in files)


if __name__ == "__main__":
    SHA256SUMS.write_text(current(), "ascii")
