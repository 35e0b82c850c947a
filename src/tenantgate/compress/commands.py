"""``tenantgate compress``: shows what compression would take out of a text, without sending anything."""

from __future__ import annotations

import argparse
import difflib
import os
import re
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Final

from tenantgate.compress.config import CompressConfig, CompressionRange
from tenantgate.compress.core.pipeline import Compressor
from tenantgate.compress.pruners import pruner
from tenantgate.compress.token_counts import token_counter
from tenantgate.errors import ConfigError
from tenantgate.fields import parse
from tenantgate.llm.chat import ChatRequest, parse_request
from tenantgate.models.language import english

__all__ = ["coloured_diff", "compress"]

_RED, _GREEN, _END = "\033[31;9m", "\033[32m", "\033[0m"
_LONG: Final = 4000  # words, above which an exact difference takes seconds
_WORDS: Final = re.compile(r"\s+|\w+|[^\w\s]")


def compress(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``compress FILE``."""
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a text, or a chat request as JSON; - for stdin"
    )
    parser.add_argument(
        "--rate", type=_share, metavar="SHARE", help="the share of words that stays (default: as configured)"
    )
    parser.add_argument("--encoding", default="o200k_base", help="the vocabulary (default: %(default)s)")
    parser.add_argument("--pruner", default="rules", metavar="NAME", help="what prunes (default: rules)")
    parser.add_argument("--pruner-model", metavar="MODEL", help="for --pruner llmlingua: a directory or name")
    parser.add_argument("--no-prune", action="store_true", help="lossless folding only")
    parser.add_argument("--plain", action="store_true", help="print the result instead of the difference")
    parser.add_argument(
        "--color", choices=("auto", "always", "never"), default="auto", help="default: on a terminal"
    )
    parser.set_defaults(func=_compress)


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be a number above 0, at most 1")
    return value


def _compress(args: argparse.Namespace) -> int:
    ranges: tuple[CompressionRange, ...] = ()
    if args.rate is not None:
        ranges = (CompressionRange(min_tokens=0, max_tokens=10_000_000, value=args.rate),)
    given = {"encoding": args.encoding, "pruner": args.pruner, "pruner_model": args.pruner_model}
    config = replace(
        parse(CompressConfig, given, where="compress"), prune=not args.no_prune, compression_ranges=ranges
    )
    counter = token_counter(config.encoding)
    chosen = pruner(config.pruner, config.pruner_model) if config.prune else None
    compressor = Compressor(config, counter, chosen, english=english)
    request = _request(_read(args.file))
    started, before, after = time.monotonic(), 0, 0
    colours = args.color == "always" or (
        args.color == "auto" and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    )
    for part, result in compressor.request(request, started + 60):
        before, after = before + result.before, after + result.after
        print(result.text if args.plain else coloured_diff(part.text, result.text, colours=colours))
    ms = (time.monotonic() - started) * 1000
    share = (before - after) / before if before else 0.0
    pruned = f", pruned by {compressor.fingerprint}" if compressor.fingerprint else ""
    print(
        f"{before} -> {after} tokens ({share:.1%} fewer, {counter.name}{pruned}), {ms:.0f} ms",
        file=sys.stderr,
    )
    return 0


def _read(path: Path) -> str:
    try:
        raw = sys.stdin.buffer.read() if str(path) == "-" else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None


def _request(text: str) -> ChatRequest:
    found = parse_request(text.encode())
    return found if isinstance(found, ChatRequest) else ChatRequest({}, ({"role": "user", "content": text},))


def coloured_diff(before: str, after: str, *, colours: bool = True) -> str:
    """`before` with what is gone struck through in red and what is new in green; ``[-…-]`` and ``{+…+}`` plain."""
    gone = (_RED, _END) if colours else ("[-", "-]")
    new = (_GREEN, _END) if colours else ("{+", "+}")
    a, b = _WORDS.findall(before), _WORDS.findall(after)
    out: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, a, b, autojunk=len(a) > _LONG).get_opcodes():
        if tag == "equal":
            out.append("".join(a[i1:i2]))
            continue
        if i2 > i1:
            out.append(_painted("".join(a[i1:i2]), gone))
        if j2 > j1:
            out.append(_painted("".join(b[j1:j2]), new))
    return "".join(out)


def _painted(text: str, marks: tuple[str, str]) -> str:
    return f"{marks[0]}{text}{marks[1]}"
