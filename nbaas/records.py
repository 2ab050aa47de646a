"""Frozen values that cross a process, to and from JSON, and the layout of a job directory.

Rule: standard library only; a record is rebuilt by `from_json(cls, ...)`, unknown fields are ignored
so that an older reader opens what a newer writer wrote.
"""

from __future__ import annotations

import dataclasses
import enum
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

Record = TypeVar("Record")


class State(enum.StrEnum):
    """States of a job as its journal stores them; jobs/state.py holds the transition table."""

    CREATED = "CREATED"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    STOPPING = "STOPPING"  # finish the step, return the model
    CANCELLING = "CANCELLING"  # kill
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    STOPPED = "STOPPED"
    CANCELLED = "CANCELLED"
    INTERRUPTED = "INTERRUPTED"
    LOST = "LOST"

    @property
    def final(self) -> bool:
        return self in FINAL


FINAL = frozenset(
    {State.SUCCEEDED, State.FAILED, State.STOPPED, State.CANCELLED, State.INTERRUPTED, State.LOST}
)


@dataclass(frozen=True, slots=True)
class Slot:
    """The place of one rank; `gpu` is the CUDA index on the host, None on the CPU."""

    rank: int
    local_rank: int
    world_size: int
    host: str
    threads: int = 1  # OMP_NUM_THREADS of the rank
    gpu: int | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """Another machine whose ranks an agent starts, reached by ssh; `name` is that of its slots."""

    name: str
    user: str = ""
    port: int = 0  # 0: what ssh's own configuration says
    python: str = ""  # "": the notebook's interpreter where that is there too, else python3
    workdir: str = ""  # "": the notebook's folder where that is there too, else ~/nbaas/<its name>
    address: str = ""  # where ranks talk; "": the address that ssh came in on
    interface: str = ""  # of that address


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job is: written once as spec.json before the supervisor starts."""

    id: str
    name: str
    engine: str
    slots: tuple[Slot, ...]
    created: float  # seconds since the epoch
    seed: int | None = None
    batch: str = "global"  # global | per-rank
    python: str = ""  # the interpreter of the ranks
    cwd: str = ""  # the notebook's working directory
    origin: str = ""  # notebook path or kernel id, for display
    env: dict[str, str] = field(default_factory=dict)  # allowed variables of the kernel
    start_timeout: float = 120.0  # seconds: every rank must have joined by then
    stop_grace: float = 10.0  # seconds between the request to stop and SIGKILL
    stall_timeout: float = 300.0  # seconds without progress; 0 is off
    zygote: str = ""  # socket of the process that forks warm ranks; none: start each afresh
    queue: bool = True  # wait until the host has room for all ranks
    max_restarts: int = 0  # how often a gang that fails is started again from its last checkpoint
    checkpoint_every: str = ""  # "100": steps, "30s": seconds; "": only when asked
    resumed_from: str = ""  # id of the job whose checkpoint this one began with
    umask: int = 0o022  # of the kernel: files that the cell writes look as if written there
    modules: str = ""  # a folder with the notebook's own modules, on a host that has not its folder
    hosts: tuple[Host, ...] = ()  # other machines than the supervisor's
    versions: dict[str, str] = field(default_factory=dict)  # python, torch, ...: as on every host
    ssh_config: str = ""  # in place of the user's own
    host_timeout: float = 10.0  # seconds without a word: a host is lost

    @property
    def world_size(self) -> int:
        return len(self.slots)

    @property
    def local_slots(self) -> tuple[Slot, ...]:
        """The slots on the supervisor's own machine."""
        elsewhere = {host.name for host in self.hosts}
        return tuple(slot for slot in self.slots if slot.host not in elsewhere)


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of a rank's metric journal; NaN and infinities as the strings 'nan', 'inf', '-inf'."""

    time: float  # seconds since the epoch
    step: int  # optimizer steps finished
    epoch: int  # passes over the training loader started, from 1; 0 before
    values: dict[str, float]
    # train: what is known of each step | log: what the loop told | sys: the process and its device
    kind: str = "train"


@dataclass(frozen=True, slots=True)
class RankFailure:
    """The user's own error on one rank, as text: written by the rank as failure-r<k>.json."""

    rank: int
    kind: str  # exception class, e.g. 'ValueError'
    message: str
    traceback: str  # formatted, frames of nbaas left out, the cell's own lines
    secondary: bool = False  # ended because another rank did


@dataclass(frozen=True, slots=True)
class JobPaths:
    """The files of a job directory, `<home>/jobs/<id>` (0700)."""

    root: Path

    @property
    def spec(self) -> Path:
        return self.root / "spec.json"

    @property
    def lock(self) -> Path:
        return self.root / "lock"

    @property
    def events(self) -> Path:
        return self.root / "events.jsonl"

    @property
    def heartbeat(self) -> Path:
        return self.root / "hb"

    @property
    def reserve(self) -> Path:
        """Space given up when the disk is full, so that the last state can be written."""
        return self.root / "reserve"

    @property
    def bundle(self) -> Path:
        return self.root / "bundle"

    @property
    def modules(self) -> Path:
        """Modules of the notebook's own folder, as they were at launch: for other hosts."""
        return self.root / "modules"

    def host_log(self, index: int) -> Path:
        """What ssh, and the agent it started, had to say about a host."""
        return self.root / "hosts" / f"{index}.log"

    @property
    def result(self) -> Path:
        return self.root / "result"

    @property
    def checkpoints(self) -> Path:
        return self.root / "ckpt"

    @property
    def facts(self) -> Path:
        """What was sharded, split, gathered; written by rank 0."""
        return self.root / "facts.json"

    @property
    def displays(self) -> Path:
        """Journal of rich outputs (figures) of rank 0."""
        return self.root / "displays.jsonl"

    @property
    def pictures(self) -> Path:
        """Images that the cell logged; `pictures.jsonl` beside it says which, and holds histograms."""
        return self.root / "pictures"

    @property
    def supervisor_log(self) -> Path:
        return self.root / "supervisor.log"

    def metrics(self, rank: int) -> Path:
        return self.root / "metrics" / f"r{rank}.jl"

    def curves(self, rank: int) -> Path:
        """What nbaas.worker.kept derives from `metrics(rank)`; may be absent, old or removed."""
        return self.metrics(rank).with_suffix(".curves")

    def log(self, rank: int) -> Path:
        return self.root / "logs" / f"r{rank}.log"

    def failure(self, rank: int) -> Path:
        return self.root / f"failure-r{rank}.json"

    def progress(self, rank: int) -> Path:
        """Counters of a rank, rewritten in place: nbaas.worker.progress holds the layout."""
        return self.root / "progress" / f"r{rank}"

    def exit_code(self, rank: int) -> Path:
        """Written by a rank as it ends: for a supervisor that is not its parent."""
        return self.root / "progress" / f"r{rank}.exit"

    def scratch(self, rank: int) -> Path:
        """Where files land that a rank above 0 writes: effects happen once, on rank 0."""
        return self.root / "scratch" / f"r{rank}"


def to_json(record: Any) -> dict[str, Any]:
    """Return a frozen record as a JSON object."""
    return dataclasses.asdict(record)


def from_json(cls: type[Record], data: dict[str, Any]) -> Record:
    """Return the record of class `cls`; raises TypeError where a field without default is missing."""
    fields = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    known = {name: value for name, value in data.items() if name in fields}
    if cls is JobSpec:
        known["slots"] = tuple(from_json(Slot, slot) for slot in known["slots"])
        known["hosts"] = tuple(from_json(Host, host) for host in known.get("hosts", ()))
    return cls(**known)
