r"""Append-only journals of CRC-framed JSON lines: `<crc32 as 8 hex digits> <json>\n`.

Rules: a journal has one writer; a record is one write(); a short write is cut off again and not
acknowledged; a reader skips and counts what is damaged, and waits on a tail without its newline.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Made once: json.dumps makes a new encoder at each call that is not its default.
_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode
MAX_LINE = 64 << 10  # bytes, frame included


def frame(record: dict[str, Any]) -> bytes:
    """Return `record` as one framed line.  NaN and infinities must have been encoded before."""
    return framed(_encode(record).encode())


def framed(body: bytes) -> bytes:
    """Return the JSON of one record, which must hold no newline, as a framed line."""
    return b"%08x %s\n" % (zlib.crc32(body), body)


def unframe(line: bytes) -> dict[str, Any] | None:
    """Return the record of a framed line without its newline, or None if the line is damaged."""
    if len(line) < 10 or line[8:9] != b" ":  # noqa: PLR2004 - 8 hex digits and a space
        return None
    try:
        if int(line[:8], 16) != zlib.crc32(line[9:]):
            return None
        record = json.loads(line[9:])
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


class JournalWriter:
    """The one writer of a journal; `append` returns whether the record is acknowledged."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self.fd = os.open(path, flags, 0o600)
        self.end = os.fstat(self.fd).st_size  # bytes: where the last acknowledged line ends

    def append(self, record: dict[str, Any], *, sync: bool = False) -> bool:
        return self.append_lines(frame(record), sync=sync)

    def append_lines(self, lines: bytes, *, sync: bool = False) -> bool:
        """Append whole framed lines in one write; False when the disk took only a part of them."""
        start = os.fstat(self.fd).st_size
        try:
            written = os.write(self.fd, lines)
            if sync:
                os.fdatasync(self.fd)
        except OSError:
            written = -1
        if written != len(lines):
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, start)
            return False
        self.end = start + written
        return True

    def sync(self) -> None:
        os.fdatasync(self.fd)

    def close(self) -> None:
        os.close(self.fd)


@dataclass(slots=True)
class JournalReader:
    """Reads on from where it stopped; `damaged` counts the lines that were skipped."""

    path: Path
    offset: int = 0  # bytes
    damaged: int = 0
    _tail: bytes = field(default=b"", repr=False)

    @property
    def complete(self) -> int:
        """Bytes up to the end of the last whole line: where another reader may go on."""
        return self.offset - len(self._tail)

    def read(self, limit: int = 16 << 20) -> list[dict[str, Any]]:
        """Return the records appended since the last call, at most `limit` bytes of them."""
        try:
            with self.path.open("rb") as file:
                file.seek(self.offset)
                chunk = file.read(limit)
        except FileNotFoundError:
            return []
        self.offset += len(chunk)
        *lines, self._tail = (self._tail + chunk).split(b"\n")
        records = []
        for line in lines:
            record = unframe(line)
            if record is None:
                self.damaged += 1
            else:
                records.append(record)
        return records
