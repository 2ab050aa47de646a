"""Writes checkpoints of a real cell for ever; a child is killed at a byte of one, again and again.

`python checkpoint_writer.py HOME`: for each line `OFFSET` on stdin a child takes one checkpoint more and
is SIGKILLed when so many bytes of it are written; the answer is a JSON line: what the child had
acknowledged, what is found afterwards and what the weights are when a new rank loads them.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from pathlib import Path
from typing import ClassVar

import torch

from nbaas.bundle import build_bundle, open_bundle
from nbaas.capture import capture_cell
from nbaas.engines.base import engine_named
from nbaas.parallel import activate
from nbaas.placement import HostResources, place
from nbaas.records import JobPaths
from nbaas.worker.checkpoints import newest_whole, remove_leftovers
from nbaas.worker.position import Position
from nbaas.worker.saving import Saver, resumption
from nbaas.worker.walk import Turns

CELL = "for epoch in range(1000):\n    weights += 1\n"


class Nobody:
    places: ClassVar[dict[str, int]] = {}

    def step(self, *_: object) -> None: ...
    def progress(self, *_: object) -> None: ...


class Dying(io.FileIO):
    """A file whose writing process dies at the byte that it was told."""

    left = 0

    def write(self, data) -> int:
        view = memoryview(data).cast("B")
        if len(view) >= Dying.left:
            os.write(self.fileno(), view[: Dying.left])
            os.kill(os.getpid(), signal.SIGKILL)
        Dying.left -= len(view)
        return super().write(data)


def die_at(offset: int) -> None:
    Dying.left, real = offset, io.open

    def opened(file, mode="r", *args, **kwargs):
        if not set(mode) & set("wax+") or isinstance(file, int):
            return real(file, mode, *args, **kwargs)
        raw = io.BufferedWriter(Dying(file, mode.replace("t", "").replace("b", "") + "b"))
        return raw if "b" in mode else io.TextIOWrapper(raw, write_through=True)

    io.open = opened


class Turn:
    """The one loop of the cell, `taken` turns of it."""

    def __init__(self, taken: int) -> None:
        self.number, self.native, self.mark = 0, True, None
        self.iterator = iter(range(taken, 1000))


def main() -> None:
    torch.set_num_threads(1)  # a pool of threads would not survive the fork
    paths = JobPaths(Path(sys.argv[1]) / "jobs" / "one")
    paths.root.mkdir(parents=True)
    blobs = Path(sys.argv[1]) / "blobs"
    contents = capture_cell(
        CELL, {"weights": torch.zeros(50_000)}, execution_count=1, history=[], exclude=()
    )
    build_bundle(paths.bundle, contents, blobs)
    slot = place(HostResources("here", 2), ranks=1)[0]
    session = activate(engine_named("serial").start(slot), Nobody())

    def load(point):
        bundle = open_bundle(paths.bundle, blobs)
        namespace = bundle.load()
        found = resumption(point, bundle, namespace, Nobody()) if point else None
        return bundle, namespace, found

    def save(step: int) -> None:
        bundle, namespace, _ = load(newest_whole(paths.checkpoints))
        namespace["weights"] += 1
        session.count.steps = step
        turns: list[Turns] = [Turn(step)]
        position = Position(0, ((0, step),), in_loop=True)
        Saver(paths, bundle, session, Nobody(), 0).save(namespace, position, turns, lambda: None)

    save(1)
    acknowledged = 1
    for line in sys.stdin:
        read_end, write_end = os.pipe()
        child = os.fork()
        if child == 0:
            die_at(int(line))
            save(acknowledged + 1)
            os.write(write_end, b"saved")
            os._exit(0)
        os.close(write_end)
        os.waitpid(child, 0)
        saved = os.read(read_end, 10) == b"saved"
        os.close(read_end)
        acknowledged += saved
        point = newest_whole(paths.checkpoints)
        _, namespace, found = load(point)
        answer = {
            "acknowledged": acknowledged, "saved": saved, "found": point.step,
            "taken": point.position.loops[0][1], "next": next(found.iterators[0]),
            "weights": sorted(set(namespace["weights"].tolist())),
            "left": remove_leftovers(paths.checkpoints), "size": point.size,
        }  # fmt: skip
        acknowledged = point.step  # one that was complete before the child could say so counts
        print(json.dumps(answer), flush=True)


main()
