"""Secrets in files: ``{vault://file/NAME}``, as the vault in `plugins/kong/vaults/file.lua` reads them.

For commands and the embedded host; a test holds both to the same answers.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

__all__ = ["FOLDER", "MAX_BYTES", "SETTING", "SecretFileError", "folder", "names", "parse", "read"]

FOLDER: Final = "/etc/tenantgate/secrets"
SETTING: Final = "vault_file_prefix"
"""Of kong.conf: the folder; in the environment ``KONG_VAULT_FILE_PREFIX``, as Kong has it."""
MAX_BYTES: Final = 64 * 1024

_REFERENCE: Final = re.compile(r"\{vault://file/(\w[\w.-]*)(?:/([\w-]*))?(?:#\d+)?\}", re.ASCII)
_NAME: Final = re.compile(r"\w[\w.-]{0,254}", re.ASCII)


class SecretFileError(ValueError):
    """A file that gives no secret; the text says why, and nothing of what is in it."""


def folder(environ: Mapping[str, str]) -> Path:
    """The folder that an environment says, else the one that everybody has."""
    return Path(environ.get(f"KONG_{SETTING.upper()}") or FOLDER)


def names(text: str) -> list[str]:
    """The files that references in `text` name, sorted."""
    return sorted({found[1] for found in _REFERENCE.finditer(text)})


def parse(reference: str) -> tuple[str, str] | None:
    """Name and member, "" for the whole text, of a reference; None where it is none to this vault."""
    found = _REFERENCE.fullmatch(reference)
    return (found[1], found[2] or "") if found else None


def read(where: Path, name: str, member: str = "") -> str:
    """The text of a file, without line ends behind it, or of a member of the JSON object in it.

    Raises:
        SecretFileError: there is no such file, or none that is to be trusted.
    """
    if not _NAME.fullmatch(name):
        raise SecretFileError("a name has letters, digits, '.', '_' and '-' only")
    if not where.is_dir():
        raise SecretFileError("there is no folder of secrets")
    base = where.resolve()
    try:
        path = (base / name).resolve(strict=True)
    except (OSError, RuntimeError):
        raise SecretFileError("there is no such file") from None
    if not path.is_relative_to(base):
        raise SecretFileError("a link leads out of the folder")
    text = _text(path, base)
    return _member(text, member) if member else text


def _text(path: Path, base: Path) -> str:
    at = path.stat()
    if not stat.S_ISREG(at.st_mode):
        raise SecretFileError("is no file")
    if (at.st_mode | base.stat().st_mode) & stat.S_IWOTH:
        raise SecretFileError("every user may write it")
    if at.st_size > MAX_BYTES:
        raise SecretFileError("is longer than 64 KB")
    try:
        text = os.fsdecode(path.read_bytes()).rstrip("\r\n")
    except OSError:
        raise SecretFileError("may not be read") from None
    if not text:
        raise SecretFileError("is empty")
    return text


def _member(text: str, member: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(found := value.get(member), str) and found:
        return found
    raise SecretFileError("has no JSON object with this text")
