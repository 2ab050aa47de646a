"""The supervisor's end of one host: an ssh process, frames both ways, the ranks that run there.

Rule: nothing here waits.  What a host says is checked before it touches the job's folder.
"""

from __future__ import annotations

import contextlib
import enum
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

from nbaas.errors import HostError, NbaasError
from nbaas.launchers.facts import HostFacts, lacks
from nbaas.launchers.frames import FrameReader, FrameWriter, dispatch, encoded, read_available
from nbaas.launchers.local import RankStart
from nbaas.launchers.mirror import write_mirrored
from nbaas.launchers.shipment import Piece, frames_of, listing, pieces_of
from nbaas.launchers.ssh import agent_command, explained, start_agent
from nbaas.records import Host, JobPaths, JobSpec, RankFailure, from_json, to_json
from nbaas.worker.progress import LAYOUT, MOVED_AT, NUMBER

BEAT_INTERVAL = 1.0  # seconds
END_TIMEOUT = 3.0  # seconds for an agent to end what its ranks have left
CONNECT_TIMEOUT = 30.0  # seconds from ssh's start to the agent's first word
TAIL = 4096  # bytes of what ssh said


class Stage(enum.IntEnum):
    """How far a host is."""

    CONNECTING = 0
    MET = 1  # its facts are here and fit
    SEATING = 2
    SEATED = 3  # its ranks have their place
    SHIPPING = 4
    READY = 5
    LOST = 6


class RemoteRank:
    """A rank on another host; `pidfd` is a pipe that hangs up when the host has told its end."""

    def __init__(self, link: HostLink, start: RankStart) -> None:
        self.rank = start.slot.rank
        self.pid = 0  # there; 0 until the agent has said it
        self.report = start.report
        self.pidfd, self._end = os.pipe2(os.O_CLOEXEC)
        self._link = link
        self._code: int | None = None

    def exit_code(self) -> int | None:
        return self._code

    def send(self, number: signal.Signals) -> None:
        if self._code is None:
            self._link.send({"verb": "signal", "rank": self.rank, "number": int(number)})
            if self._link.stage is Stage.LOST:
                self.ended(-signal.SIGKILL)

    def ended(self, code: int) -> None:
        if self._code is None:
            self._code = code
            os.close(self._end)

    def close(self) -> None:
        self.ended(-signal.SIGKILL)
        os.close(self.pidfd)


class HostLink:
    """One host of a job; `stage` moves on as frames come in, `failure` says why it cannot."""

    def __init__(self, spec: JobSpec, paths: JobPaths, host: Host, index: int, secret: str) -> None:
        self.host = host
        self.stage = Stage.CONNECTING
        self.failure: NbaasError | None = None
        self.waiting_for = ""  # why its ranks have no place yet
        self.facts: HostFacts | None = None
        self.network: dict[str, Any] = {}  # address, interface, port, workdir
        self.shipped = 0  # bytes of pieces that were sent
        self.process: subprocess.Popen[bytes] | None = None
        self._spec = spec
        self._paths = paths
        self._index = index
        self._secret = secret
        self._log = paths.host_log(index)
        self._ranks: dict[int, RemoteRank] = {}
        self._pieces: dict[str, tuple[Piece, Any]] = {}
        self._reader = FrameReader(greeted=False)
        self._heard = self._beaten = time.monotonic()
        self.ranks = tuple(slot.rank for slot in spec.slots if slot.host == host.name)

    def connect(self, selector: selectors.BaseSelector) -> None:
        command = agent_command(
            self.host, config=self._spec.ssh_config, timeout=self._spec.host_timeout
        )
        self._selector = selector
        self.process = start_agent(command, self._log, os.environ)
        assert self.process.stdin is not None  # noqa: S101 - pipes were asked for
        assert self.process.stdout is not None  # noqa: S101
        self._in, fd = self.process.stdout.fileno(), self.process.stdin.fileno()
        for end in (self._in, fd):
            os.set_blocking(end, False)
        self._out = FrameWriter(fd)
        selector.register(self._in, selectors.EVENT_READ, self._read)

    # ---- what the supervisor asks for --------------------------------------------------------------

    def ask_for_seats(self) -> None:
        self.stage = Stage.SEATING
        self.send(
            {
                "verb": "job",
                "spec": to_json(replace(self._spec, hosts=(), versions={}, ssh_config="")),
                "host": asdict(self.host),
                "index": self._index,
                "secret": self._secret if 0 in self.ranks else "",
            }
        )

    def ship(self) -> None:
        self.stage = Stage.SHIPPING
        self._pieces = pieces_of(self._paths)
        listed = listing([piece for piece, _ in self._pieces.values()])
        self.send({"verb": "ship", "pieces": listed})

    def start(self, start: RankStart) -> RemoteRank:
        process = self._ranks[start.slot.rank] = RemoteRank(self, start)
        self.send({"verb": "start", "rank": start.slot.rank, "env": dict(start.engine_env)})
        return process

    def send(self, message: dict[str, Any]) -> None:
        if self.stage is not Stage.LOST:
            self._out.send(message)
            self.flush()

    def turn(self, now: float) -> None:
        """Do what is due: a beat, the next bytes of a file; notice that the host is silent."""
        if self.stage is Stage.LOST or self.process is None:
            return
        if now - self._beaten >= BEAT_INTERVAL and self.stage > Stage.CONNECTING:
            self._beaten = now
            self._out.send({"verb": "beat"})
        self.flush()
        silent = now - self._heard
        if self.stage is Stage.CONNECTING:
            if silent > CONNECT_TIMEOUT:
                self._lost(f"{self.host.name}: no agent came up within {CONNECT_TIMEOUT:g} s")
        elif silent > self._spec.host_timeout:
            self._lost(f"its host has not answered for {self._spec.host_timeout:g} s")

    def flush(self) -> None:
        try:
            self._out.flush()
        except OSError:
            return  # its end is seen, and explained, where it is read
        waiting = self._out.fd in self._selector.get_map()
        if waiting and self._out.idle:
            self._selector.unregister(self._out.fd)
        elif not waiting and not self._out.idle:
            self._selector.register(self._out.fd, selectors.EVENT_WRITE, self.flush)

    def let_go(self) -> None:
        """Tell the agent that the job is over; what a killed agent left is swept up by another."""
        if self.process is None:
            return
        if self.stage is Stage.LOST:
            if self._ranks:
                self._sweep()
            return
        self.send({"verb": "end"})
        self._hang_up()

    def _sweep(self) -> None:
        command = agent_command(self.host, config=self._spec.ssh_config)
        with contextlib.suppress(OSError, NbaasError):
            self._end_process()
            self.process = start_agent(command, self._log, os.environ)
            assert self.process.stdin is not None  # noqa: S101 - pipes were asked for
            with self.process.stdin as pipe:
                pipe.write(encoded({"verb": "sweep", "job": self._spec.id}))

    def close(self) -> None:
        """Return once ssh has ended; it is not waited for longer than END_TIMEOUT."""
        if self.process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(END_TIMEOUT)
            self._end_process()

    def _end_process(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def _hang_up(self) -> None:
        assert self.process is not None  # noqa: S101 - of a connected host
        for fd in (self._in, self._out.fd):
            if fd in self._selector.get_map():
                self._selector.unregister(fd)
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    # ---- what the host says ---------------------------------------------------------------------------

    def _read(self) -> None:
        data, ended = read_available(self._in)
        self._heard = time.monotonic()
        try:
            for message, body in self._reader.feed(data):
                dispatch(self, message, body)
        except NbaasError as failed:
            self._lost(failed.message)
        except (OSError, ValueError, KeyError, TypeError) as failed:
            self._lost(f"{type(failed).__name__}: {failed}")
        if ended and self.stage is not Stage.LOST:
            self._ended()

    def _ended(self) -> None:
        assert self.process is not None  # noqa: S101 - of a connected host
        try:
            code: int | None = self.process.wait(1.0)
        except subprocess.TimeoutExpired:
            code = None
        if self.stage is Stage.CONNECTING or (code and not self._ranks):
            self.failure = explained(self.host, code, self._said())
            self._lost(self.failure.message)
        else:
            # ssh's own keepalive may be the first to notice.
            silent = "not responding" in self._said()
            seconds = f"has not answered for {self._spec.host_timeout:g} s"
            ended = "no longer answers: the connection has ended"
            self._lost(f"its host {seconds if silent else ended}")

    def _said(self) -> str:
        try:
            return self._log.read_bytes()[-TAIL:].decode(errors="replace")
        except OSError:
            return ""

    def _lost(self, why: str) -> None:
        """Give the host up: its ranks count as killed, and the reason is on file for each."""
        if self.stage is Stage.LOST:
            return
        if self.failure is None:
            self.failure = HostError(f"{self.host.name}: {why}")
        self.stage = Stage.LOST
        self._hang_up()
        for rank, process in self._ranks.items():
            if process.exit_code() is None:
                place = self._paths.failure(rank)
                if not place.exists():
                    failure = RankFailure(rank, "Killed", why, "")
                    place.write_text(json.dumps(to_json(failure)))
                process.ended(-signal.SIGKILL)

    def on_facts(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self.facts = facts = facts_from(message)
        self.stage = Stage.MET
        for wrong, mend in lacks(self.host, facts, self._spec.versions, engine=self._spec.engine):
            self.failure = HostError(f"{self.host.name}: {wrong}", hint=mend)
            self._lost(wrong)
            return

    def on_beat(self, message: dict[str, Any], body: bytes) -> None:
        pass

    def on_busy(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self.waiting_for = f"{self.host.name}: {message['reason']}"

    def on_seated(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self.network, self.waiting_for = message, ""
        self.stage = Stage.SEATED

    def on_want(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        by_digest = {piece.digest: (piece, path) for piece, path in self._pieces.values()}
        wanted = [by_digest[digest] for digest in message["digests"]]
        self.shipped = sum(piece.size for piece, _ in wanted)
        self._out.send_all(_frames(wanted))
        self.flush()

    def on_ready(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self.stage = Stage.READY

    def on_refused(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self.failure = HostError(f"{self.host.name}: {message['error']}", hint=message["hint"])
        self._lost(str(message["error"]))

    def on_started(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self._own(message).pid = int(message["pid"])

    def on_phase(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        process = self._own(message)
        os.write(process.report, b"%d %d\n" % (process.rank, int(message["phase"])))

    def on_exit(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self._own(message).ended(int(message["code"]))

    def on_file(self, message: dict[str, Any], body: bytes) -> None:
        write_mirrored(self._paths.root, self.ranks, message, body)

    def on_progress(self, message: dict[str, Any], body: bytes) -> None:
        """Rewrite a rank's counters, the time of its last move as this host's clock has it."""
        rank = self._own(message).rank
        if len(body) != LAYOUT.size:
            return
        counters = bytearray(body)
        moved = NUMBER.unpack_from(counters, MOVED_AT)[0]
        here = time.monotonic_ns() - max(0, int(message["mono"]) - moved)
        NUMBER.pack_into(counters, MOVED_AT, max(0, here))
        path = self._paths.progress(rank)
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.pwrite(fd, counters, 0)
        finally:
            os.close(fd)

    def _own(self, message: dict[str, Any]) -> RemoteRank:
        """Return the rank that a message is about; raises HostError for one of another host."""
        process = self._ranks.get(int(message["rank"]))
        if process is None:
            raise HostError(f"it speaks of rank {message['rank']}, which does not run there")
        return process


def facts_from(message: dict[str, Any]) -> HostFacts:
    """Return a host's own description, lists as tuples."""
    fields = {n: tuple(v) if isinstance(v, list) else v for n, v in message.items()}
    return from_json(HostFacts, fields)


def _frames(wanted: list[tuple[Piece, Any]]) -> Iterator[bytes]:
    for piece, path in wanted:
        yield from frames_of(piece, path)
