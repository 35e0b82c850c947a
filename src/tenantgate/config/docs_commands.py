"""``tenantgate docs``: the parts of the documentation that are written from the code."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from tenantgate.errors import ConfigError, EdgeError
from tenantgate.paths import plugins_dir

__all__ = ["add_commands", "generated"]


def add_commands(subparsers: Any) -> None:
    """Add ``docs``."""
    parser = subparsers.add_parser("docs", help="write the generated parts of the documentation anew")
    parser.add_argument(
        "--docs", type=Path, default=None, metavar="DIR", help="default: the checkout's docs folder"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 if out of date")
    parser.set_defaults(func=_docs)


def generated(docs: Path) -> dict[Path, str]:
    """Each file with a generated part, and what it should hold.

    Raises:
        ConfigError: a page is missing, or has no place for its table.
    """
    # Imported here: other commands don't need it.
    from tenantgate.audit.core.record import schema as audit_record  # noqa: PLC0415
    from tenantgate.config import catalog  # noqa: PLC0415
    from tenantgate.config import docs as tables  # noqa: PLC0415
    from tenantgate.config.json_schema import json_schema  # noqa: PLC0415

    page = docs / "configuration.md"
    out = {
        page: tables.insert(_read(page), "fields", tables.tables()),
        docs / "tenants.schema.json": json_schema(),
        docs / "audit-record.schema.json": json.dumps(audit_record(), indent=2) + "\n",
    }
    for plugin in catalog.CATALOG:
        page = docs / "plugins" / f"{plugin.name}.md"
        out[page] = tables.insert(_read(page), "fields", _plugin_tables(plugin.config_class))
    return out


def _plugin_tables(cls: type) -> str:
    """The table of a plugin's fields, and one for each record among them."""
    from tenantgate import fields  # noqa: PLC0415
    from tenantgate.config import docs as tables  # noqa: PLC0415

    parts = [tables.field_table(cls)]
    for name, (_spec, hint, _default) in fields.specs(cls).items():
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            parts.append(f"`{name}`:\n\n{tables.field_table(hint)}")
    return "\n".join(parts)


def _docs(args: argparse.Namespace) -> int:
    docs = args.docs or plugins_dir().parent / "docs"
    stale = [path for path, text in generated(docs).items() if not path.is_file() or _read(path) != text]
    if args.check:
        for path in stale:
            print(f"{path}: out of date; run `tenantgate docs`", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        try:
            path.write_text(generated(docs)[path], encoding="utf-8")
        except OSError as error:
            raise EdgeError(f"{path}: {error.strerror}") from None
        print(f"wrote {path}")
    if not stale:
        print("up to date")
    return 0


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: can't be read ({type(error).__name__})") from None
