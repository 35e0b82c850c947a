"""The `tenantgate` command: one line per area; each area's module holds its own sub-commands."""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final

from tenantgate import __version__
from tenantgate.errors import TenantgateError

__all__ = ["main"]

# Modules that offer `add_commands(subparsers)`; they import what is heavy only when their command runs.
AREAS: Final = (
    "tenantgate.bench.commands",
    "tenantgate.config.commands",
    "tenantgate.config.redis_commands",
    "tenantgate.devhost.commands",
    "tenantgate.audit.commands",
    "tenantgate.cache.commands",
    "tenantgate.compress.commands",
    "tenantgate.guard.commands",
    "tenantgate.models.commands",
    "tenantgate.config.docs_commands",
)


def build_parser() -> argparse.ArgumentParser:
    """The parser with all areas' sub-commands."""
    parser = argparse.ArgumentParser(prog="tenantgate", description="Tenant-scoped AI for Kong Gateway.")
    parser.add_argument("--version", action="version", version=f"tenantgate {__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for area in AREAS:
        importlib.import_module(area).add_commands(subparsers)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 a check that said no, 2 bad input or surroundings."""
    args = build_parser().parse_args(argv)
    try:
        return int(args.func(args) or 0)
    except TenantgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
