"""``tenantgate uninstall``: all that is ours out of a Kong, before its plugins are taken out of kong.conf."""

from __future__ import annotations

import argparse

from tenantgate.apply.commands import CLOCK
from tenantgate.apply.core.plan import removal
from tenantgate.apply.running import remove
from tenantgate.apply.targets import DatabaseKong, connect
from tenantgate.errors import ConfigError

__all__ = ["uninstall"]


def uninstall(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``uninstall``."""
    parser.add_argument(
        "--admin-url", required=True, metavar="URL", help="Admin API of a Kong with a database"
    )
    parser.add_argument(
        "--yes", action="store_true", help="do it; without it only what would go is said, with exit status 1"
    )
    parser.set_defaults(func=_uninstall)


def _uninstall(args: argparse.Namespace) -> int:
    target = connect(args.admin_url)
    if not isinstance(target, DatabaseKong):
        raise ConfigError(
            f"--admin-url {target.name}: has no database; give it a kong.yml without what is tagged tenantgate"
        )
    plan = removal(target.read())
    for line in plan.in_words():
        print(f"{target.name}: {line}")
    if plan.empty:
        print("nothing of Tenantgate is there")
        return 0
    if not args.yes:
        return 1
    remove(target, plan, clock=CLOCK, say=print)
    return 0
