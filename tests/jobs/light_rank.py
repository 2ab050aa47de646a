"""A rank without torch, for tests of supervision: the real ties, counters and journal, a toy loop.

Called as the interpreter of a rank is: `... -P -m nbaas.worker ROOT RANK`.  The cell is
bundle/cell.py; it may call `step(n)` and finds `rank`, `world_size` and `stop` (a function).
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import time
import traceback
from pathlib import Path

from nbaas.worker.guard import die_with_parent, hold_lifeline

die_with_parent(int(os.environ.pop("NBAAS_PARENT")))
hold_lifeline(int(os.environ.pop("NBAAS_LIFELINE")))

import json  # noqa: E402 - a real rank ties itself first too

from nbaas.records import JobPaths, RankFailure, to_json  # noqa: E402
from nbaas.worker import streams  # noqa: E402
from nbaas.worker.metrics import MetricsWriter  # noqa: E402
from nbaas.worker.progress import Phase, ProgressWriter  # noqa: E402
from nbaas.worker.rank import Reports, leave  # noqa: E402


class Stopped(BaseException):
    pass


def main() -> None:
    paths, rank = JobPaths(Path(sys.argv[-2])), int(sys.argv[-1])
    spec = json.loads(paths.spec.read_text())
    progress = ProgressWriter(paths.progress(rank))
    reports = Reports(progress, rank, int(os.environ.pop("NBAAS_REPORT")))
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    signal.signal(signal.SIGUSR2, lambda number, _: None)  # it has nothing to save
    faulthandler.register(signal.SIGUSR1)
    streams.install()
    reports.phase(Phase.BORN)
    metrics = MetricsWriter(paths.metrics(rank))
    reports.phase(Phase.JOINED)

    def step(number: int, seconds: float = 0.01) -> None:
        time.sleep(seconds)
        progress.step(number, 1)
        metrics.add(number, 1, {"loss": 1.0 / number})
        if asked:
            raise Stopped

    names = {"step": step, "rank": rank, "world_size": len(spec["slots"]), "os": os, "time": time,
             "signal": signal, "sys": sys, "RankFailure": RankFailure}  # fmt: skip
    reports.phase(Phase.RUNNING)
    code = 0
    try:
        exec((paths.bundle / "cell.py").read_text(), names)
    except Stopped:
        code = 75
    except Exception as failed:  # noqa: BLE001 - of any kind, as in a real rank
        text = "".join(traceback.format_exception(failed))
        secondary = isinstance(failed, ConnectionError)
        failure = RankFailure(rank, type(failed).__name__, str(failed), text, secondary)
        paths.failure(rank).write_text(json.dumps(to_json(failure)))
        code = 1
    if code != 1 and rank == 0:
        paths.result.mkdir()
    metrics.close()
    reports.phase(Phase.DONE)
    leave(code, paths.exit_code(rank))


main()
