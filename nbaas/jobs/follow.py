"""A job as a stream of small updates, for whoever shows it: widget, terminal, server.

Rules: usable from any thread; nothing is printed here.  What is too much is left out and said so.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from nbaas.jobs.displays import DisplayReader
from nbaas.jobs.job import Job, JobStatus, MetricReader
from nbaas.jobs.logs import collapse
from nbaas.jobs.pictures import Logged, PictureReader
from nbaas.records import Metric

INTERVAL = 0.1  # seconds between two looks
MAX_LOG = 64 << 10  # bytes of log in one update


@dataclass(frozen=True, slots=True)
class Update:
    """What is new: rows by rank, text of rank 0, rich outputs as MIME bundles."""

    status: JobStatus
    metrics: dict[int, list[Metric]] = field(default_factory=dict)
    log: str = ""
    displays: tuple[dict[str, Any], ...] = ()
    pictures: tuple[Logged, ...] = ()


def follow(
    job: Job, *, rank: int = 0, interval: float = INTERVAL, start: Mapping[int, int] | None = None
) -> Iterator[Update]:
    """Yield updates until the job is over; the last one is complete and has the final status.

    `rank` is the one whose log is read; `start` the byte of a rank's rows to begin at, 0 if none is
    given.  An update comes when something is new, the first at once.
    """
    log = job.log(rank)
    displays, pictures = DisplayReader(job.paths), PictureReader(job.paths)
    readers = {
        slot.rank: MetricReader(job.paths.metrics(slot.rank), (start or {}).get(slot.rank, 0))
        for slot in job.spec.slots
    }
    shown: JobStatus | None = None
    while True:
        # The status first: whatever was written before the end is then there to be read.
        status = job.status()
        skipped = log.skip_to_tail(MAX_LOG)
        text = collapse(log.read(MAX_LOG))
        if skipped:
            text = f"\n[{skipped:,} bytes of log left out: %logs {job.name}]\n{text}"
        metrics = {index: rows for index, reader in readers.items() if (rows := reader.read())}
        update = Update(status, metrics, text, tuple(displays.read()), tuple(pictures.read()))
        if status != shown or metrics or text or update.displays or update.pictures:
            shown = status
            yield update
        if status.state.final:
            return
        time.sleep(interval)
