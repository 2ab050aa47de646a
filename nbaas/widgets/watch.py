"""A job followed: by the cell or the command that started it, or by a thread in the background.

Rules: files are read in a thread of their own, so an interrupt never hits half a read; the cell's
thread prints, the background never does.  No signal handler is touched: an interrupt is caught where
the cell waits, and the ranks, in a session of their own, do not hear it.
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from nbaas.config import load_settings
from nbaas.errors import NbaasError
from nbaas.jobs.blame import log_tail, read_failures
from nbaas.jobs.cost import cost_of, prices_of
from nbaas.jobs.exports import Exports
from nbaas.jobs.follow import Update, follow
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.pictures import png_of
from nbaas.jobs.stacks import cell_labels, stall_report, tidied
from nbaas.placement import describe
from nbaas.widgets.outputs import picture_message
from nbaas.widgets.replay import read_facts, recall
from nbaas.widgets.run import RunView, fact_lines
from nbaas.widgets.terminal import Show, TerminalShow

LOG_SHOWN = 400  # lines of a rank's log that a panel shows
PRINTED = 2_000_000  # characters that a cell prints; what comes after is in the log only
QUIET = 1.0  # seconds without news after which what is shown is brought up to date all the same
STACKS_WRITTEN = 0.3  # seconds that ranks get to write their stacks, which they were just asked to
LAST_WORDS = 2_000  # characters printed at the end where the middle was left out


class Feed:
    """The updates of a job, read by a thread; iterating waits, and may be interrupted and resumed.

    None comes where there was no news for a while: what was left out for its rate is due then.
    """

    def __init__(self, job: Job, start: Mapping[int, int] | None = None) -> None:
        self._updates: queue.SimpleQueue[Update | BaseException | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(job, start), name="follow", daemon=True).start()

    # Not a generator: that would be over after an interrupt.
    def __iter__(self) -> Iterator[Update | None]:
        return self

    def __next__(self) -> Update | None:
        try:
            update = self._updates.get(timeout=QUIET)
        except queue.Empty:
            return None
        if update is None:
            raise StopIteration
        if isinstance(update, BaseException):
            raise update
        return update

    def _read(self, job: Job, start: Mapping[int, int] | None) -> None:
        try:
            for update in follow(job, start=start):
                self._updates.put(update)
        except Exception as lost:  # noqa: BLE001 - raised again in the thread that waits
            self._updates.put(lost)
        self._updates.put(None)


class Buttons:
    """Does what a panel's buttons ask; called from the thread that hears the front end."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.show: Show | None = None
        self.run: RunView | None = None

    def __call__(self, message: Mapping[str, Any]) -> None:
        match message.get("kind"):
            case "stop":
                self._apart(self.job.stop)
            case "kill":
                self._apart(self.job.kill)
            case "checkpoint":
                self._apart(self.job.checkpoint)
            case "log":
                self._log(message.get("rank"))
            case "picture":
                self._picture(message.get("name"), message.get("index"))

    def _log(self, rank: Any) -> None:
        if self.show is not None and rank in range(self.job.spec.world_size):
            text = log_tail(self.job.paths, rank, LOG_SHOWN)
            self.show.tell({"kind": "log", "rank": rank, "text": text or "nothing printed"})

    def _picture(self, name: Any, index: Any) -> None:
        """Send the picture or histogram `index` of a name; the last one for an index past the end."""
        logged = self.run.pictures.get(name) if self.run is not None else None
        if self.show is None or not logged or not isinstance(index, int):
            return
        at = min(max(index, 0), len(logged) - 1)
        image = (png_of(self.job.paths, logged[at]),) if logged[at].file else ()
        self.show.tell(picture_message(logged, at), *image)

    def _apart(self, verb: Any) -> None:
        # A supervisor that does not answer may take seconds: not on the thread that hears.
        def ask() -> None:
            with contextlib.suppress(NbaasError):
                verb()

        threading.Thread(target=ask, name="ask", daemon=True).start()


class Watch:
    """Shows a job while it runs; `interrupts` counts how often the user pressed stop meanwhile."""

    def __init__(self, job: Job, run: RunView, show: Show, exports: Exports | None = None) -> None:
        self.job = job
        self._exports = exports
        self.run = run
        self.show = show
        self.interrupts = 0
        self._printed = 0  # characters, those that were left out included
        self._left_out = ""  # the end of what was not printed
        self._stalled = False
        self._labels = cell_labels(job)

    def in_cell(self) -> JobStatus:
        """Return the final status; prints and figures of rank 0 appear in the cell as they come.

        An interrupt asks the ranks to finish their step, a second one kills them.
        """
        self.show.open(self.run)
        updates = Feed(self.job)
        while True:
            try:
                for update in updates:
                    if update is not None:
                        self._take(update)
                        self._print(update)
                    self.show.update(self.run)
                break
            except KeyboardInterrupt:
                self._interrupted()
        self._last_words()
        return self.finish()

    def in_background(self) -> None:
        """Keep the panel up to date until the job is over; to be called in a thread."""
        # An export wants every row; a panel that is opened late, only what it draws.
        exporting = self._exports is not None and self._exports.active
        for update in Feed(self.job, {} if exporting else recall(self.run, self.job)):
            if update is not None:
                self._take(update)
            self.show.update(self.run)
        self.finish()

    def finish(self) -> JobStatus:
        """Leave what stays in the notebook; returns the final status."""
        status = self.job.status()
        self.run.facts = fact_lines(read_facts(self.job))
        prices = prices_of(load_settings())
        self.run.cost = cost_of(self.job, status, prices, time.time()).line()
        if self._exports is not None:
            self._exports.close(status)
            self.run.facts = [*self.run.facts, *self._exports.failed]
        self.show.close(self.run, self.job.paths)
        return status

    def _take(self, update: Update) -> None:
        self.run.take_update(update)
        if self._exports is not None:
            self._exports.take(update)

    def _print(self, update: Update) -> None:
        text = update.log
        if text and (failure := read_failures(self.job.paths, [0]).get(0)):
            # The rank has written its stack to its log as well; the cell shows it once, at the end.
            before, found, after = text.partition(failure.traceback)
            text = before + after.lstrip("\n") if found else text
        if text := tidied(text, self._labels, crashes_only=True):
            self._write(text)
        self._tell_stall(stalled="STALLED" in update.status.flags)
        for rich in update.displays:
            self.show.display(rich["data"], rich["metadata"])

    def _tell_stall(self, *, stalled: bool) -> None:
        """Say once where the ranks stand when they have stopped moving."""
        if stalled and not self._stalled:
            time.sleep(STACKS_WRITTEN)
            self._write(stall_report(self.job))
        self._stalled = stalled

    def _write(self, text: str) -> None:
        """Print up to PRINTED characters: a flood would make the notebook too large to open."""
        room = PRINTED - self._printed
        self._printed += len(text)
        if room > 0:
            self.show.write(text[:room])
        if len(text) > room:
            self._left_out = (self._left_out + text[max(room, 0) :])[-LAST_WORDS:]

    def _last_words(self) -> None:
        if self._left_out:
            missing = self._printed - PRINTED - len(self._left_out)
            notice = f"[{missing:,} characters left out: %logs {self.job.name}]" if missing else ""
            self.show.write(f"\n{notice}\n{self._left_out}")

    def _interrupted(self) -> None:
        self.interrupts += 1
        if self.interrupts == 1:
            self.job.stop()
        else:
            self.job.kill()


def watch_in_terminal(job: Job) -> JobStatus:
    """Return the final status of a job whose prints appear in this terminal meanwhile."""
    return Watch(job, RunView(job.spec, describe(job.spec.slots)), TerminalShow()).in_cell()
