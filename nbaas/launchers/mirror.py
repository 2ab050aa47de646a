"""A job's folder on another host, seen from here: what ranks write there appears in the job's own.

Rules: files that grow are continued, others appear whole by a rename, a folder's manifest comes last.
A host may only write what its ranks do: names are checked, the supervisor's own files are not touched.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbaas.errors import HostError
from nbaas.launchers.frames import CHUNK

# Not sent: what came from the supervisor, and what other ranks than 0 write for nobody.
STAYS = frozenset(
    {"spec.json", "bundle", "modules", "scratch", "progress", "lock", "claim.json", "blobs"}
)
UNFINISHED = (".tmp", ".part", ".draft")
# Written by the supervisor alone.
OWN = STAYS | {"events.jsonl", "hb", "reserve", "supervisor.log", "hosts"}
PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@=+-]{0,200}", re.ASCII)
OF_RANK = re.compile(r"(?:logs|metrics)/r(\d+)\b.*|failure-r(\d+)\.json", re.ASCII)
MAX_DEPTH = 8
LAST = "manifest.json"


@dataclass(slots=True)
class _Sent:
    inode: int
    offset: int = 0
    whole: bool = False


class Mirror:
    """What is new in the folder `root` since the last look."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._sent: dict[str, _Sent] = {}

    def changes(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Yield (message, data) until all is told that was there at the beginning."""
        for name, path, found in list(self._files(self._root, "")):
            sent = self._sent.get(name)
            if sent is None or sent.inode != found.st_ino or found.st_size < sent.offset:
                sent = self._sent[name] = _Sent(found.st_ino)
            if sent.whole and sent.offset == found.st_size:
                continue
            yield from self._rest(name, path, sent, found.st_size)

    def _rest(
        self, name: str, path: Path, sent: _Sent, size: int
    ) -> Iterator[tuple[dict[str, Any], bytes]]:
        try:
            with path.open("rb") as file:
                file.seek(sent.offset)
                while True:
                    data = file.read(min(CHUNK, size - sent.offset))
                    offset = sent.offset
                    sent.offset += len(data)
                    done = sent.offset >= size or not data
                    message = {"verb": "file", "name": name, "offset": offset}
                    if not sent.whole:
                        message["new"] = "whole" if done else "part"
                    sent.whole = sent.whole or done
                    yield message, data
                    if done:
                        return
        except FileNotFoundError:
            return  # renamed or removed meanwhile: the next look finds what it is now

    def _files(self, folder: Path, prefix: str) -> Iterator[tuple[str, Path, os.stat_result]]:
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: (entry.name == LAST, entry.name))
        except FileNotFoundError:
            return
        for entry in entries:
            name = entry.name
            if name.startswith(".") or name.endswith(UNFINISHED) or (not prefix and name in STAYS):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from self._files(Path(entry.path), f"{prefix}{name}/")
            elif entry.is_file(follow_symlinks=False):
                try:
                    yield prefix + name, Path(entry.path), entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue


def write_mirrored(
    root: Path, ranks: Collection[int], message: dict[str, Any], data: bytes
) -> None:
    """Do to the job's folder what a host says its ranks have done to theirs.

    Raises HostError for a name that the host has no business with.
    """
    name, offset, new = str(message["name"]), int(message["offset"]), message.get("new", "")
    target = root / checked_name(name, ranks)
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    place = target.with_name(f".{target.name}.part") if new else target
    flags = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(place, flags | (os.O_TRUNC if new and offset == 0 else 0), 0o600)
    try:
        while data:
            written = os.pwrite(fd, data, offset)
            data, offset = data[written:], offset + written
    finally:
        os.close(fd)
    if new == "whole":
        place.rename(target)


def checked_name(name: str, ranks: Collection[int]) -> str:
    """Return the name of a file below a job's folder that a host with these ranks may write."""
    parts = name.split("/")
    fits = len(parts) <= MAX_DEPTH and all(PART.fullmatch(part) for part in parts)
    found = OF_RANK.fullmatch(name)
    rank = int(found.group(1) or found.group(2)) if found else None
    if not fits or parts[0] in OWN or (rank is not None and rank not in ranks):
        raise HostError(f"it wants to write {name[:80]!r} into the job's folder")
    return name
