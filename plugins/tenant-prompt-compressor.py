"""tenant-prompt-compressor: sends a tenant's prompts upstream in fewer tokens.

Wiring only; what it does is in `tenantgate.compress` (decisions) and `tenantgate.compress.service` (effects).
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from tenantgate import __version__
from tenantgate.compress.config import CompressConfig
from tenantgate.kong import Host, PhasePolicy, configure, kong_fields, phase

if TYPE_CHECKING:
    from tenantgate.compress.service import PromptCompression

version = __version__
priority = 798  # above the guard (796), which reads and masks the text as it will leave
Schema = kong_fields(CompressConfig)


class Plugin:
    """One configured instance."""

    config: CompressConfig
    config_error: Exception | None

    def __init__(self, config: dict[str, Any]) -> None:
        configure(self, CompressConfig, config)
        if self.config_error is None:
            # The phase may take longer than the work: out of time is the original, not an error.
            self.policy = PhasePolicy(reject=self.config.stop_on_error)

    @cached_property
    def _compression(self) -> PromptCompression:
        # Imported at the first event: Kong's query command only wants the schema, and quickly.
        from tenantgate.compress.service import PromptCompression  # noqa: PLC0415

        return PromptCompression(self.config)

    @phase
    def access(self, host: Host) -> None:
        """Shorten the prompt."""
        self._compression.access(host)


def load() -> None:
    """Load the vocabulary and the languages, half a second of Python's lock each, before there is anybody to answer."""
    from tenantgate.compress.token_counts import token_counter  # noqa: PLC0415
    from tenantgate.models.language import load_identifier  # noqa: PLC0415

    token_counter(CompressConfig().encoding)
    load_identifier()


def warm_up() -> None:
    """Load what the first request would wait for."""
    from tenantgate.compress.pruners import pruner  # noqa: PLC0415

    pruner(CompressConfig().pruner)
