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
    text = _text(path, base, name)
    return _member(text, member) if member else text


def _text(path: Path, base: Path, name: str) -> str:
    at = path.stat()
    if not stat.S_ISREG(at.st_mode):
        raise SecretFileError("is no file")
    if not _is_trusted(at, path.parent.stat(), base.stat(), (base / name).lstat()):
        raise SecretFileError("every user may write it")
    if at.st_size > MAX_BYTES:
        raise SecretFileError("is longer than 64 KB")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
    except OSError:
        raise SecretFileError("may not be read") from None
    if len(raw) > MAX_BYTES:
        raise SecretFileError("is longer than 64 KB")
    text = os.fsdecode(raw).rstrip("\r\n")
    if not text:
        raise SecretFileError("is empty")
    return text


def _is_trusted(
    at: os.stat_result, beside: os.stat_result, within: os.stat_result, named: os.stat_result
) -> bool:
    """Whether nobody but owners and groups can have put it there.

    A mounted secret of Kubernetes is a folder for all, where others may add names and replace none: what is its owner's
    or root's counts there.
    """
    if at.st_mode & stat.S_IWOTH or any(_is_open(each) for each in (beside, within)):
        return False
    return not within.st_mode & stat.S_IWOTH or {at.st_uid, named.st_uid} <= {within.st_uid, 0}


def _is_open(folder: os.stat_result) -> bool:
    return bool(folder.st_mode & stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX


def _member(text: str, member: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if isinstance(value, dict) and isinstance(found := value.get(member), str) and found:
        return found
    raise SecretFileError("has no JSON object with this text")
