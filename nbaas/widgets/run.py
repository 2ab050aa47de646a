"""A run as it is shown: rows of metrics and states in, what the panel draws and one line say out.

Pure, but for the clock that `view` is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from nbaas.jobs.blame import EXIT_STOPPED
from nbaas.jobs.follow import Update
from nbaas.jobs.job import JobStatus, RankStatus
from nbaas.jobs.pictures import Logged
from nbaas.records import JobSpec, Metric, State
from nbaas.widgets.curves import MOST_CURVES, Curve, Curves
from nbaas.widgets.meters import Progress, RankLine, Rate
from nbaas.worker.curves import Curves as KeptCurves
from nbaas.worker.progress import Phase

NOT_CURVES = frozenset({"rows"})  # counted, not drawn
STATS = 4  # values beside the progress bar
SLOW_SHARE = 0.25  # of a step: others wait so much longer than the slowest rank
SLOW_TIME = 0.002  # seconds: below, it is chance
SHORT_STEP = 0.003  # seconds
GOOD_SHARE = 0.75  # of what the ranks could gain
MOST_PICTURES = 64  # names of pictures and histograms that a panel lists
PHASES = {
    Phase.ABSENT: "waiting",
    Phase.BORN: "starting",
    Phase.JOINED: "joined",
    Phase.RUNNING: "running",
    Phase.RETURNING: "returning",
    Phase.DONE: "done",
}


class RunView:
    """Takes in what a job reports and tells how it stands; one thread calls it."""

    def __init__(self, spec: JobSpec, where: str, *, epochs: int | None = None) -> None:
        self.spec = spec
        self.where = where  # '2 ranks on the CPU'
        self.curves = Curves()
        self.state = State.CREATED
        self.reason = ""
        self.flags: Sequence[str] = ()
        self.step = 0
        self.started: float | None = None  # seconds since the epoch: the ranks run
        self.ended: float | None = None
        self.progress = Progress(epochs=epochs)
        self._furthest = 0  # steps, by the counters or by the journal, whichever is ahead
        self._last_epoch = 0  # of the journal
        self._began: float | None = None  # when a model trained after another one in the same cell
        self.rate = Rate()
        self.ranks = [RankLine(slot.rank) for slot in spec.slots]
        self.facts: Sequence[str] = ()
        self.tail = False  # the panel shows the log of rank 0: nobody prints it
        self.cost = ""  # what it has used, in one line
        self.pictures: dict[str, list[Logged]] = {}  # by name, oldest first

    def take_update(self, update: Update) -> None:
        """Take in what `nbaas.jobs.follow` yields."""
        self.take_status(update.status)
        self.take(update.metrics)
        self.take_pictures(update.pictures)

    def take_pictures(self, fresh: Iterable[Logged]) -> None:
        for logged in fresh:
            self.pictures.setdefault(logged.name, []).append(logged)

    def take_status(self, status: JobStatus) -> None:
        self.state = status.state
        self.flags = sorted(status.flags)
        self.started = status.started or None
        self.ended = status.since if status.state.final else None
        self.reason = self._reason(status)
        for line, rank in zip(self.ranks, status.ranks, strict=False):
            line.state = _rank_state(rank)
            line.step = max(line.step or 0, rank.progress.step) or line.step
            # The last step's, until the journal tells the mean of a second.
            if line.waits.step is None:
                line.step_time = rank.progress.step_time or line.step_time
        if status.ranks:
            counters = status.ranks[0].progress
            self._reach(counters.step, counters.epoch)
            self.progress.batch = counters.batch
            self.progress.batches = counters.batches or None

    def take(self, rows: Mapping[int, Iterable[Metric]]) -> None:
        """Take in fresh rows by rank."""
        for rank, metrics in rows.items():
            for metric in metrics:
                if metric.kind == "sys":
                    self._take_system(self.ranks[rank], metric)
                elif metric.kind == "log":
                    self.curves.append(metric.step, metric.values)
                else:
                    self._take_step(rank, metric)
        self._mark_slow()

    def take_curves(self, kept: KeptCurves) -> None:
        """Replace the curves by those of bounded size that are kept beside a long journal."""
        self.step, self.progress.epoch = (
            max(self.step, kept.step),
            max(self.progress.epoch, kept.epoch),
        )
        self.curves = Curves()
        for name, curve in kept.by_name.items():
            if name not in NOT_CURVES and not name.startswith("sys/"):
                for step, value in curve.points():
                    self.curves.append(step, {name: value})

    def elapsed(self, now: float) -> float:
        """Return the seconds since the job was made, up to its end; `now` since the epoch."""
        return max(0.0, (self.ended or now) - self.spec.created)

    def view(self, now: float) -> dict[str, Any]:
        """Return what panel.js draws."""
        return {
            "id": self.spec.id,
            "name": self.spec.name,
            "state": self.state.value,
            "flags": list(self.flags),
            "reason": self.reason,
            "where": self.where,
            "engine": self.spec.engine,
            "elapsed": self.elapsed(now),
            "step": self.step,
            "progress": {
                "epoch": self.progress.epoch,
                "epochs": self.progress.epochs,
                "batch": self.progress.batch,
                "batches": self.progress.batches,
                "part": self.progress.part,
                "eta": self.eta(now),
            },
            "stats": self._stats(),
            "ranks": [line.view() for line in self.ranks],
            "facts": list(self.facts),
            "scaling": self.scaling(),
            "cost": self.cost,
            "tail": self.tail,
            "can_checkpoint": self.state is State.RUNNING and self.step > 0,
            "pictures": [
                {"name": name, "count": len(logged), "histogram": logged[-1].file == ""}
                for name, logged in islice(self.pictures.items(), MOST_PICTURES)
            ],
            "left_out": max(0, len(self.curves.by_name) - MOST_CURVES),
        }

    def scaling(self) -> str:
        """Return how much the ranks gain over one of them, as far as their waiting tells; '' if alone."""
        meters = [line.waits for line in self.ranks if line.waits.stepping]
        world_size = len(self.ranks)
        if world_size == 1 or len(meters) < world_size:
            return ""
        share = sum(meter.waiting / meter.stepping for meter in meters) / world_size
        gain = world_size * (1 - min(share, 1.0))
        text = f"{world_size} ranks: at most {gain:.1f} times one"
        text += f", a rank spends {share:.0%} of a step waiting for others"
        step = min(meter.step or 0.0 for meter in meters)
        if step < SHORT_STEP and gain < world_size * GOOD_SHARE:
            text += f"; steps of {1000 * step:.1f} ms are short for more than one rank"
        return text

    def _mark_slow(self) -> None:
        """Mark the rank that waits least, where the others wait for it."""
        waits = [line.waits.wait for line in self.ranks if line.waits.wait is not None]
        step = max((line.waits.step or 0.0 for line in self.ranks), default=0.0)
        gap = max(waits) - min(waits) if len(waits) == len(self.ranks) > 1 else 0.0
        apart = gap > max(SLOW_SHARE * step, SLOW_TIME)
        for line in self.ranks:
            line.slow = apart and line.waits.wait == min(waits)

    def eta(self, now: float) -> float | None:
        """Return the seconds left to the model that trains now, None where its epochs are unknown."""
        part = self.progress.part
        if self.started is None or not self.progress.epochs or not part:
            return None
        return (now - (self._began or self.started)) * (1 - part) / part

    def title(self, now: float) -> str:
        """Return where the run stands, without values: above the figure."""
        state = self.state.value.lower()
        if "QUEUED" in self.flags:
            state = f"waiting for room ({self.reason}) to run"
        what = [f"{self.spec.name}: {state} on {self.where} ({self.spec.engine})"]
        epochs = f" of {self.progress.epochs}" if self.progress.epochs else ""
        if self.progress.epoch and self.state.final:
            what.append(f"{self.progress.epoch} epoch{'s' if self.progress.epoch > 1 else ''}")
        elif self.progress.epoch:
            what.append(f"epoch {self.progress.epoch}{epochs}")
        steps = f"{self.step:,} steps in " if self.step else ""
        return ", ".join([*what, steps + clock(self.elapsed(now))])

    def line(self, now: float) -> str:
        """Return the run in one line of text, for a terminal and for the saved notebook."""
        what = [self.title(now), *(self._curve_text(curve) for curve in self._leading())]
        if self.rate.now:
            what.append(f"{self.rate.best or self.rate.now:,.0f} samples/s")
        return ", ".join(what)

    def _reason(self, status: JobStatus) -> str:
        if status.failure is not None:
            what = status.failure
            return f"rank {what.rank}: {what.kind}: {what.message}"
        if status.state is State.STARTING and "QUEUED" not in status.flags:
            up = sum(rank.progress.phase >= Phase.JOINED for rank in status.ranks)
            return f"{up} of {len(self.ranks)} ranks up"
        return status.reason

    def _take_step(self, rank: int, metric: Metric) -> None:
        line = self.ranks[rank]
        line.step = metric.step
        if rank != 0:
            return
        self.step = max(self.step, metric.step)
        self._reach(metric.step, metric.epoch)
        if metric.epoch < self._last_epoch:
            self._began = metric.time
        self._last_epoch = metric.epoch
        if samples := metric.values.get("rows"):
            self.rate.add(metric.time, samples)
        curves = {name: v for name, v in metric.values.items() if name not in NOT_CURVES}
        self.curves.append(metric.step, curves)

    def _reach(self, step: int, epoch: int) -> None:
        """Take the epoch of the furthest step: the next model of the cell begins with the first."""
        if step >= self._furthest:
            self._furthest, self.progress.epoch = step, epoch

    def _take_system(self, line: RankLine, metric: Metric) -> None:
        values = metric.values
        line.memory = values.get("rss", line.memory)
        if "step_time" in values and "wait" in values:
            line.step_time = values["step_time"]
            line.waits.add(metric.step, values["step_time"], values["wait"])
        line.cpu = values["cpu"] / 100 if "cpu" in values else line.cpu
        line.gpu_memory = values.get("gpu_memory", line.gpu_memory)
        line.gpu_use = values.get("gpu_use", line.gpu_use)

    def _leading(self) -> list[Curve]:
        groups = self.curves.groups()
        return [*groups.get("loss", []), *groups.get("score", [])][: STATS - 1]

    def _stats(self) -> list[dict[str, Any]]:
        stats: list[dict[str, Any]] = [
            {"name": curve.name, "value": spoken(curve.last), "best": spoken(curve.best)}
            for curve in self._leading()
        ]
        if self.rate.now:
            best = f"{self.rate.best:,.0f}" if self.rate.best else None
            stats.append({"name": "samples/s", "value": f"{self.rate.now:,.0f}", "best": best})
        return stats

    def _curve_text(self, curve: Curve) -> str:
        first, last = spoken(curve.values[0]), spoken(curve.last)
        return f"{curve.name} {last}" if first == last else f"{curve.name} {first} to {last}"


def _rank_state(rank: RankStatus) -> str:
    if rank.exit_code is None:
        return PHASES[rank.progress.phase]
    if rank.exit_code < 0:
        return f"signal {-rank.exit_code}"
    return {0: "done", EXIT_STOPPED: "stopped"}.get(rank.exit_code, f"exit {rank.exit_code}")


def spoken(value: float) -> str:
    """Return a value as people read it: four digits, NaN and infinity by name."""
    if math.isnan(value):
        return "NaN"
    return f"{value:.4g}" if math.isfinite(value) else f"{'-' if value < 0 else ''}∞"


def fact_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return what was distributed and how, one line each, from a job's facts.json."""
    lines = []
    if modules := facts.get("split_modules"):
        lines.append("split by rows: " + ", ".join(map(str, modules)))
    lines += [f"replicated: {what} ({why})" for what, why in facts.get("replicated", {}).items()]
    gathered = facts.get("gathered", {})
    if gathered:
        counts = ", ".join(f"{name} ({times}x)" for name, times in gathered.items())
        lines.append(f"gathered: {counts}")
    lines += [str(line) for line in facts.get("loaders", [])]
    if check := facts.get("self_check"):
        seconds = facts.get("self_check_seconds") or 0.0
        lines.append(f"self-check: {check}" + (f" (took {seconds:.2g} s)" if seconds else ""))
    return lines


def clock(seconds: float) -> str:
    """Return seconds as 0:08, 12:40 or 1:02:03."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
