"""The files that tenants.yaml is made of: one file, a folder of them, or a file and the folder beside it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tenantgate.errors import ConfigError

__all__ = ["Source", "sources"]

_SUFFIXES: Final = (".yaml", ".yml")


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text, or why there is none."""

    name: str
    text: str | ConfigError


def sources(path: Path) -> list[Source]:
    """The file at `path` and those of the folder beside it whose name ends in ``.d``; or those of the folder at `path`.

    Of a folder each ``*.yaml`` and ``*.yml`` directly in it counts, in the order of their names, hidden ones excepted.
    A folder in it is a mistake, since its tenants would be missing, and so is a link to what isn't in the folder.

    Raises:
        ConfigError: the file can't be read, the folder can't be listed, or it holds no such file.
    """
    if path.is_dir():
        found = list(_folder(path))
        if not found:
            raise ConfigError(f"{path}: holds no *.yaml")
        return found
    first = _file(path)
    if isinstance(first.text, ConfigError):
        raise first.text
    beside = path.with_suffix(".d")
    return [first, *(_folder(beside) if path.suffix in _SUFFIXES and beside.is_dir() else ())]


def _folder(folder: Path) -> Iterator[Source]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
        home = folder.resolve()
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        is_yaml = entry.suffix.lower() in _SUFFIXES
        # A link within the folder is how Kubernetes shows the files of a ConfigMap.
        if is_yaml and entry.is_symlink() and not entry.resolve().is_relative_to(home):
            yield Source(str(entry), ConfigError(f"{entry}: is a link to a file outside {folder}"))
        elif entry.is_dir():
            yield Source(str(entry), ConfigError(f"{entry}: is a folder; files lie directly in {folder}"))
        elif is_yaml:
            yield _file(entry)


def _file(path: Path) -> Source:
    try:
        if path.exists() and not path.is_file():  # a pipe would never end
            return Source(str(path), ConfigError(f"{path}: isn't a file"))
        return Source(str(path), path.read_text(encoding="utf-8"))
    except OSError as error:
        return Source(str(path), ConfigError(f"{path}: {error.strerror}"))
    except UnicodeDecodeError as error:
        return Source(str(path), ConfigError(f"{path}: isn't UTF-8 (byte {error.start})"))
