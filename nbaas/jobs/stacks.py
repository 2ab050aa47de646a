"""Stacks that ranks wrote into their logs by faulthandler, cut down to the user's own code.

Pure, but for the files of the job that they are read from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from nbaas.bundle import read_manifest
from nbaas.bundle.contents import Cell
from nbaas.bundle.manifest import TEXTS
from nbaas.errors import BundleError
from nbaas.jobs.blame import log_tail
from nbaas.jobs.job import Job

DUMP_LINES = 400  # of a log: a rank with many threads
_THREAD = r"^(?:Current thread|Thread) 0x[0-9a-f]+[^\n]*:\n(?:  [^\n]*\n)*\n?"
_DUMP = re.compile(
    rf"(?P<fatal>^Fatal Python error: [^\n]*\n\n?)?(?:{_THREAD})+(?:^Extension modules: [^\n]*\n?)?",
    re.MULTILINE,
)
_FRAME = re.compile(r'  File "(?P<file>[^"]+)", line (?P<line>\d+) in (?P<name>[^\n]+)')
# Whatever called the cell is ours: the innermost frame of it ends what there is to say.
_OURS = str(Path(__file__).parents[1])


def tidied(text: str, labels: Mapping[str, str], *, crashes_only: bool = False) -> str:
    """Return a log with each dump of stacks as the frames of the user's code, innermost first.

    `labels` name the cells by file.  With `crashes_only` dumps of a rank that lives are left out.
    """

    def short(found: re.Match[str]) -> str:
        if crashes_only and not found["fatal"]:
            return ""
        heading = (found["fatal"] or "stack:\n").strip() + "\n"
        return heading + "".join(f"{line}\n" for line in _frames(found[0], labels))

    return _DUMP.sub(short, text)


def last_stack(text: str, labels: Mapping[str, str]) -> list[str]:
    """Return the frames of the newest dump in a log, innermost first; [] where there is none."""
    dumps = [found[0] for found in _DUMP.finditer(text)]
    return _frames(dumps[-1], labels) if dumps else []


def _frames(dump: str, labels: Mapping[str, str]) -> list[str]:
    """Return the user's frames of the thread that runs the cell."""
    # The main thread comes last, and is the current one unless the signal found another.
    threads = dump.split("\n\n")[::-1]
    threads.sort(key=lambda thread: "Current thread" not in thread)
    in_cell = (thread for thread in threads if any(file in thread for file in labels))
    lines: list[str] = []
    for frame in _FRAME.finditer(next(in_cell, threads[0])):
        file = frame["file"]
        if file.startswith(_OURS):
            if lines:
                break
            continue
        label = labels.get(file, f"File {file}")
        where = "" if frame["name"] == "<module>" else f", in {frame['name']}"
        lines.append(f"  {label}, line {frame['line']}{where}")
    return lines


def cell_labels(job: Job) -> dict[str, str]:
    """Return 'Cell In[3]' by the file name that the code of a job's cells carries."""
    try:
        manifest = read_manifest(job.paths.bundle)
        texts = json.loads((job.paths.bundle / TEXTS).read_bytes())
    except (BundleError, OSError, ValueError):
        return {}
    cells = [Cell(manifest.cell_number, "", manifest.cell_file)]
    cells += [Cell(text["number"], "", text["file_name"]) for text in texts]
    return {cell.file_name: cell.label for cell in cells}


def stall_report(job: Job) -> str:
    """Return where each rank of a job that does not move stands."""
    labels = cell_labels(job)
    lines = [f"nbaas: no step for {job.spec.stall_timeout:g} s; where the ranks are:"]
    for slot in job.spec.slots:
        frames = last_stack(log_tail(job.paths, slot.rank, DUMP_LINES), labels)
        lines += [f"rank {slot.rank}:", *(frames or ["  (it has not said)"])]
    return "\n".join(lines) + "\n"
