"""``multipart/form-data``, read strictly: a form that two readers could understand differently is refused.

Source: https://www.rfc-editor.org/rfc/rfc7578
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tenantgate.llm.refusal import Reason, Refusal

__all__ = ["Form", "boundary_of", "parse"]

_BOUNDARY: Final = re.compile(rb"[0-9A-Za-z'()+_,./:=? -]{0,69}[0-9A-Za-z'()+_,./:=?-]")
_TYPE: Final = re.compile(
    r"""multipart/form-data *; *boundary=(?:"([^"\\]{1,70})"|([0-9A-Za-z'+_.-]{1,70})) *""", re.IGNORECASE
)
_DISPOSITION: Final = re.compile(
    rb'content-disposition: *form-data; *name="([A-Za-z0-9_.\[\]-]{1,100})"(; *filename="[^"\r\n]{0,1000}")?[^"\r\n]*',
    re.IGNORECASE,
)
_MOST_PARTS: Final = 100
_END: Final = b"\r\n"


@dataclass(frozen=True, slots=True)
class Form:
    """A form.

    Attributes:
        boundary: between its parts.
        texts: its fields without a file name, each once.
        files: its other parts as they came, head included.
    """

    boundary: bytes
    texts: Mapping[str, str] = field(repr=False)
    files: tuple[bytes, ...] = field(repr=False)

    def written(self, texts: Mapping[str, Any]) -> bytes:
        """The form with these fields, texts all of them, in place of its own."""
        parts = [
            b'Content-Disposition: form-data; name="%s"\r\n\r\n%s' % (name.encode(), str(value).encode())
            for name, value in texts.items()
        ]
        opening = b"--" + self.boundary + _END
        return (
            b"".join(opening + part + _END for part in (*parts, *self.files)) + b"--%s--\r\n" % self.boundary
        )


def boundary_of(content_type: str) -> bytes | None:
    """The boundary in a ``Content-Type``; None where it is no form's, or not written in the usual way."""
    found = _TYPE.fullmatch(content_type)
    return None if found is None else (found[1] or found[2]).encode("ascii", "replace")


def parse(raw: bytes) -> Form | Refusal:
    """The form in a body, whose first line says its boundary."""
    first, _, _ = raw[:80].partition(_END)
    boundary = first[2:]
    if not first.startswith(b"--") or not _BOUNDARY.fullmatch(boundary):
        return _refused("doesn't begin with its boundary")
    delimiter = _END + b"--" + boundary
    # A delimiter in a file can't be told from a true one; whoever writes a form picks another boundary then.
    _, *parts = (_END + raw).split(delimiter)
    if len(parts) < 2 or parts.pop() not in (b"--", b"--\r\n"):
        return _refused("has no end")
    if len(parts) > _MOST_PARTS:
        return _refused(f"has more than {_MOST_PARTS} parts")
    texts: dict[str, str] = {}
    files: list[bytes] = []
    seen: set[bytes] = set()
    for part in parts:
        head, between, content = part.removeprefix(_END).partition(b"\r\n\r\n")
        found = [m for line in head.split(_END) if (m := _DISPOSITION.fullmatch(line))]
        if not between or not part.startswith(_END) or len(found) != 1:
            return _refused("has a part without a name")
        name, file = found[0][1], found[0][2]
        listed = name.endswith(b"[]")
        if name in seen and not listed:
            return _refused("has two fields of the same name")
        seen.add(name)
        if listed or (file and name == b"file"):
            files.append(part.removeprefix(_END))
        elif file:
            return _refused("may have one file, in the field `file`")
        else:
            try:
                texts[name.decode("ascii")] = content.decode("utf-8")
            except UnicodeDecodeError:
                return _refused("has a field that isn't UTF-8")
    return Form(boundary, texts, tuple(files))


def _refused(problem: str) -> Refusal:
    return Refusal(Reason.NOT_CHAT, f"The form {problem}.")
