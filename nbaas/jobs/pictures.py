"""What a cell logged besides numbers: images as files, histograms, each with its step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.journal import JournalReader
from nbaas.records import JobPaths


@dataclass(frozen=True, slots=True)
class Logged:
    """One image, PNG in `file` of the job's folder of pictures, or one histogram without a file."""

    name: str
    step: int
    file: str = ""
    low: float = 0.0
    high: float = 0.0
    counts: tuple[int, ...] = ()
    strange: int = 0  # elements that are NaN or infinite


class PictureReader:
    """Reads what was logged on from where it stopped."""

    def __init__(self, paths: JobPaths) -> None:
        self._journal = JournalReader(paths.pictures.with_suffix(".jsonl"))

    def read(self) -> Iterator[Logged]:
        for record in self._journal.read():
            if (logged := logged_of(record)) is not None:
                yield logged


def logged_of(record: dict[str, Any]) -> Logged | None:
    """Return the record of a picture or a histogram; None if it is neither."""
    try:
        place = (str(record["name"]), int(record["step"]))
        if "file" in record:
            return Logged(*place, file=Path(str(record["file"])).name)
        return Logged(
            *place,
            low=float(record["low"]),
            high=float(record["high"]),
            counts=tuple(int(count) for count in record["counts"]),
            strange=int(record.get("strange", 0)),
        )
    except (KeyError, TypeError, ValueError):
        return None


def png_of(paths: JobPaths, logged: Logged) -> bytes:
    """Return the image of a picture; b"" where it is no longer there."""
    file = paths.pictures / logged.file
    return file.read_bytes() if logged.file and file.is_file() else b""
