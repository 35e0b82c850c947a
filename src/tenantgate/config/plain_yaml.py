"""YAML as Kong reads it: a text that looks like a date (the version of an API) is a text."""

from __future__ import annotations

from typing import Any, ClassVar

import yaml

__all__ = ["read"]


# The loader in C, where PyYAML was built with it, takes a tenth of the time.
class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def read(text: str) -> Any:
    """The document.

    Raises:
        yaml.YAMLError: it isn't YAML.
    """
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()
