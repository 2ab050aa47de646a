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
        for record in self._journal.read():
            data = dict(record.get("data", {}))
            for mime, name in record.get("files", {}).items():
                path = (self._root / str(name)).resolve()
                if path.is_relative_to(self._root.resolve()) and path.is_file():
                    data[mime] = path.read_text()
            if data:
                yield {"data": data, "metadata": record.get("metadata", {})}
