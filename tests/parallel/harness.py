"""Runs one source plainly and on N ranks, each in a fresh process, and compares what came out."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from tests.parallel.compare import differences
from tests.parallel.sources import Case

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GRACE = 5.0  # seconds the other ranks get to end after one has failed
IDLE = 15.0  # seconds without work after which ranks are called hung
BUSY = 0.02  # processor seconds that count as work
POLL = 1.0  # seconds
LIGHT = frozenset(["sklearn", "tqdm", "matplotlib", "pandas"])  # imported ahead at little cost
STACK_LINES = 40


@dataclass(frozen=True)
class Run:
    """What came out of one run: of rank 0, and every rank's values."""

    text: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    by_rank: tuple[dict[str, Any], ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    seconds: float = 0.0
    failure: str = ""  # '' or what ended it, with the stacks of a hang
    refused: bool = False


@dataclass(frozen=True)
class Verdict:
    case: Case
    world: int
    word: str  # same | different | refused | failed | hung
    why: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class ForkServer:
    """The client's side of forkserver.py: ask for a child, wait for its end."""

    def __init__(self) -> None:
        env = os.environ | {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "MPLBACKEND": "agg",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)]),
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "false",
        }
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "forkserver.py")],
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lock = threading.Lock()
        self._forked: queue.Queue[int] = queue.Queue()
        self._ended: dict[int, int] = {}
        self._news = threading.Condition()
        assert "ready" in json.loads(self._process.stdout.readline())
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            answer = json.loads(line)
            if "status" not in answer:
                self._forked.put(answer["pid"])
                continue
            with self._news:
                self._ended[answer["pid"]] = answer["status"]
                self._news.notify_all()

    def fork(self, request: dict[str, Any]) -> int:
        with self._lock:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            return self._forked.get(timeout=120)

    def ended(self, pids: list[int], wait: float) -> dict[int, int]:
        """Return the exit codes of those that have ended, after all have or `wait` seconds."""
        deadline = time.monotonic() + wait
        with self._news:
            while True:
                ended = {pid: self._ended[pid] for pid in pids if pid in self._ended}
                left = deadline - time.monotonic()
                if len(ended) == len(pids) or left <= 0:
                    return ended
                self._news.wait(left)

    def statuses(self, pids: list[int], timeout: float) -> dict[int, int]:
        """Return the exit codes of those that ended by themselves.

        Not waited for: the rest after one has failed, ranks that have not used the processor for
        a while (they wait for each other), and anything past `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        used, since = 0.0, time.monotonic()
        while True:
            ended = self.ended(pids, POLL)
            if len(ended) == len(pids):
                return ended
            now = time.monotonic()
            if any(ended.values()):
                return self.ended(pids, GRACE)
            seconds = processor_seconds([pid for pid in pids if pid not in ended])
            if abs(seconds - used) > BUSY:
                used, since = seconds, now
            if now > deadline or now - since > IDLE:
                return ended

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=30)


class Harness:
    """Runs cases; plain runs are kept, so that each world compares with the same one."""

    def __init__(
        self,
        *,
        engine: str = "ddp",
        timeout: float = 300.0,
        batch: str = "global",
        keep: bool = False,
    ) -> None:
        self.engine, self.timeout, self.batch, self.keep = engine, timeout, batch, keep
        self.folder = Path(tempfile.mkdtemp(prefix="same-numbers-"))
        # Frameworks are imported ahead in a server of their own: a fork costs what it has to copy.
        self._servers: dict[bool, ForkServer] = {}
        self._plain: dict[tuple[Path, Any], Run] = {}
        self._count = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def plain(self, case: Case) -> Run:
        key = (case.path, tuple(sorted(case.env.items())))
        if key not in self._plain:
            self._plain[key] = self._run(case, [None], [{}], self._new_folder(case, 0))
        return self._plain[key]

    def on_ranks(self, case: Case, world: int) -> Run:
        from nbaas.engines.base import engine_named
        from nbaas.records import Slot

        factory = engine_named("serial" if world == 1 else self.engine)
        slots = tuple(
            Slot(rank=rank, local_rank=rank, world_size=world, host="localhost")
            for rank in range(world)
        )
        folder = self._new_folder(case, world)
        with factory.rendezvous(folder, slots) as meeting:
            environments = factory.environment(slots, meeting)
            envs = [dict(environments[slot.rank]) for slot in slots]
            return self._run(case, list(slots), envs, folder, factory.name)

    def verdict(self, case: Case, world: int) -> Verdict:
        plain = self.plain(case)
        if plain.failure:
            return Verdict(case, world, "failed", "plainly: " + plain.failure)
        run = self.on_ranks(case, world)
        if run.failure:
            word = (
                "refused" if run.refused else "hung" if run.failure.startswith("hung") else "failed"
            )
            return Verdict(case, world, word, run.failure, run.facts, run.seconds)
        found = compared(plain, run, case)
        why = "\n".join(found)
        return Verdict(case, world, "different" if found else "same", why, run.facts, run.seconds)

    def _server_for(self, case: Case) -> ForkServer:
        light = {name.partition(".")[0] for name in case.needs} <= LIGHT
        with self._lock:
            if light not in self._servers:
                self._servers[light] = ForkServer()
            return self._servers[light]

    def _new_folder(self, case: Case, world: int) -> Path:
        with self._lock:
            self._count += 1
            folder = self.folder / f"{self._count:04}-{case.name}-{world}"
        for name in ("cwd", "scratch"):
            (folder / name).mkdir(parents=True)
        return folder

    def _run(
        self,
        case: Case,
        slots: list[Any],
        envs: list[dict[str, str]],
        folder: Path,
        engine: str = "",
    ) -> Run:
        began = time.monotonic()
        requests = [
            {
                "folder": str(folder),
                "cwd": str(folder / "cwd"),
                "scratch": str(folder / "scratch" / f"r{rank}"),
                "path": str(case.path),
                "phases": case.phases,
                "ignore": sorted(case.ignore),
                "rank": rank,
                "slot": None if slot is None else asdict(slot),
                "env": envs[rank],
                "case_env": case.env,
                "needs": case.needs,
                "engine": engine,
                "batch": self.batch,
            }
            for rank, slot in enumerate(slots)
        ]
        server = self._server_for(case)
        pids = [server.fork(request) for request in requests]
        statuses = server.statuses(pids, self.timeout)
        stacks = self._end(server, pids, statuses, folder)
        seconds = time.monotonic() - began
        if stacks or any(statuses.values()):
            return failed(folder, len(slots), pids, statuses, stacks, seconds)
        return finished(folder, len(slots), seconds)

    def _end(
        self, server: ForkServer, pids: list[int], statuses: dict[int, int], folder: Path
    ) -> dict[int, str]:
        """Kill the ranks that still run; return where each of them was."""
        running = [rank for rank, pid in enumerate(pids) if pid not in statuses]
        if not running:
            return {}
        before = {rank: len((folder / f"err-{rank}.txt").read_text()) for rank in running}
        for rank in running:
            os.kill(pids[rank], signal.SIGUSR1)
        time.sleep(0.5)  # the handler writes the stacks from the signalled process
        stacks = {
            rank: (folder / f"err-{rank}.txt").read_text()[before[rank] :] for rank in running
        }
        for rank in running:
            os.kill(pids[rank], signal.SIGKILL)
        server.ended(pids, GRACE)
        return stacks


def processor_seconds(pids: list[int]) -> float:
    """Return the processor time that the processes and their children have used."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(pid)
            for one in (process, *process.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    times = one.cpu_times()
                    total += times.user + times.system + times.children_user
    return total


def finished(folder: Path, world: int, seconds: float) -> Run:
    outcomes = [pickle.loads((folder / f"values-{rank}.pkl").read_bytes()) for rank in range(world)]
    return Run(
        text=(folder / "out-0.txt").read_text(),
        values=outcomes[0]["values"],
        by_rank=tuple(outcome["values"] for outcome in outcomes),
        facts=outcomes[0]["facts"],
        steps=outcomes[0]["steps"],
        seconds=seconds,
    )


def failed(
    folder: Path,
    world: int,
    pids: list[int],
    statuses: dict[int, int],
    stacks: dict[int, str],
    seconds: float,
) -> Run:
    told = [
        (rank, json.loads(path.read_text()))
        for rank in range(world)
        if (path := folder / f"failure-{rank}.json").exists()
    ]
    dead = [
        f"rank {rank} exited with {statuses[pid]}: {tail(folder / f'err-{rank}.txt')}"
        for rank, pid in enumerate(pids)
        if statuses.get(pid) and not any(rank == r for r, _ in told)
    ]
    told.sort(key=lambda pair: pair[1]["lost"])
    lines = [
        f"rank {rank}: {f['kind']}: {f['message']}\n{f['traceback']}" for rank, f in told
    ] + dead
    if not lines:
        lines = ["hung"]
    lines += [f"rank {rank} was at\n{outline(stack)}" for rank, stack in stacks.items()]
    return Run(
        failure="\n".join(lines),
        refused=bool(told) and all(f["refused"] for _, f in told),
        seconds=seconds,
    )


def tail(path: Path) -> str:
    return path.read_text()[-2000:]


def outline(stack: str) -> str:
    return "\n".join(stack.splitlines()[:STACK_LINES])


def compared(plain: Run, run: Run, case: Case) -> list[str]:
    """Return the differences of rank 0's text and values from the plain run, and between ranks."""
    first, rest = run.by_rank[0], run.by_rank[1:]
    apart = [
        f"rank {rank} against rank 0: {line}"
        for rank, values in enumerate(rest, 1)
        for line in differences({"text": "", "values": first}, {"text": "", "values": values}, 1e-5)
    ]
    if case.statistical:
        plain, run = without_arrays(plain), without_arrays(run)
    expected = {"text": untimed(plain.text, case.timed), "values": plain.values}
    mine = {"text": untimed(run.text, case.timed), "values": run.values}
    return differences(expected, mine, case.rtol) + apart


def without_arrays(run: Run) -> Run:
    """Return the run without tensors of floats, which random masks leave in no relation."""

    def kept(values: dict[str, Any]) -> dict[str, Any]:
        return {
            path: value
            for path, value in values.items()
            if not (isinstance(value, np.ndarray) and value.dtype.kind == "f")
        }

    return replace(run, values=kept(run.values))


def untimed(text: str, timed: tuple[str, ...]) -> str:
    """Return the lines that hold no measured time."""
    return "\n".join(line for line in text.splitlines() if not any(word in line for word in timed))
