"""A run of a cell as files: build, open and verify, load, execute, result, failure."""

from nbaas.bundle.blobs import prune_blobs
from nbaas.bundle.contents import CapturedName, Cell, CellContents, HistoryCell
from nbaas.bundle.displays import DisplaySink, JournalSink, set_sink
from nbaas.bundle.failure import describe_failure
from nbaas.bundle.manifest import Manifest, read_manifest
from nbaas.bundle.result import Result, ResultSummary, read_result, write_result
from nbaas.bundle.store import Bundle, build_bundle, open_bundle

__all__ = [
    "Bundle",
    "CapturedName",
    "Cell",
    "CellContents",
    "DisplaySink",
    "HistoryCell",
    "JournalSink",
    "Manifest",
    "Result",
    "ResultSummary",
    "build_bundle",
    "describe_failure",
    "open_bundle",
    "prune_blobs",
    "read_manifest",
    "read_result",
    "set_sink",
    "write_result",
]
