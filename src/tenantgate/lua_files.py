"""Lua for Kong's stock plugins: read from the ``.lua`` files beside each feature.

Kong runs these texts in its sandbox (``untrusted_lua = sandbox``), and so does the embedded host. Each file says
in which plugin and phase its text runs. A file holds comments on lines of their own, and names in capitals that
are filled in here.
"""

import re
from functools import cache
from importlib import resources

__all__ = ["script", "where"]


def script(area: str, name: str, **words: str) -> str:
    """Text of ``tenantgate/AREA/lua/NAME.lua`` on one line, without its comments.

    Args:
        area: a package of tenantgate.
        name: the file's name without its suffix.
        words: by name in capitals its value; each must occur in the text.
    """
    text = _on_one_line(area, name)
    for word, value in words.items():
        text, found = re.subn(rf"\b{word}\b", value.replace("\\", "\\\\"), text)
        if not found:
            raise ValueError(f"{area}/lua/{name}.lua: has no {word}")
    return text


def where(condition: str, text: str) -> str:
    """The text with one more condition, in Lua, for its first ``if``."""
    before, found, after = text.partition("if ")
    if not found:
        raise ValueError("the text has no if")
    return f"{before}if {condition} and {after}"


@cache
def _on_one_line(area: str, name: str) -> str:
    file = resources.files(f"tenantgate.{area}").joinpath("lua", f"{name}.lua")
    lines = (line.strip() for line in file.read_text("utf-8").splitlines())
    return " ".join(line for line in lines if line and not line.startswith("--"))
