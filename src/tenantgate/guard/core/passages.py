"""What of a request or a reply is read, as one text, and how what is masked there gets back to its place.

Everything is read, keys and long numbers too, but for the positions of `tenantgate.guard.core.positions`. A passage has
three zones: what somebody wrote; identifiers, which only detectors of forms read; and texts that came in pieces (the
parts of a message, the events of a stream), joined once more without anything between them.
"""

from __future__ import annotations

import json
import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from tenantgate.errors import TenantgateError
from tenantgate.guard.core.binary import holds_text, is_file, is_noise
from tenantgate.guard.core.positions import (
    EVENTS,
    FREE,
    INDEXES,
    MESSAGE,
    REPLY,
    REQUEST,
    Kind,
    Node,
    known,
    step,
)
from tenantgate.pii.core import Finding, Unit, changed, outermost, within, without_surrogates

__all__ = [
    "NAME",
    "Edits",
    "Passage",
    "Path",
    "UnreadableError",
    "of_message",
    "of_reply",
    "of_request",
    "of_text",
    "rewrite",
    "without_files",
]

Path = tuple[str | int, ...]
Edits = Mapping[Path, Sequence[Unit]]
"""What is to be replaced in the texts at these paths, and by what; in order, without overlaps."""

NAME: Final = "\0key"
"""A step of a path: to the name of a member, in place of its value."""
_DEPTH: Final = 128
_SMALL: Final = 10**5  # numbers below are nobody's
_COUNT: Final = 10**11  # … and below this, where the API has a number
_NAME: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,128}")
# One in 750 of these has digits like a card's by chance.
_UUID: Final = re.compile(
    r"(?:[a-z]{2,12}[_-])?[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?:-[0-9]{1,2})?"
)
_EVENT: Final = re.compile(r"(?:event|id|retry)?: ?[\w.-]{0,64}", re.ASCII)
_FORMS: Final = {Kind.NAME: _NAME, Kind.NUMBER: _NAME, Kind.LINE: _EVENT}
_SHORT: Final = 20  # characters that no file has
_OPAQUE: Final = 200  # characters of base64 from which on it may be a sealed value
_APART: Final = "\n" * 12  # no detector's reach goes over so many line ends
_LONG: Final = 1000  # characters of a text in which a file may stand
_DATA_URL: Final = re.compile(r"data:[\w.+-]{1,64}/[\w.+;=-]{1,200};base64,([A-Za-z0-9+/]{200,}+={0,2})")
_OWN: Final = frozenset({"system", "developer", "assistant"})


class UnreadableError(TenantgateError):
    """A value is nested too deeply to be read."""


@dataclass(frozen=True, slots=True)
class Piece:
    """``start:end`` of a passage is what stands at `offset` of the text at `path`."""

    start: int
    end: int
    path: Path
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """A text of a passage, in one piece or several that follow each other."""

    start: int
    end: int
    pieces: tuple[Piece, ...]

    @property
    def is_name(self) -> bool:
        """Whether it is a member's name."""
        return len(self.pieces) == 1 and len(path := self.pieces[0].path) > 1 and path[-2] == NAME


@dataclass(frozen=True, slots=True)
class Passage:
    """Several texts as one.

    Attributes:
        text: all of them.
        runs: the texts, in order.
        prose: where in `text` the identifiers begin.
        joined: where the texts begin that were put together from pieces.
        sentences: where in `text` those begin that are too short to say something alone; of values only.
    """

    text: str
    runs: Sequence[Run] = field(repr=False)
    prose: int
    joined: int
    sentences: int

    def settled(self, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        """The findings, each once: what lies in one piece of a joined text is found where that piece stands alone."""
        if not findings or max(f.end for f in findings) <= self.joined:
            return findings
        alone = {(p.path, p.offset): p.start for r in self.runs if r.end <= self.joined for p in r.pieces}
        pieces = [p for r in self.runs if r.start >= self.joined for p in r.pieces]
        starts = [p.start for p in pieces]
        out = []
        for f in findings:
            piece = pieces[max(0, bisect_right(starts, f.start) - 1)] if pieces else None
            if piece is not None and piece.start <= f.start and f.end <= piece.end:
                first = alone.get((piece.path, piece.offset))
                if first is not None:
                    moved = first - piece.start
                    out.append(Finding(f.start + moved, f.end + moved, f.kind, f.score))
                    continue
            out.append(f)
        return outermost(out)

    def edits(
        self, findings: Sequence[Finding], change: Callable[[str, tuple[Finding, ...]], Iterable[Unit]]
    ) -> dict[Path, list[Unit]]:
        """What `change` replaces in each text with findings in it, by path. Findings are in order, without overlaps."""
        out: dict[Path, list[Unit]] = {}
        for run, inside in self.parts(findings):
            if not any(p.path in out for p in run.pieces):
                _divide(run, change(self.text[run.start : run.end], inside), out)
        return out

    def parts(self, findings: Sequence[Finding]) -> Iterator[tuple[Run, tuple[Finding, ...]]]:
        """Each text with findings in it, and these as they lie in it; what was joined first.

        A member's name has those alone that lie in it wholly: it is changed for what it is, never for what stands
        beside it. Findings are in order, without overlaps.
        """
        ends = [f.end for f in findings]
        starts = [f.start for f in findings]
        for run in sorted(self.runs, key=lambda r: r.start < self.joined):
            near = findings[bisect_right(ends, run.start) : bisect_left(starts, run.end)]
            if near and run.is_name:
                near = [f for f in near if run.start <= f.start and f.end <= run.end]
            if near:
                yield run, within(near, run.start, run.end)

    def rewritten(self, change: Callable[[str], Iterable[Unit]]) -> tuple[dict[Path, list[Unit]], int]:
        """What `change` replaces in each text, by path, and how often."""
        out: dict[Path, list[Unit]] = {}
        count = 0
        for run in sorted(self.runs, key=lambda r: r.start < self.joined):
            if not any(p.path in out for p in run.pieces):
                units = list(change(self.text[run.start : run.end]))
                count += len(units)
                _divide(run, units, out)
        return out, count


def _divide(run: Run, units: Iterable[Unit], out: dict[Path, list[Unit]]) -> None:
    """Put what is to be replaced in a run into its pieces: the new text into the first, nothing into the others."""
    starts = [p.start for p in run.pieces]
    for begin, stop, new in units:
        start, end = begin + run.start, stop + run.start
        i = max(0, bisect_right(starts, start) - 1)
        text = new
        while i < len(run.pieces) and run.pieces[i].start < end:
            piece = run.pieces[i]
            low, high = max(start, piece.start), min(end, piece.end)
            if low < high:
                shift = piece.offset - piece.start
                out.setdefault(piece.path, []).append((low + shift, high + shift, text))
                text = ""
            i += 1


def of_request(body: Mapping[str, Any], target: str) -> Passage:
    """The texts of a chat request that a rule's `target` means; paths begin at the body.

    Raises:
        UnreadableError: the body is nested too deeply.
    """
    messages = body.get("messages")
    messages = messages if isinstance(messages, list) else []
    reader = _Reader()
    chosen = range(len(messages))
    if target == "last_message":
        chosen = chosen[-1:]
    elif target == "concatenate_user_content":
        chosen = [i for i in chosen if not _is_own(messages[i])]  # type: ignore[assignment]
    for i in chosen:
        reader.read(messages[i], MESSAGE, ("messages", i), ("messages", i))
    if target == "concatenate_all_content":
        rest = {k: v for k, v in body.items() if k != "messages" or not isinstance(v, list)}
        reader.read(rest, REQUEST, (), ())
    return reader.passage()


def of_message(value: Any) -> Passage:
    """All texts of one message, or of any other JSON value; paths begin there."""
    reader = _Reader()
    reader.read(value, MESSAGE, (), ())
    return reader.passage()


def of_text(text: str) -> Passage:
    """A text alone."""
    reader = _Reader()
    reader.read(text, FREE, (), ())
    return reader.passage()


def of_reply(value: Any) -> Passage:
    """All texts of a reply: of what the provider sent, or of the list of its events.

    Texts of one choice that come in several events, parts or tokens are joined.

    Raises:
        UnreadableError: the reply is nested too deeply.
    """
    reader = _Reader(joining=True)
    reader.read(value, EVENTS if isinstance(value, list) else REPLY, (), ())
    return reader.passage()


def rewrite(value: Any, edits: Edits) -> Any:
    """`value` with the texts at these paths changed; what isn't on a path is shared, not copied."""
    tree: dict[Any, Any] = {}
    for path, units in edits.items():
        node = tree
        for at in path:
            node = node.setdefault(at, {})
        node[_HERE] = sorted(units, key=itemgetter(0, 1))
    return _rewritten(value, tree)


_HERE: Final = object()


def _rewritten(value: Any, tree: dict[Any, Any]) -> Any:
    if _HERE in tree:
        return changed(_spelled(value), tree[_HERE])
    if isinstance(value, list):
        return [_rewritten(v, tree[i]) if i in tree else v for i, v in enumerate(value)]
    names = tree.get(NAME, {})
    return {
        changed(k, names[k][_HERE]) if k in names else k: _rewritten(v, tree[k]) if k in tree else v
        for k, v in value.items()
    }


def _is_own(message: Any) -> bool:
    """Whether the application or the model wrote it: then its role says so in so many words."""
    role = message.get("role") if isinstance(message, Mapping) else None
    return isinstance(role, str) and role in _OWN


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


Channel = tuple[str | int, ...]


class _Reader:
    """Collects the texts of a value by their position."""

    def __init__(self, *, joining: bool = False) -> None:
        self._joining = joining
        self._prose: list[tuple[str, str, Path]] = []  # what stands before it, the text, its path
        self._names: dict[str, list[Path]] = {}
        self._channels: dict[Channel, list[tuple[str, Path]]] = {}
        self._pieces: set[Channel] = set()  # those whose texts say nothing alone
        self._codes: dict[Channel, list[int]] = {}
        self._packed: list[str] = []

    def read(self, value: Any, node: Node, path: Path, channel: Channel, before: str = "\n") -> None:
        """Take what is in `value`, which stands at `path`; texts with the same `channel` belong together."""
        if isinstance(value, str):
            self._text(value, node, path, channel, before)
        elif isinstance(value, Mapping):
            self._check(path)
            if self._joining:
                channel += tuple(value[k] for k in INDEXES if isinstance(value.get(k), int))
            for key, inner in value.items():
                self._member(key, inner, node, path, channel)
        elif isinstance(value, list):
            self._check(path)
            self._list(value, node, path, channel)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            least = _COUNT if node.kind is Kind.NUMBER else _SMALL
            if abs(value) >= least:
                self._prose.append((before, _spelled(value), path))

    def _check(self, path: Path) -> None:
        if len(path) > _DEPTH:
            raise UnreadableError("value: nested too deeply")

    def _member(self, key: str, value: Any, node: Node, path: Path, channel: Channel) -> None:
        child, api = step(node, key)
        before = "\n"
        counted = node.kind is Kind.NUMBER and _NAME.fullmatch(key) is not None
        if (
            not api and key and (counted or (path and isinstance(path[0], int)))
        ):  # of an event: the same in each
            self._names.setdefault(without_surrogates(key), []).append((*path, NAME, key))
        elif not api and key:
            self._prose.append(("\n", without_surrogates(key), (*path, NAME, key)))
            before = "\n" if isinstance(value, Mapping | list) else ": "
        self.read(value, child, (*path, key), (*channel, key), before)

    def _list(self, value: list[Any], node: Node, path: Path, channel: Channel) -> None:
        child = node.items or node
        if child.kind is Kind.CODES:
            self._codes.setdefault(channel, []).extend(
                c for c in value if isinstance(c, int) and 0 <= c < 256
            )
            return
        for i, item in enumerate(value):
            self.read(item, child, (*path, i), (*channel, "*" if self._joining or child.joined else i))

    def _text(self, value: str, node: Node, path: Path, channel: Channel, before: str) -> None:
        if not value or known(value, node):
            return
        text = without_surrogates(value)
        if node.kind is Kind.BYTES and len(value) > _SHORT:
            if is_file(value):
                return
            packed = "".join(text.split())  # who decodes base64 passes over all blanks
            if packed != text and holds_text(packed):
                self._packed.append(packed)
        if node.kind is Kind.NAME and _UUID.fullmatch(value):
            return
        form = _FORMS.get(node.kind)
        if (form is not None and form.fullmatch(value)) or (len(value) > _OPAQUE and is_noise(value)):
            self._names.setdefault(text, []).append(path)
            return
        if node.kind is Kind.PIECE or (self._joining and "delta" in channel):
            self._pieces.add(channel)
        else:
            self._prose.append((before, text, path))
        if self._joining or "*" in channel:
            self._channels.setdefault(channel, []).append((text, path))

    def passage(self) -> Passage:
        """All that was taken."""
        made = _Maker()
        for before, text, path in self._prose:
            made.add([(text, path)], before)
        prose = made.at
        for text, paths in self._names.items():
            made.add([(text, paths[0])], _APART, paths[1:])
        joined = made.at
        for channel, pieces in self._channels.items():
            if len(pieces) > 1 or channel in self._pieces:
                made.add(pieces, _APART)
        for text in self._packed:
            made.add([(text, None)], _APART)
        for codes in self._codes.values():
            made.add([(bytes(codes).decode("utf-8", "replace"), None)], _APART)
        return Passage("".join(made.parts), tuple(made.runs), prose, joined, prose)


class _Maker:
    """Puts texts together."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.runs: list[Run] = []
        self.at = 0

    def add(
        self, pieces: Sequence[tuple[str, Path | None]], before: str, copies: Sequence[Path] = ()
    ) -> None:
        """Add a text that came in pieces; `copies` are other places of the same text. Without a path it stays."""
        if self.parts:
            self._put(before)
        start, made = self.at, []
        for text, path in pieces:
            for offset, piece in without_files(text):
                if path is not None:
                    made.append(Piece(self.at, self.at + len(piece), path, offset))
                self._put(piece)
        self.runs.append(Run(start, self.at, tuple(made)))
        for path in copies:
            self.runs.append(Run(start, self.at, (Piece(start, self.at, path),)))

    def _put(self, text: str) -> None:
        self.parts.append(text)
        self.at += len(text)


def without_files(text: str) -> Iterator[tuple[int, str]]:
    """The text without the bytes of files in it: where each piece begins, and the piece."""
    at = 0
    if len(text) >= _LONG and ";base64," in text:
        for match in _DATA_URL.finditer(text):
            if is_file(match.group(1)):
                yield at, text[at : match.start(1)]
                at = match.end(1)
    yield at, text[at:]
