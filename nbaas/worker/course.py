"""One run of a cell in a rank: from its start or its last checkpoint, saved on the way, to its end."""

from __future__ import annotations

import ast
import os
from collections.abc import Callable
from typing import Any

from nbaas.bundle import Bundle
from nbaas.parallel import StopTraining
from nbaas.records import JobPaths, JobSpec
from nbaas.worker import asked, streams
from nbaas.worker.checkpoints import RESUME, Checkpoint, newest_whole, read_manifest
from nbaas.worker.every import parse_every
from nbaas.worker.loops import HOOK, rewritten
from nbaas.worker.position import Position
from nbaas.worker.rich import repeat_displays
from nbaas.worker.saving import Recorder, Saver, resumption
from nbaas.worker.walk import Resumption, Turns, Walk


class Course:
    """Puts the calls of a walk into the cell and saves where they say so."""

    def __init__(
        self,
        spec: JobSpec,
        paths: JobPaths,
        bundle: Bundle,
        session: Any,
        recorder: Recorder,
        rank: int,
    ) -> None:
        self._spec = spec
        self._paths = paths
        self._bundle = bundle
        self._session = session
        self._recorder = recorder
        self._rank = rank
        self._saver = Saver(paths, bundle, session, recorder, rank)
        self._resume: Resumption | None = None
        self._walk: Walk | None = None
        self._namespace: dict[str, Any] = {}
        self._flush: Callable[[], None] = lambda: None
        self._before_stop: Callable[[], None] = lambda: None

    def begin(
        self,
        namespace: dict[str, Any],
        flush: Callable[[], None],
        before_stop: Callable[[], None],
    ) -> None:
        """Put the values of the newest whole checkpoint into `namespace`, where there is one.

        Later, `flush` brings the rank's metrics to the disk; `before_stop` is called before the
        checkpoint that ends the cell.
        """
        self._namespace, self._flush, self._before_stop = namespace, flush, before_stop
        point = self._point()
        if point is None:
            return
        self._resume = resumption(point, self._bundle, namespace, self._recorder)
        if self._rank == 0:
            what = f"[nbaas: resumed from the checkpoint of step {point.step}]\n"
            streams.repeat(self._paths.log(0), point.log, what)
            repeat_displays(self._paths, point.shown)

    def _point(self) -> Checkpoint | None:
        """Return the checkpoint that rank 0 found whole: the same on all ranks."""
        if RESUME not in os.environ:
            return None
        found = newest_whole(self._paths.checkpoints) if self._rank == 0 else None
        name = self._session.from_rank_0(found.root.name if found is not None else "")
        return read_manifest(self._paths.checkpoints / name) if name else None

    def rewrite(self, tree: ast.Module) -> ast.Module:
        """Return the cell with its places marked; it runs at most once after this."""
        resume = self._resume
        cell = rewritten(tree, resume.position if resume else None)
        every = parse_every(self._spec.checkpoint_every)
        walk = self._walk = Walk(cell, self._session, self._save, every=every, resume=resume)
        if self._spec.world_size > 1:
            walk.vote = self._session.request_checkpoint if self._rank == 0 else _abstain
        self._namespace[HOOK] = walk
        self._session.course = walk
        asked.follow(walk)
        self._resume = None  # its values now belong to the cell alone
        return cell.tree

    def end(self) -> None:
        """Take no checkpoint any more."""
        self._namespace.pop(HOOK, None)
        self._session.course = None
        asked.follow(None)

    def _save(self, position: Position, turns: list[Turns]) -> None:
        assert self._walk is not None  # noqa: S101 - it is the walk that calls
        if self._walk.stopping:
            self._before_stop()
        self._saver.save(self._namespace, position, turns, self._flush)
        if self._walk.stopping:
            raise StopTraining

    def facts(self) -> dict[str, Any]:
        """Return how many checkpoints were taken, or why none can be."""
        return {"checkpoints": self._saver.taken, "not_resumable": self._saver.refused}


def _abstain() -> None:
    """Rank 0 alone looks at the clock."""
