"""The rich outputs of rank 0 (figures, tables) as a journal of MIME bundles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nbaas.journal import JournalReader
from nbaas.records import JobPaths


class DisplayReader:
    """Reads rich outputs on from where it stopped; large ones lie in files beside the journal."""

    def __init__(self, paths: JobPaths) -> None:
        self._root = paths.displays.parent
        self._journal = JournalReader(paths.displays)

    def read(self) -> Iterator[dict[str, Any]]:
        """Yield what is new: `data` and `metadata`, or `clear` where all that was shown is taken back.

        An output with an `id` may be replaced by a later one of that id that has `update`; `wait`
        of a `clear` means: only when the next output comes.
        """
        for record in self._journal.read():
            if record.get("clear"):
                yield {"clear": True, "wait": bool(record.get("wait"))}
                continue
            data = {**record.get("data", {}), **dict(self._files(record.get("files", {})))}
            if data:
                named: dict[str, Any] = {
                    key: record[key] for key in ("id", "update") if key in record
                }
                yield {"data": data, "metadata": record.get("metadata", {}), **named}

    def _files(self, files: dict[str, str]) -> Iterator[tuple[str, str]]:
        for mime, name in files.items():
            path = (self._root / str(name)).resolve()
            if path.is_relative_to(self._root.resolve()) and path.is_file():
                yield mime, path.read_text()
