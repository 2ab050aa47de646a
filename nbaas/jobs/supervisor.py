"""The one process that answers for a job: starts its ranks, watches them, writes its states.

Rules: standard library only, one thread that decides; it waits in one selector and never polls.
Final states are written when no process of the job is left.
"""

from __future__ import annotations

import enum
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from nbaas.engines.base import EngineFactory
from nbaas.errors import NbaasError
from nbaas.jobs.blame import EXIT_STOPPED, accusation, culprit, read_failures
from nbaas.jobs.control import ControlServer
from nbaas.jobs.events import EventLog
from nbaas.jobs.gang import Gang
from nbaas.jobs.seats import Seats
from nbaas.jobs.watch import DiskKeeper, Heartbeat, StallWatch
from nbaas.launchers.local import Launcher
from nbaas.launchers.processes import boot_id, kill_tagged, reap, start_time
from nbaas.launchers.sockets import socket_folder
from nbaas.records import JobPaths, JobSpec, RankFailure, State, to_json
from nbaas.worker.checkpoints import checkpoints
from nbaas.worker.progress import Phase

HEARTBEAT_INTERVAL = 0.5  # seconds
FAILURE_GRACE = 1.0  # seconds for the others to end by themselves, and to say why
START_SLACK = 5.0  # seconds: the ranks' own timeout names who is missing, so it goes first
MAX_PAUSE = 30.0  # seconds before a gang that fails again and again is started once more
LONG_STEPS = 3  # a stop waits for so many times the last step


class Purpose(enum.Enum):
    """Why a gang is ending."""

    STOP = "stop"
    KILL = "kill"
    INTERRUPT = "interrupt"
    FAILURE = "failure"


class Supervisor:
    """Drives one job from STARTING to its final state; `run` returns when it is over."""

    def __init__(
        self,
        spec: JobSpec,
        paths: JobPaths,
        *,
        engine: EngineFactory,
        launcher: Launcher,
        release_name: Callable[[], None],
    ) -> None:
        self.release_name = release_name  # before the last event: the next job may have the name
        self.spec = spec
        self.paths = paths
        self.engine = engine
        self.launcher = launcher
        self.events = EventLog(paths)
        self.selector = selectors.DefaultSelector()
        self.gang = Gang(spec, paths)
        self.purpose: Purpose | None = None
        self.reason = ""
        self.deadline: float | None = None  # CLOCK_MONOTONIC: then SIGKILL
        self._over = False
        self._control = ""
        self._last_failure: tuple[object, ...] = ()
        self._signals: list[int] = []
        self._stalls = StallWatch(spec.stall_timeout)
        self._seats = Seats(paths.root.parent.parent, replace(spec, slots=spec.local_slots))
        self._heartbeat = Heartbeat(paths.heartbeat)
        self._disk: DiskKeeper | None = None

    def run(self) -> None:
        control = ControlServer(
            socket_folder() / f"{self.spec.id}.sock", self.selector, self._answer
        )
        self._watch_signals()
        try:
            self._control = str(control.path)
            self._enter_starting()
            self._heartbeat.beat()
            if self._wait_for_seats():
                while self._run_gang() and self._restarts() and self._start_again():
                    pass
            if not self._over:
                self._finish()
        finally:
            control.close()
            self._heartbeat.close()

    def _enter_starting(self) -> None:
        self.events.enter(
            State.STARTING,
            pid=os.getpid(),
            pid_start=start_time(os.getpid()),
            boot=boot_id(),
            host=socket.gethostname(),
            control=self._control,
        )

    def _wait_for_seats(self) -> bool:
        """Return True once the host has room for the ranks, False when asked to end before."""
        while self.spec.queue and self.spec.local_slots and self.purpose is None:
            seating = self._seats.ask()
            if seating.slots:
                chosen = {slot.rank: slot for slot in seating.slots}
                slots = tuple(chosen.get(slot.rank, slot) for slot in self.spec.slots)
                self.spec = replace(self.spec, slots=slots)
                self.gang.spec = self.spec
                break
            self.events.flag("QUEUED", reason=seating.reason)
            self._turn()
        self.events.flag("QUEUED", on=False)
        self.gang.started = time.monotonic()
        return self.purpose is None

    def _run_gang(self) -> bool:
        """Return True once all ranks have ended, False where they could not be started."""
        self.selector.register(self.gang.report_fd, selectors.EVENT_READ, self._take_reports)
        self._disk = disk = DiskKeeper(self.paths, self.spec.world_size)
        try:
            if self.spec.hosts and not self._wait_for_hosts():
                disk.close()
                self._finish()
                return False
            slots = self.spec.slots
            with self.launcher.rendezvous(self.engine, self.paths, slots) as rendezvous:
                self.gang.start(self.launcher, self.engine, rendezvous)
                for member in self.gang.members:
                    self.selector.register(member.process.pidfd, selectors.EVENT_READ, None)
                while any(member.process.pid == 0 for member in self.gang.alive):
                    self._turn()  # an agent has yet to tell
                pids = {member.rank: member.process.pid for member in self.gang.members}
                self.events.note("SPAWNED", pids=pids)
                while self.gang.alive:
                    self._turn()
        except (OSError, NbaasError) as failed:
            disk.close()
            self._could_not_start(failed)
            return False
        disk.close()
        return True

    def _restarts(self) -> bool:
        """Return whether the gang that has just ended is started once more."""
        history, gang = self.events.history, self.gang
        if self.purpose is not Purpose.FAILURE or history.restarts >= self.spec.max_restarts:
            return False
        if self.spec.hosts:
            return False  # a checkpoint lies on one host only
        failures = read_failures(self.paths, range(self.spec.world_size))
        blamed = culprit(gang.exits, failures)
        told = failures.get(blamed.rank) if blamed is not None else None
        if told is None:
            self._last_failure = ()
            return True
        # The same error at the same step once more: a cell that does that does it every time.
        step = max((seen.step for seen in gang.progress().values()), default=0)
        before, self._last_failure = self._last_failure, (told.kind, told.message, step)
        return self._last_failure != before

    def _start_again(self) -> bool:
        """Make room for a new gang; returns False where someone asks for the end meanwhile."""
        kill_tagged(self.spec.id)
        reap(())
        number = self.events.history.restarts + 1
        blamed = culprit(self.gang.exits, read_failures(self.paths, range(self.spec.world_size)))
        why = accusation(blamed, self.spec, self.paths)["reason"] if blamed else self.reason
        saved = checkpoints(self.paths.checkpoints)
        start = f"the checkpoint of step {saved[0].step}" if saved else "the start of the cell"
        self.events.enter(
            State.RESTARTING,
            reason=f"{why}; restart {number} of {self.spec.max_restarts} from {start}",
        )
        self.selector.unregister(self.gang.report_fd)
        self.gang.close()
        self.gang.forget()
        self.gang = Gang(self.spec, self.paths)
        self.purpose, self.reason, self.deadline = None, "", None
        self.events.flag("STALLED", on=False)
        if not self._paused(min(MAX_PAUSE, 2.0 ** (number - 1) - 1)):
            return False
        self.gang.started = time.monotonic()
        self._enter_starting()
        return True

    def _paused(self, seconds: float) -> bool:
        """Return True after so long, False when asked to end before."""
        until = time.monotonic() + seconds
        while self.purpose is None and time.monotonic() < until:
            self._turn()
        return self.purpose is None

    def _wait_for_hosts(self) -> bool:
        """Return True once all other hosts have what the job needs, False when asked to end before."""
        self.launcher.open(self.selector)
        while self.purpose is None and not self.launcher.ready:
            waiting = self.launcher.waiting_for
            self.events.flag("QUEUED", on=bool(waiting), reason=waiting)
            self._turn()
        self.events.note("SHIPPED", bytes=self.launcher.shipped)
        self.gang.started = time.monotonic()
        return self.purpose is None

    def _turn(self) -> None:
        """Wait for something to happen, at most until the next heartbeat, and act on it."""
        for key, _ in self.selector.select(self._timeout()):
            if key.data is not None:
                key.data()
        self._take_reports()
        self._take_exits()
        while self._signals:
            self._signals.pop()
            self._begin(Purpose.INTERRUPT, "the host asked for it (SIGTERM)", self.spec.stop_grace)
        self._heartbeat.beat()
        if self._heartbeat.removed:
            # Nobody can list it, stop it or read what it writes.
            self._begin(Purpose.KILL, "the job's folder was removed", 0.0)
        if self.gang.members:
            self._look_at_the_clock(time.monotonic())
        self.launcher.turn()
        reap(self.launcher.children)

    def _timeout(self) -> float:
        if self.deadline is None:
            return HEARTBEAT_INTERVAL
        return max(0.0, min(HEARTBEAT_INTERVAL, self.deadline - time.monotonic()))

    def _take_reports(self) -> None:
        self.gang.read_reports()
        starting = self.events.history.state is State.STARTING
        if starting and self.purpose is None and self.gang.all_reached(Phase.JOINED):
            self.events.enter(State.RUNNING)

    def _take_exits(self) -> None:
        for end in self.gang.collect():
            member = self.gang.members[end.rank]
            self.selector.unregister(member.process.pidfd)
            self.events.note("EXITED", rank=end.rank, code=end.code)
            if end.failed:
                self._begin(Purpose.FAILURE, "", FAILURE_GRACE)
            elif end.code == EXIT_STOPPED:
                # The host has sent SIGTERM to everybody, and the rank was faster than we are.
                self._begin(Purpose.INTERRUPT, "ranks were asked to stop", self.spec.stop_grace)

    def _begin(self, purpose: Purpose, reason: str, grace: float) -> None:
        """Begin to end the gang, once: a second reason to end changes nothing, but for KILL."""
        if purpose is Purpose.KILL:
            self._cancel(reason)
            return
        if self.purpose is not None:
            return
        self.purpose, self.reason = purpose, reason
        if purpose is not Purpose.FAILURE:
            self.gang.ask()
            slowest = max((p.step_time for p in self.gang.progress().values()), default=0.0)
            grace = max(grace, LONG_STEPS * slowest)
        self.deadline = time.monotonic() + grace

    def _cancel(self, reason: str) -> None:
        state = self.events.history.state
        if state is not State.CANCELLING and self.purpose in (None, Purpose.STOP):
            self.events.enter(State.CANCELLING, reason=reason)
            self.purpose, self.reason = Purpose.KILL, reason
        self.gang.kill()

    def _look_at_the_clock(self, now: float) -> None:
        if self.deadline is not None:
            if now >= self.deadline:
                self._grace_is_over(now)
            return
        progress = self.gang.progress()
        if self.events.history.state is State.STARTING:
            if now - self.gang.started > self.spec.start_timeout + START_SLACK:
                self._start_took_too_long()
            return
        if self._disk is not None:
            self.events.flag("DISK_FULL", on=self._disk.scarce)
        stalled = self._stalls.stalled(progress, now)
        if stalled and "STALLED" not in self.events.history.flags:
            self.gang.dump_stacks()
        self.events.flag("STALLED", on=bool(stalled), ranks=stalled)

    def _grace_is_over(self, now: float) -> None:
        if self.purpose is Purpose.STOP:
            seconds = self.spec.stop_grace
            self._cancel(f"the ranks did not finish their step within {seconds:g} s")
        returning = [m for m in self.gang.alive if m.phase is Phase.RETURNING]
        if self.purpose is not Purpose.KILL and returning:
            # The values that come back are being written: that is worth waiting for, once.
            self.gang.kill(sparing=Phase.RETURNING)
            if now < (self.deadline or now) + self.spec.stop_grace:
                return
        self.gang.kill()

    def _start_took_too_long(self) -> None:
        late = [m.rank for m in self.gang.members if m.phase < Phase.JOINED]
        listed = ", ".join(map(str, late))
        self.gang.dump_stacks()
        self._begin(
            Purpose.FAILURE,
            f"rank {listed} did not join within {self.spec.start_timeout:g} s",
            FAILURE_GRACE,
        )

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        verb = request.get("verb")
        if verb == "status":
            return {"state": self.events.history.state, "pid": os.getpid()}
        if verb == "stop":
            if self.purpose is None:
                self.events.enter(State.STOPPING, reason="asked to stop")
                grace = float(request.get("grace") or self.spec.stop_grace)
                self._begin(Purpose.STOP, "stopped on request", grace)
            return {"ok": True}
        if verb == "checkpoint":
            return {"ok": True, "ranks": self.gang.checkpoint()}
        if verb == "kill":
            self._begin(Purpose.KILL, "killed on request", 0.0)
            return {"ok": True}
        return {"error": f"unknown verb {verb!r}"}

    def _could_not_start(self, failed: Exception) -> None:
        self.gang.kill()
        self.launcher.close()
        kill_tagged(self.spec.id)
        failure = RankFailure(0, type(failed).__name__, str(failed), "")
        self._end(State.FAILED, reason=f"could not start: {failed}", failure=to_json(failure))

    def _finish(self) -> None:
        """Write the final state, once nothing of the job is left."""
        self.launcher.close()
        kill_tagged(self.spec.id)
        reap(())
        state, details = self._verdict()
        self.gang.close()
        self._end(state, **details)

    def _end(self, state: State, **details: Any) -> None:
        self._over = True
        self._seats.leave()
        self.release_name()
        self.events.enter(state, **details)
        self.events.close()

    def _verdict(self) -> tuple[State, dict[str, Any]]:
        exits = self.gang.exits
        if self.purpose is Purpose.KILL:
            return State.CANCELLED, {"reason": self.reason}
        if exits and all(end.code == 0 for end in exits):
            return State.SUCCEEDED, {}
        blamed = culprit(exits, read_failures(self.paths, [end.rank for end in exits]))
        if blamed is not None:
            return State.FAILED, accusation(blamed, self.spec, self.paths)
        if self.purpose is Purpose.FAILURE:
            return State.FAILED, {"reason": self.reason}
        if self.purpose is Purpose.STOP:
            return State.STOPPED, {"reason": self.reason}
        return State.INTERRUPTED, {"reason": self.reason}

    def _watch_signals(self) -> None:
        read_end, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, lambda number, frame: self._signals.append(number))  # noqa: ARG005
        self.selector.register(read_end, selectors.EVENT_READ, lambda: os.read(read_end, 512))
