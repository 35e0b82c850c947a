"""Command-line arguments that several features' commands take, and their values."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from tenantgate.errors import ConfigError

__all__ = [
    "KEY_VARIABLE",
    "NO_SPOOL",
    "add_json",
    "add_key_env",
    "add_redis_url",
    "redis_url",
    "until",
    "whole_number",
]

KEY_VARIABLE: Final = "TENANTGATE_CACHE_KEY"
"""The environment variable that has the encryption_key in the examples."""
_URL_VARIABLE: Final = "TENANTGATE_REDIS_URL"
_URL: Final = "redis://127.0.0.1:6379/0"

NO_SPOOL: Final = "name gateway.audit.dir, .tenantgate/audit of a `tenantgate up`, or --redis-url"
"""What to do where `--dir` has no spool."""

_UNITS: Final = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


def whole_number(least: int, most: int) -> Callable[[str], int]:
    """A `type` for argparse: a whole number in this range, both ends included."""

    def parse(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add ``--json``."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def add_redis_url(parser: argparse.ArgumentParser) -> None:
    """Add ``--redis-url``, which `redis_url` reads."""
    parser.add_argument(
        "--redis-url", metavar="URL", help=f"default: the environment's {_URL_VARIABLE}, or {_URL}"
    )


def add_key_env(parser: argparse.ArgumentParser, use: str = "") -> None:
    """Add ``--key-env``: the name of the environment variable with the encryption_key, and its use."""
    parser.add_argument(
        "--key-env",
        default=KEY_VARIABLE,
        metavar="NAME",
        help=f"environment variable with the encryption_key{use} (default: %(default)s)",
    )


def redis_url(given: str | None) -> str:
    """The URL of the Redis that a command goes to: its option, the environment, or this machine."""
    return given or os.environ.get(_URL_VARIABLE) or _URL


def until(text: str, now: float) -> float:
    """Unix seconds of a date, a time or a span from `now`; a date without a time means its end, in UTC.

    Raises:
        ConfigError: it is none of these.
    """
    if match := re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text):
        return now + int(match[1]) * _UNITS[match[2]]
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"--until: {text[:40]!r} is no date, no time and no span such as 30m, 8h or 2d"
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
        moment = moment.replace(hour=23, minute=59, second=59)
    return moment.timestamp()
