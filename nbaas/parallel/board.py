"""Where each rank stands: a page of shared memory that finds ranks on different branches at once.

Before a collective a rank writes its number, its name and the line of the cell, and compares with
what the others wrote for that number.  Two names for one number mean that the cell took another
branch on another rank; the rank that comes later says so, and the others end with it.
One host only; without a page nothing is compared.
"""

from __future__ import annotations

import mmap
import os
import sys
from functools import lru_cache
from pathlib import Path
from types import FrameType

from nbaas.errors import SemanticsError

ENTRY = 256  # bytes: number and length of the text, 8 bytes each, then the text
HEAD = 16
KEPT = 8  # entries of each rank; ranks are never further apart than the buckets in flight


class Board:
    """The page of `world_size` ranks at `path`; every rank opens the same file."""

    def __init__(self, path: Path, rank: int, world_size: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        size = ENTRY * KEPT * world_size
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(descriptor, size)
            self.page = mmap.mmap(descriptor, size)
            self.words = memoryview(self.page).cast("Q")
        finally:
            os.close(descriptor)
        # What an earlier start of the gang left; the caller meets the others before it posts.
        self.page[rank * KEPT * ENTRY : (rank + 1) * KEPT * ENTRY] = bytes(KEPT * ENTRY)
        self.rank = rank
        self.others = [other for other in range(world_size) if other != rank]

    def post(self, number: int, name: str) -> None:
        """Say that this rank begins collective `number`, called `name`.

        Raises: SemanticsError naming both places where another rank begins it by another name.
        """
        here = f"{name}\n{user_line(sys._getframe(1))}"
        text = here.encode()[: ENTRY - HEAD]
        start = (self.rank * KEPT + number % KEPT) * ENTRY
        # The number is stored last, in one aligned store: who reads it reads a whole entry.
        self.words[start // 8] = 0
        self.page[start + HEAD : start + HEAD + len(text)] = text
        self.words[start // 8 + 1] = len(text)
        self.words[start // 8] = number
        for other in self.others:
            theirs = self._entry((other * KEPT + number % KEPT) * ENTRY, number)
            if theirs is not None and theirs.partition("\n")[0] != name[: ENTRY - HEAD]:
                self._refuse(other, theirs, here)

    def _entry(self, start: int, number: int) -> str | None:
        """Return what stands at `start` for collective `number`; None where it is not there yet.

        A rank stores before it reads, so of two that differ one always sees the other.
        """
        if self.words[start // 8] != number:
            return None
        length = self.words[start // 8 + 1]
        text = bytes(self.page[start + HEAD : start + HEAD + length])
        return text.decode(errors="replace") if self.words[start // 8] == number else None

    def _refuse(self, other: int, theirs: str, here: str) -> None:
        their_name, _, their_line = theirs.partition("\n")
        name, _, line = here.partition("\n")
        raise SemanticsError(
            f"the cell took another way on another rank: rank {self.rank} is at {line} ({name}), "
            f"rank {other} at {their_line} ({their_name})",
            hint="what the cell decides must not depend on the rank, the clock or a process id",
        )

    def close(self) -> None:
        self.words.release()
        self.page.close()


def user_line(frame: FrameType | None) -> str:
    """Return 'file, line n' of the innermost frame that is neither a library's nor ours."""
    while frame is not None:
        if _is_users(frame.f_code.co_filename):
            return f"{_shown(frame.f_code.co_filename)}, line {frame.f_lineno}"
        frame = frame.f_back
    return "the end of the cell"


_OURS = str(Path(__file__).parents[1])
_LIBRARIES = ("site-packages", "dist-packages")
_labels: dict[str, str] = {}  # file name of a cell -> how the notebook calls it


def label_files(labels: dict[str, str]) -> None:
    """Give the files of cells the names that a person knows them by, 'Cell In[3]'."""
    _labels.update(labels)


@lru_cache(maxsize=4096)
def _is_users(filename: str) -> bool:
    if filename in _labels:
        return True
    ours = filename.startswith((_OURS, sys.base_prefix, "<frozen", "<string"))
    return not ours and not any(part in filename for part in _LIBRARIES)


def _shown(filename: str) -> str:
    return _labels.get(filename) or Path(filename).name
