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
        """Yield what is new: `kind` (display_data, execute_result, clear_output), data, metadata."""
        for record in self._journal.read():
            data = {**record.get("data", {}), **dict(self._files(record.get("files", {})))}
            if data:
                kind = str(record.get("kind", "display_data"))
                yield {"kind": kind, "data": data, "metadata": record.get("metadata", {})}

    def _files(self, files: dict[str, str]) -> Iterator[tuple[str, str]]:
        for mime, name in files.items():
            path = (self._root / str(name)).resolve()
            if path.is_relative_to(self._root.resolve()) and path.is_file():
                yield mime, path.read_text()
