from __future__ import annotations

import pytest

from tenantgate.cli import build_parser
from tenantgate.errors import ConfigError


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (["--kong", "/nowhere/kong"], "--kong: /nowhere/kong: no such program"),
        (["--port", "99999"], "--port: 99999 is outside 0 to 65535"),
        (["--postgres"], "--postgres: needs --kong"),
    ],
)
def test_what_up_cant_start_with_is_named_before_anything_starts(given: list[str], told: str) -> None:
    args = build_parser().parse_args(["up", *given])
    with pytest.raises(ConfigError, match=told):
        args.func(args)
