"""Secrets that aren't values: ``{vault://…}`` references and ``${{ env "DECK_…" }}`` placeholders.

Kong resolves a reference itself, where the schema of a field says `referenceable`. A placeholder is decK's;
Kong would take its text for the secret, so it has to be replaced before Kong reads the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from tenantgate import api_keys, secret_files
from tenantgate.errors import ConfigError

__all__ = [
    "is_placeholder",
    "is_vault_reference",
    "names",
    "names_in",
    "names_no_variable",
    "resolve_tree",
    "value",
    "vault_names",
]

_PLACEHOLDER: Final = re.compile(r'\$\{\{\s*env\s+"(DECK_[A-Za-z0-9_]+)"\s*\}\}')
_ANY_PLACEHOLDER: Final = re.compile(r"\$\{\{[^{}]{0,200}\}\}")
# kong/pdk/vault.lua, parse_reference: {vault://name/resource[/key][?query]}
_REFERENCE: Final = re.compile(r"\{vault://[A-Za-z0-9_-]+/[^{}\s]+\}")
_ENV_REFERENCE: Final = re.compile(r"\{vault://env/([A-Za-z0-9_-]+)[^{}\s]*\}")


def is_placeholder(value: str) -> bool:
    """Whether `value` is one whole ``${{ env "DECK_NAME" }}``."""
    return _PLACEHOLDER.fullmatch(value) is not None


def names_no_variable(value: str) -> bool:
    """Whether `value` is written as a placeholder, without being one: decK replaces variables ``DECK_…`` only."""
    return not is_placeholder(value) and _ANY_PLACEHOLDER.fullmatch(value.strip()) is not None


def is_vault_reference(value: str) -> bool:
    """Whether `value` is one whole ``{vault://NAME/…}``."""
    return _REFERENCE.fullmatch(value) is not None


def names(text: str) -> list[str]:
    """The environment variables that the placeholders in `text` name, sorted."""
    return sorted(set(_PLACEHOLDER.findall(text)))


def vault_names(text: str) -> list[str]:
    """The environment variables that ``{vault://env/…}`` references in `text` name, sorted.

    As `kong/vaults/env/init.lua` spells them: upper case, ``_`` for ``-``.
    """
    return sorted({name.replace("-", "_").upper() for name in _ENV_REFERENCE.findall(text)})


def value(text: str, environ: Mapping[str, str], where: str) -> str:
    """The secret that a placeholder or a reference to `env` or `file` stands for; a plain text is itself.

    Raises:
        ConfigError: `where`, and the variable or file that is missing, or that the vault is another one.
    """
    if at := secret_files.parse(text):
        try:
            return secret_files.read(secret_files.folder(environ), *at)
        except secret_files.SecretFileError as error:
            raise ConfigError(f"{where}: file {at[0]}: {error}") from None
    wanted = names(text) or vault_names(text)
    if not wanted:
        if is_vault_reference(text):
            raise ConfigError(f"{where}: only Kong can open this vault")
        return text
    if not environ.get(wanted[0]):
        raise ConfigError(f"{where}: the environment has no {wanted[0]}")
    return environ[wanted[0]]


def resolve_tree(tree: Any, environ: Mapping[str, str]) -> Any:
    """The tree of a kong.yml with its placeholders replaced, whatever characters the values have.

    Raises:
        ConfigError: names the variables that are missing, empty, alike or hold white space; never a value.
    """
    wanted = sorted(names_in(tree))
    missing = [name for name in wanted if not environ.get(name)]
    spaced = [
        name for name in wanted if name not in missing and re.search(r"\s|[\x00-\x1f\x7f]", environ[name])
    ]
    if missing:
        raise ConfigError(f"the environment has no {', '.join(missing)}")
    if spaced:
        raise ConfigError(f"white space or control characters in {', '.join(spaced)}: a key has none")
    # Kong would look for its hash (plugin tenantgate-keys).
    if issued := [
        name for name in wanted if environ[name].startswith((api_keys.PREFIX, api_keys.stored("")))
    ]:
        raise ConfigError(f"{', '.join(issued)}: begins as an issued key does; use `tenantgate keys issue`")
    owners: dict[str, str] = {}
    for name in wanted:
        if (first := owners.setdefault(environ[name], name)) != name:
            raise ConfigError(f"{first} and {name} hold the same value; a key belongs to one tenant")

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: put(v) for k, v in value.items()}
        if isinstance(value, list):
            return [put(v) for v in value]
        if isinstance(value, str):
            return _PLACEHOLDER.sub(lambda found: environ[found[1]], value)
        return value

    return put(tree)


def names_in(tree: Any) -> frozenset[str]:
    """The variables that the texts of a tree name."""
    return frozenset(_names_in(tree))


def _names_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield from _PLACEHOLDER.findall(value)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from _names_in(inner)
