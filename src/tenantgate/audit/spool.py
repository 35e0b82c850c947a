"""The spool that a node's configuration names."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tenantgate.audit.files import FileSpool
from tenantgate.audit.journal_files import write_whole
from tenantgate.audit.receivers import sink_name
from tenantgate.errors import EdgeError

if TYPE_CHECKING:
    from tenantgate.audit.config import PipelineConfig
    from tenantgate.audit.streams import StreamSpool

__all__ = ["open_spool"]

_NOBODY: Final = "~"
"""A sink that has nothing, where there is no other: receivers of alerts, which skip records, let none go for it."""


def open_spool(config: PipelineConfig, node: str) -> FileSpool | StreamSpool:
    """Open it, or begin it.

    Raises:
        EdgeError: the file system or Redis failed.
    """
    sinks = [*(sink.name for sink in config.sinks), *(sink_name(r.name) for r in config.receivers)]
    if not config.sinks:
        sinks.append(_NOBODY)
    if config.spool == "redis":
        from tenantgate.audit.streams import StreamSpool

        return StreamSpool(
            config.redis,
            node,
            sinks,
            max_records=config.max_records,
            max_bytes=config.max_megabytes << 20,
            owner=_gateway(Path(config.state_dir)),
        )
    return FileSpool(
        Path(config.state_dir) / "spool",
        sinks,
        max_records=config.max_records,
        max_bytes=config.max_megabytes << 20,
    )


def _gateway(folder: Path) -> str:
    """A name for this gateway, which lives as long as its state folder."""
    path = folder / "gateway"
    try:
        return path.read_text("ascii")
    except (OSError, ValueError):
        name = secrets.token_hex(16)
    try:
        write_whole(path, name.encode())
    except OSError as error:
        raise EdgeError(f"{path}: {error.strerror}") from None
    return name
