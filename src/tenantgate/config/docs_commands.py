"""``tenantgate docs``: the parts of the documentation that are written from the code."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tenantgate.config.docs import generated, read
from tenantgate.errors import EdgeError
from tenantgate.paths import plugins_dir

__all__ = ["docs"]


def docs(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``docs``."""
    parser.add_argument(
        "--docs", type=Path, default=None, metavar="DIR", help="default: the checkout's docs folder"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if out of date")
    parser.set_defaults(func=_docs)


def _docs(args: argparse.Namespace) -> int:
    folder = args.docs or plugins_dir().parent / "docs"
    wanted = generated(folder)
    stale = [path for path, text in wanted.items() if not path.is_file() or read(path) != text]
    if args.check:
        for path in stale:
            print(f"{path}: out of date; run `tenantgate docs`", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        try:
            path.write_text(wanted[path], encoding="utf-8")
        except OSError as error:
            raise EdgeError(f"{path}: {error.strerror}") from None
        print(f"wrote {path}")
    if not stale:
        print("up to date")
    return 0
