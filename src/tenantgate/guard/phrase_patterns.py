"""The families of phrases of the injection model by RE2, whose time is linear whatever the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, Final

import re2

from tenantgate.errors import EdgeError
from tenantgate.guard.core.phrases import expressions

__all__ = ["phrase_finder"]

_MEMORY: Final = 32 << 20  # most, for the automaton of the set, which is made as texts need it
_GAP: Final = re.compile(r"\[\^[^\]]*\]\{")


def phrase_finder() -> Callable[[str], Sequence[int]]:
    """A function that gives the numbers of the families that are in a text; thread-safe.

    Expressions without gaps are looked for all at once. Those with gaps would need an automaton of too many states
    together, and are quick one by one.

    Raises:
        EdgeError: RE2 can't take the expressions.
    """
    options: Any = re2.Options()
    options.max_mem = _MEMORY
    options.log_errors = False
    together: Any = re2.Set.SearchSet(options)
    numbers: list[int] = []
    alone: list[tuple[int, Any]] = []
    try:
        for n, expression in enumerate(expressions()):
            if _GAP.search(expression):
                alone.append((n, re2.compile(expression, options=options)))
            else:
                together.Add(expression)
                numbers.append(n)
        together.Compile()
    except re2.error as error:
        raise EdgeError("the phrases of injection can't be compiled") from error

    def find(text: str) -> Sequence[int]:
        raw = text.encode("utf-8", "replace")  # once; given a `str`, every expression would do it anew
        found = [numbers[n] for n in together.Match(raw) or ()]
        found += [n for n, expression in alone if expression.search(raw) is not None]
        return sorted(found)

    return find
