from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nbaas.engines.base import engine_named
from nbaas.engines.proof import slots_of
from nbaas.engines.rendezvous import KeyValueServer, Meeting
from nbaas.records import to_json

HERE = Path(__file__).parent


@dataclass(frozen=True)
class RankEnd:
    code: int
    output: str

    @property
    def said(self) -> Any:
        """The last line of the rank's output, from JSON."""
        return json.loads(self.output.strip().splitlines()[-1])


def run_gang(
    folder: Path,
    engine: str,
    world_size: int,
    program: str,
    *,
    absent: int | None = None,
    secret: str = "",
) -> list[RankEnd]:
    """Run tests/engines/<program>.py as every rank of a world; one rank may never start.

    With a `secret` they meet as ranks of several hosts do.
    """
    factory = engine_named(engine)
    slots = slots_of(world_size)
    with contextlib.ExitStack() as stack:
        rendezvous = stack.enter_context(factory.rendezvous(folder, slots))
        if secret:
            server = stack.enter_context(KeyValueServer("127.0.0.2", secret))
            rendezvous = Meeting(server.address, f"{secret}.1", {"localhost": "lo"})
        ranks = [
            subprocess.Popen(
                [sys.executable, str(HERE / f"{program}.py"), engine, json.dumps(to_json(slot))],
                env=os.environ | {"OMP_NUM_THREADS": "1"} | environ,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for slot, environ in zip(slots, factory.environment(slots, rendezvous), strict=True)
            if slot.rank != absent
        ]
        try:
            outputs = [rank.communicate(timeout=120)[0] for rank in ranks]
            return [
                RankEnd(rank.wait(), output) for rank, output in zip(ranks, outputs, strict=True)
            ]
        finally:
            for rank in ranks:
                rank.kill()
                rank.wait()


@pytest.fixture(scope="session")
def gang(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[RankEnd]]:
    """Return run_gang with a folder of its own; what ended well once is not run again."""
    ended: dict[tuple[Any, ...], list[RankEnd]] = {}

    def run(engine: str, world_size: int, program: str, **options: Any) -> list[RankEnd]:
        key = (engine, world_size, program, *options.items())
        if key not in ended:
            folder = tmp_path_factory.mktemp("gang")
            ended[key] = run_gang(folder, engine, world_size, program, **options)
        return ended[key]

    return run
