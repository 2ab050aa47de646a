"""What a bundle holds: the records that capture makes in the kernel and a rank reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from nbaas.bundle.memory import Region

FORMAT = 1  # of the bundle's directory; a rank refuses another


class HistoryCell(Protocol):
    """A cell that ran: what code objects call its file, its Python, its In number."""

    @property
    def number(self) -> int: ...
    @property
    def source(self) -> str: ...
    @property
    def file_name(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Cell:
    """The text of a cell, or of those lines of it that travel; the other lines are empty."""

    number: int  # as in In[3]; 0 is none
    source: str
    file_name: str

    @property
    def label(self) -> str:
        """How IPython heads a frame of this cell."""
        return f"Cell In[{self.number}]" if self.number else f"File {self.file_name}"


@dataclass(frozen=True, slots=True)
class CapturedName:
    """One name that travels; what two names share is counted at the first."""

    name: str
    kind: str  # the class of the value
    size: int  # bytes
    needed_by: str = ""  # a function or class; empty: the cell itself


@dataclass(frozen=True, slots=True)
class ValueStream:
    """Values as pickles behind one another that share one memo, and the memory they refer to."""

    pickles: bytes
    items: tuple[str, ...]  # what each pickle is: a name of the namespace, or '@' and a word
    memo_sizes: tuple[int, ...]  # entries in the memo after each pickle
    regions: tuple[Region, ...]
    spans: tuple[tuple[int, int], ...]  # (region, byte offset) of each piece of memory
    buffers: tuple[tuple[int, int], ...]  # (span, bytes) of the out-of-band buffers, in order


@dataclass(frozen=True, slots=True)
class CellContents:
    """All that one run of a cell needs, still pointing into the kernel's memory."""

    cell: Cell
    names: tuple[CapturedName, ...]
    values: ValueStream
    texts: tuple[Cell, ...]  # the lines that captured functions and classes were made from
    definitions: str  # the same as one readable module
    sys_path: tuple[str, ...]
    notices: tuple[str, ...]
    missing: tuple[str, ...]  # read by the cell and defined nowhere
    left_out: tuple[str, ...]  # --exclude, and leftovers of an earlier run that cannot travel
    roots: dict[str, Any] = field(repr=False)  # the captured values by name
    live: dict[int, Any] = field(repr=False)  # memo index -> the kernel's own object
    alive: Sequence[Any] = field(repr=False)  # keeps the memory of `values` where it is

    @property
    def size(self) -> int:
        """Bytes that travel, each shared piece of memory once."""
        return len(self.values.pickles) + sum(r.nbytes for r in self.values.regions)
