"""The `tenantgate` command. Of the commands' modules only that of the command that runs is imported."""

from __future__ import annotations

import argparse
import sys
from typing import Any, Final

from tenantgate import __version__, terminal
from tenantgate.errors import TenantgateError
from tenantgate.features import features
from tenantgate.manifest import Command, resolve

__all__ = ["build_parser", "main"]

_FIRST: Final = (
    Command(
        name="init",
        help="write a folder to start from: tenants.yaml, kong.conf, .env.example, .gitignore",
        adds="tenantgate.config.init_commands:init",
    ),
    Command(
        name="validate",
        help="check tenants.yaml: exit status 1 and all problems, with their lines",
        adds="tenantgate.config.commands:validate",
    ),
    Command(
        name="render",
        help="write kong.yml (or kong.conf) for tenants.yaml",
        adds="tenantgate.config.commands:render",
    ),
    Command(
        name="diff",
        help="what tenants.yaml would change in a kong.yml: exit status 1 if anything",
        adds="tenantgate.config.commands:diff",
    ),
    Command(
        name="schema",
        help="print the JSON Schema of tenants.yaml, for editors",
        adds="tenantgate.config.commands:schema",
    ),
    Command(
        name="apply",
        help="bring tenants.yaml into force: policies on all nodes, tenants and keys in Kong",
        adds="tenantgate.apply.commands:apply",
    ),
    Command(
        name="history",
        help="the versions of the policies: when, by whom, why",
        adds="tenantgate.apply.commands:history",
    ),
    Command(
        name="rollback",
        help="bring an earlier version of the policies into force again",
        adds="tenantgate.apply.commands:rollback",
    ),
    Command(
        name="status",
        help="which node goes by which version of the policies: exit status 1 if one is behind",
        adds="tenantgate.apply.commands:status",
    ),
    Command(
        name="drift",
        help="what isn't in Kong and the policy store as it was applied: exit status 1 if anything",
        adds="tenantgate.apply.drift_commands:drift",
    ),
    Command(
        name="uninstall",
        help="take all of Tenantgate's entities out of a Kong with a database",
        adds="tenantgate.apply.uninstall_commands:uninstall",
    ),
    Command(
        name="egress",
        help="the egress list as rules of a network, and the audit log against the lists of its time",
        adds="tenantgate.egress.commands:egress",
    ),
    Command(
        name="usage",
        help="tokens and costs by tenant, key, model and day; signed statements",
        adds="tenantgate.usage.commands:usage",
    ),
    Command(
        name="reconcile",
        help="our ledger against a platform's or a provider's: exit status 1 if they drift apart",
        adds="tenantgate.usage.commands:reconcile",
    ),
    Command(
        name="cost",
        help="what models cost, and past usage by today's prices",
        adds="tenantgate.prices.commands:cost",
    ),
    Command(
        name="budget",
        help="what is left of budgets, temporary raises, and past traffic against proposed limits",
        adds="tenantgate.budget.commands:budget",
    ),
    Command(
        name="keys", help="clients' keys: issue, rotate, revoke, list", adds="tenantgate.keys.commands:keys"
    ),
    Command(
        name="redis",
        help="check the Redis that tenants.yaml names",
        adds="tenantgate.config.redis_commands:redis",
    ),
    Command(
        name="doctor",
        help="what of this node isn't as it must be, and what to do: exit status 1 if requests fail by it",
        adds="tenantgate.doctor.commands:doctor",
    ),
    Command(
        name="top",
        help="what happens now, by tenant: requests, tokens, money, hit rate, latency, errors",
        adds="tenantgate.activity.commands:top",
    ),
    Command(
        name="report",
        help="a page about a span of time, with plots: traffic, hit rate, latency, errors, findings, money",
        adds="tenantgate.activity.commands:report",
    ),
    Command(
        name="up",
        help="run a gateway on this machine, with a Redis and a mock provider of its own, until Ctrl-C",
        adds="tenantgate.devhost.commands:up",
    ),
)
_LAST: Final = (
    Command(
        name="models",
        help="build the default models, or say where they lie",
        adds="tenantgate.models.commands:models",
    ),
    Command(
        name="bench",
        help="measure the plugins beside the same gateway without them, or compare two results",
        adds="tenantgate.bench.commands:bench",
    ),
    Command(
        name="docs",
        help="write the generated parts of the documentation anew",
        adds="tenantgate.config.docs_commands:docs",
    ),
)


def build_parser() -> argparse.ArgumentParser:
    """The parser with the commands of all features; each command's own arguments are added when it is parsed."""
    parser = argparse.ArgumentParser(prog="tenantgate", description="Tenant-scoped AI for Kong Gateway.")
    parser.add_argument("--version", action="version", version=f"tenantgate {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=CommandParser)
    for command in (*_FIRST, *(c for feature in features() for c in feature.commands), *_LAST):
        commands.add_parser(command.name, help=command.help).adds = command.adds
    return parser


class CommandParser(argparse.ArgumentParser):
    """The parser of one command, whose arguments come from the function that `adds` names."""

    adds = ""

    def complete(self) -> None:
        """Add the arguments, if they aren't there yet."""
        adds, self.adds = self.adds, ""
        if adds:
            resolve(adds)(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse does it, after `complete`."""
        self.complete()
        return super().parse_known_args(args, namespace)


def main(argv: list[str] | None = None) -> int:
    """Run one command. Exit status: 0 done, 1 a check that said no, 2 bad input or surroundings."""
    terminal.guard()
    try:
        args = build_parser().parse_args(argv)
        return int(args.func(args) or 0)
    except TenantgateError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, BrokenPipeError):
        return 130


if __name__ == "__main__":
    sys.exit(main())
