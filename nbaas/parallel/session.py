"""One rank's session: single-device semantics switched on, watched, and switched off again."""

from __future__ import annotations

import contextlib
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import torch
from torch.optim.optimizer import (
    Optimizer,
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from nbaas.engines.base import Engine
from nbaas.errors import SemanticsError
from nbaas.parallel import autograd, batchnorm, effects, gradients, innerloss, threads
from nbaas.parallel import losses as _losses  # noqa: F401 - registers its rules
from nbaas.parallel import shapes as _shapes  # noqa: F401 - registers its rules
from nbaas.parallel import world as worlds
from nbaas.parallel.board import Board
from nbaas.parallel.gradients import GradientAverager
from nbaas.parallel.halt import Halt, StopTraining
from nbaas.parallel.loaders import Loaders
from nbaas.parallel.marks import Mark, go_to, mark
from nbaas.parallel.modules import ModuleBoundary
from nbaas.parallel.randomness import Randomness
from nbaas.parallel.sharded import GlobalTensor, PartialTensor
from nbaas.parallel.steps import StepCount
from nbaas.parallel.world import World


class Course(Protocol):
    """Who knows where the cell is in its loops; asked after a step, alike on all ranks."""

    due: bool

    def finishes_turn(self) -> bool: ...


class Observer(Protocol):
    """What is told about training, on the training thread; must take microseconds."""

    def step(self, step: int, epoch: int, values: dict[str, float]) -> None: ...
    def progress(self, batch: int, batches: int | None, epoch: int) -> None: ...


class Session:
    """Single-device semantics in force in this process, from construction to `close`."""

    def __init__(
        self,
        engine: Engine,
        observer: Observer,
        rank_scratch: Path | None,
        *,
        per_rank: bool,
        one_host: bool,
    ) -> None:
        self.observer = observer
        self.world = World(engine)
        self.averager = GradientAverager(self.world)
        self.loaders = Loaders(self.world, per_rank=per_rank)
        self.randomness = Randomness(self.world)
        self.boundary = ModuleBoundary(self.world, self.averager, self.randomness)
        self.count = StepCount()
        self.losses_seen = 0
        self.course: Course | None = None
        self.undo: list[Callable[[], None]] = []
        if self.world.size > 1:
            if rank_scratch is not None:
                board = Board(rank_scratch.parent / "board", engine.rank, engine.world_size)
                if one_host:
                    page = rank_scratch.parent / "halt"
                    self.world.halt = Halt(page, engine.rank, engine.world_size)
                engine.barrier(name="board")
                self.world.board = board
            self.randomness.align()
        self._install(rank_scratch)

    def _install(self, rank_scratch: Path | None) -> None:
        worlds.set_active(self.world)
        hooks = [
            register_optimizer_step_pre_hook(self._before_step),
            register_optimizer_step_post_hook(self._after_step),
        ]
        self.undo += [hook.remove for hook in hooks]
        self.loaders.install()
        self.undo.append(self.loaders.uninstall)
        self.undo.append(autograd.install(self.world, self.averager))
        if self.world.size == 1:
            return
        gradients.averager_of = self._averager
        self.averager.after_pass = self.boundary.check.after_pass
        self.loaders.at_pass = self._at_pass
        self.boundary.install()
        self.undo += [
            self.boundary.uninstall,
            batchnorm.install(self.world),
            innerloss.install(self.world),
            threads.install(self.materialize),
        ]
        self.undo.append(effects.hide_process_group())
        if self.world.rank and rank_scratch is not None:
            self.undo += [effects.ScratchFiles(rank_scratch).install(), effects.route_torch_files()]

    def _averager(self) -> GradientAverager:
        return self.averager

    def _at_pass(self) -> None:
        self.boundary.generation += 1
        self.randomness.check()

    # ---- optimizer steps -----------------------------------------------------------------------

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.world.halt.stepping = True
        if self.world.size == 1:
            return
        leaves = [p for group in optimizer.param_groups for p in group["params"]]
        watched = () if self.averager.in_backward else self.averager.watched
        # A step from a hook of the user's, within backward, comes before the average of the pass.
        missed = [p for p in leaves if p.grad is not None and id(p) not in watched]
        if missed:
            self.averager.average_now(missed)
        self.averager.watch(leaves)
        if self.averager.in_backward:
            return
        if self.boundary.check.verify(draws=self.randomness.draws):
            self.averager.after_pass = None

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        feed = self.loaders.current

        def tell() -> dict[str, float]:
            values = {"lr": float(optimizer.param_groups[0]["lr"])}
            if feed is not None:
                values["rows"] = float(feed.rows)
            if self.averager.last_loss is not None:
                values["loss"] = float(self.averager.last_loss)
            return values

        for step, epoch, values in self.count.add(optimizer, feed, tell):
            self.observer.step(step, epoch, values)
            if feed is not None:
                self.observer.progress(feed.batch, feed.batches, epoch)
        averager, alone = self.averager, self.world.size == 1
        if averager.save_agreed or (alone and averager.save_wanted):
            averager.save_agreed = False
            averager.save_wanted = averager.save_wanted and not alone
            if self.course is not None:
                self.course.due = True
        stops = (alone and averager.stop_wanted) or averager.stop_agreed
        if stops and not (self.course is not None and self.course.finishes_turn()):
            raise StopTraining
        self.world.halt.step()

    @property
    def steps(self) -> int:
        """The optimizer steps so far; those of one iteration count once."""
        return self.count.steps

    def request_stop(self, frame: FrameType | None = None) -> None:
        """Ask for a stop: all ranks end together after a step, or elsewhere where none comes.

        For a signal handler, whose `frame` is left by StopTraining once all ranks have agreed to that.
        """
        self.averager.stop_wanted = True
        self.world.halt.ask(frame)

    def watch_stop(self) -> None:
        """See to a stop that was asked for; on a thread of its own, until the cell is over."""
        self.world.halt.watch()

    def place(self) -> None:
        """Note that the cell is between two statements; all ranks come here, and may stop here."""
        self.world.halt.place()

    def request_checkpoint(self) -> None:
        """Ask for a checkpoint: all ranks agree after a step; safe in a signal handler."""
        self.averager.save_wanted = True

    def meet(self, place: str) -> None:
        """Return once every rank has come here."""
        if self.world.size > 1:
            self.world.engine.barrier(name=self.world.name(place))

    def from_rank_0(self, value: Any) -> Any:
        """Return what rank 0 gives; every rank must call it."""
        return self.world.broadcast_object(value) if self.world.size > 1 else value

    @property
    def rank(self) -> int:
        return self.world.rank

    def is_awaited(self) -> bool:
        """Return whether ranks that are to stop wait for this one."""
        return self.world.halt.is_awaited

    def mark(self, *, settings: bool = False) -> Mark:
        """Return where random numbers and counts are, to go to in another process."""
        return mark(self, settings=settings)

    def go_to(self, place: Mark) -> None:
        go_to(self, place)

    @contextlib.contextmanager
    def apart(self) -> Iterator[None]:
        """Refuse collectives in this block: only this rank is in it."""
        engine, self.world.engine = self.world.engine, Unreachable()
        try:
            yield
        finally:
            self.world.engine = engine

    # ---- the end -------------------------------------------------------------------------------

    def materialize(self, *trees_: Any) -> None:
        """Make every sharded or partial value reachable from `trees_` known; all ranks call it alike."""
        seen: set[int] = set()
        for tree in trees_:
            _materialize(tree, seen)

    def facts(self) -> dict[str, Any]:
        """Return what was split, gathered and replicated, for the panel."""
        names = sorted(
            {note.name for note in self.boundary.notes.values() if any(note.plans.values())}
        )
        return {
            "world_size": self.world.size,
            "engine": self.world.engine.name,
            "split_modules": names,
            "replicated": dict(self.world.notes),
            "gathered": dict(self.world.gathered.most_common(20)),
            "loaders": self.loaders.facts(),
            "steps": self.steps,
            "self_check": self.boundary.check.verdict,
            "self_check_seconds": round(self.boundary.check.seconds, 3),
        }

    def finish(self, names: Sequence[str] = ()) -> bool:
        """Meet the other ranks at the end of the cell; one that is elsewhere is named.

        Returns whether all came there from one place, with the same `names`: only then can what is
        still sharded be made whole.
        """
        halt = self.world.halt
        here = halt.end(), tuple(names)
        if self.world.size == 1:
            return True
        told = self.world.engine.allgather_object(
            (halt.left, here), name=self.world.name("end of the cell")
        )
        return all(there == here for _, there in told) or not any(left for left, _ in told)

    def close(self) -> None:
        self.world.halt.close()
        for undo in reversed(self.undo):
            undo()
        self.undo = []
        self.averager.release()
        gradients.averager_of = gradients._no_averager
        worlds.set_active(None)
        if self.world.board is not None:
            self.world.board.close()


class Unreachable:
    """Stands in for the engine while a rank is by itself: what waits for others would wait for ever."""

    def __getattr__(self, name: str) -> Any:
        raise SemanticsError(f"{name}: a value that only all ranks together know")


_OPAQUE = (str, bytes, int, float, bool, type(None), type, types.ModuleType)


def _materialize(root: Any, seen: set[int]) -> None:
    """Make the sharded and partial values below `root` known, in an order that all ranks share."""
    stack = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, _OPAQUE) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, GlobalTensor):
            with torch.no_grad():
                value.settled() if isinstance(value, PartialTensor) else value.whole()
        else:
            stack.extend(reversed(_held(value)))


def _held(value: Any) -> list[Any]:
    """Return what a value holds; a lazy mapping's own `values` is not asked."""
    if isinstance(value, torch.Tensor):
        return []
    if isinstance(value, dict):
        return list(dict.values(value))
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    return list(vars(value).values()) if hasattr(value, "__dict__") and not callable(value) else []


def activate(
    engine: Engine,
    observer: Observer,
    *,
    rank_scratch: Path | None = None,
    batch: str = "global",
    one_host: bool = True,
) -> Session:
    """Switch single-device semantics on in this process; `close` of what comes back ends it.

    `rank_scratch` is where a rank above 0 writes its files.  `batch` says what a loader's batch size
    counts: "global", the batch of all ranks, or "per-rank", that of each.  On `one_host` ranks
    share memory, and can also be stopped where no step comes.
    """
    return Session(engine, observer, rank_scratch, per_rank=batch == "per-rank", one_host=one_host)
