"""tenant-prompt-compressor: sends a tenant's prompts upstream in fewer tokens."""

from __future__ import annotations

from tenantgate import __version__
from tenantgate.compress.config import CompressConfig
from tenantgate.compress.manifest import COMPRESSOR
from tenantgate.kong import TenantPlugin, kong_fields

version, priority, Schema = __version__, COMPRESSOR.priority, kong_fields(COMPRESSOR.config_class)


class Plugin(TenantPlugin[CompressConfig], manifest=COMPRESSOR):
    """One configured instance."""


def load() -> None:
    """Load the vocabulary and the languages, half a second of Python's lock each, before there is anybody to answer."""
    from tenantgate.compress.token_counts import token_counter
    from tenantgate.models.language import load_identifier

    token_counter(CompressConfig().encoding)
    load_identifier()


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.compress.pruners import pruner

    pruner(CompressConfig().pruner)
