"""A job in the user's hands: `job.wait() .stop() .result() .metrics() .logs()`, and how it prints."""

from __future__ import annotations

import html
import threading
import time
from typing import TYPE_CHECKING, Any

from nbaas.bundle.contents import CellContents
from nbaas.config import load_settings
from nbaas.errors import JobError, UsageError
from nbaas.jobs.cost import Cost, cost_of, prices_of
from nbaas.jobs.job import Job, JobStatus
from nbaas.jobs.series import columns_of, records_of
from nbaas.jobs.store import find_job
from nbaas.magics.failures import shown_as_one_line
from nbaas.magics.outcome import bring_back, raise_failure
from nbaas.placement import describe

if TYPE_CHECKING:
    from nbaas.widgets.compare import Comparison

VERBS = ".wait() .stop() .result() .load_into(globals()) .metrics() .logs()"


class JobHandle:
    """What `%%train --background`, `%attach` and `--out` give."""

    def __init__(
        self,
        job: Job,
        contents: CellContents | None = None,
        watching: threading.Thread | None = None,
    ) -> None:
        self._job = job
        self._contents = contents  # the kernel's own objects, where this kernel made the job
        self._watching = watching

    @property
    def name(self) -> str:
        return self._job.name

    @property
    def id(self) -> str:
        return self._job.id

    @property
    def state(self) -> str:
        return self._job.status().state.value

    @property
    def status(self) -> JobStatus:
        return self._job.status()

    @property
    def cost(self) -> Cost:
        """What the job has used so far: hours of GPUs and cores, energy, money where prices are set."""
        prices = prices_of(load_settings())
        return cost_of(self._job, self._job.status(), prices, time.time())

    def wait(self, timeout: float | None = None) -> str:
        """Return the state once the job is over, or after `timeout` seconds."""
        state = self._job.wait(timeout).state
        if state.final and self._watching is not None:
            self._watching.join(timeout)
        return state.value

    def stop(self) -> None:
        """Ask the ranks to finish their step and return."""
        self._job.stop()

    def checkpoint(self) -> None:
        """Ask for a checkpoint at the end of the loop's turn; returns at once."""
        with shown_as_one_line():
            self._job.checkpoint()

    def kill(self) -> None:
        """End the ranks now; what the cell computed is lost."""
        self._job.kill()

    def logs(self, rank: int = 0) -> str:
        """Return all that a rank has printed so far."""
        with shown_as_one_line():
            reader = self._job.log(rank)
        return "".join(iter(reader.read, ""))

    def metrics(self, rank: int = 0) -> Any:
        """Return a rank's metrics so far as a pandas DataFrame, a row a step.

        Raises: UsageError: pandas is not installed; `rows()` needs it not.
        """
        with shown_as_one_line():
            try:
                import pandas as pd  # type: ignore[import-untyped]
            except ModuleNotFoundError as missing:
                way_out = f"pip install pandas; or job.rows(); or nbaas metrics {self.name} --csv"
                raise UsageError(
                    "job.metrics() is a DataFrame, and pandas is not installed", hint=way_out
                ) from missing
            records = records_of(self._job, rank)
        return pd.DataFrame.from_records(records, columns=columns_of(records))

    def rows(self, rank: int = 0) -> list[dict[str, Any]]:
        """Return a rank's metrics so far as dictionaries, one a step: step, epoch, time, values."""
        with shown_as_one_line():
            return records_of(self._job, rank)

    def result(self) -> dict[str, Any]:
        """Wait, then return what the cell bound or changed, by name; the notebook is not touched.

        Raises the user's own error where a rank raised.
        """
        namespace: dict[str, Any] = {}
        with shown_as_one_line():
            status = self._job.wait()
            raise_failure(self._job, status, namespace)
            names = bring_back(self._job, None, namespace)
        return {name: namespace[name] for name in names if name in namespace}

    def load_into(self, namespace: dict[str, Any]) -> list[str]:
        """Wait, then put what the cell bound or changed into `namespace`; returns the names.

        Objects that the namespace holds are changed in place, so that what refers to them sees it.
        """
        with shown_as_one_line():
            if not self._job.wait().state.final:  # pragma: no cover - wait() without limit
                raise JobError(f"{self.name} is running")
            return bring_back(self._job, self._contents, namespace)

    def compare(self, *others: JobHandle | str) -> Comparison:
        """Return this job and others, handles or names, with their curves overlaid."""
        from nbaas.widgets.compare import Comparison

        names = [other.id if isinstance(other, JobHandle) else other for other in others]
        with shown_as_one_line():
            found = [find_job(load_settings(), name) for name in names]
        return Comparison([self._job, *found])

    def __repr__(self) -> str:
        status, spec = self._job.status(), self._job.spec
        end = status.since if status.state.final else time.time()
        where = describe(spec.slots)
        text = f"{spec.name}: {status.state.value} on {where} ({spec.engine})"
        return f"<job {text}, {end - spec.created:.0f} s, {self.cost.line()}>"

    def _repr_html_(self) -> str:
        name, verbs = html.escape(self.name), html.escape(VERBS)
        line = html.escape(repr(self)[1:-1])
        return f"<code>{line}</code><br><small>{verbs}, %attach {name}</small>"
