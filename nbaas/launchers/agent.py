"""`python -I -m nbaas.launchers.agent`: starts and answers for the ranks of one job on this host.

Started by ssh for a supervisor elsewhere; frames come on stdin and go on stdout.  Rules: when stdin
ends, or nothing has come for long, its ranks are killed; what they leave behind is killed by tag.  One
thread that decides, which also forks: PR_SET_PDEATHSIG follows it.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nbaas.config import load_settings
from nbaas.engines.rendezvous import KeyValueServer
from nbaas.errors import HostError, NbaasError
from nbaas.launchers import zygote
from nbaas.launchers.facts import facts_here
from nbaas.launchers.forked import ZygoteLauncher
from nbaas.launchers.frames import (
    GREETING,
    FrameReader,
    FrameWriter,
    dispatch,
    encoded,
    read_available,
)
from nbaas.launchers.local import RankProcess, RankStart
from nbaas.launchers.mirror import Mirror
from nbaas.launchers.network import chosen_network
from nbaas.launchers.processes import become_subreaper, kill_tagged, reap
from nbaas.launchers.residence import Residence, spec_here
from nbaas.launchers.shipment import Depot, Piece
from nbaas.records import Host, JobSpec, from_json

LOOK_INTERVAL = 0.1  # seconds between looks at what ranks have written
BEAT_INTERVAL = 1.0  # seconds
PATIENCE = 3.0  # times the supervisor's own limit: it must notice first
WARM_TIMEOUT = 60.0  # seconds for torch to be imported; then ranks import it themselves


class Agent:
    """Serves one connection; `serve` returns when the job is over here."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.settings = load_settings()
        self.selector = selectors.DefaultSelector()
        self.reader = FrameReader()
        self.out = FrameWriter(stdout)
        self._stdin = stdin
        self._heard = time.monotonic()
        self._beaten = self._looked = 0.0
        self._limit = 60.0  # seconds of silence; the job says how long
        self._over = False
        self._residence: Residence | None = None
        self._spec: JobSpec | None = None
        self._pieces: list[Piece] = []
        self._missing: set[str] = set()
        self._meeting: KeyValueServer | None = None
        self._warm: zygote.Awaited | None = None
        self._ranks: dict[int, RankProcess] = {}
        self._lifelines: dict[int, int] = {}
        self._mirror: Mirror | None = None
        self._moved: dict[int, bytes] = {}
        self._report, self._report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._partial = b""
        for fd in (stdin, stdout):
            os.set_blocking(fd, False)
        self.selector.register(stdin, selectors.EVENT_READ, self._read)
        self.selector.register(self._report, selectors.EVENT_READ, self._take_reports)

    def serve(self) -> None:
        os.write(self.out.fd, GREETING)
        self.out.send({"verb": "facts", **asdict(facts_here(self.settings))})
        try:
            while not self._over:
                self._turn()
        finally:
            self._leave()

    def _turn(self) -> None:
        self._await_room()
        for key, _ in self.selector.select(LOOK_INTERVAL if self._spec else BEAT_INTERVAL):
            if key.data is not None:
                key.data()
        now = time.monotonic()
        self._collect()
        if self._warm is not None and self._warm.is_over(now):
            self._warm = None
            self._say_ready()
        if now - self._looked >= LOOK_INTERVAL and self._mirror is not None:
            self._looked = now
            self._look()
        if now - self._beaten >= BEAT_INTERVAL:
            self._beaten = now
            self.out.send({"verb": "beat"})
            if self._residence is not None and not self._residence.seated:
                self._ask_for_room()
        if now - self._heard > self._limit:
            self._over = True  # the network is cut: sshd may never tell
        self._flush()
        reap([process.pid for process in self._ranks.values()])

    def _await_room(self) -> None:
        waiting = self.out.fd in self.selector.get_map()
        if waiting and self.out.idle:
            self.selector.unregister(self.out.fd)
        elif not waiting and not self.out.idle:
            self.selector.register(self.out.fd, selectors.EVENT_WRITE, None)

    def _flush(self) -> None:
        try:
            self.out.flush()
        except OSError:
            self._over = True

    def _read(self) -> None:
        data, ended = read_available(self._stdin)
        self._heard = time.monotonic()
        try:
            for message, body in self.reader.feed(data):
                dispatch(self, message, body)
        except (NbaasError, OSError, ValueError, KeyError, TypeError) as failed:
            known = isinstance(failed, NbaasError)
            text = failed.message if isinstance(failed, NbaasError) else f"{failed}"
            error = text if known else f"{type(failed).__name__}: {text}"
            hint = failed.hint if isinstance(failed, NbaasError) else ""
            self.out.send({"verb": "refused", "error": error, "hint": hint})
        if ended:
            self._over = True

    # ---- what the supervisor asks for --------------------------------------------------------------

    def on_beat(self, message: dict[str, Any], body: bytes) -> None:
        pass

    def on_end(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        self._over = True
        if self._residence is not None:
            self._residence.finished = True

    def on_sweep(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        """End what an agent that was killed has left of a job."""
        kill_tagged(str(message["job"]))
        self._over = True

    def on_job(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        """Take a place for the ranks of a job; answers `seated`, or `busy` until there is room."""
        host = from_json(Host, message["host"])
        spec = from_json(JobSpec, message["spec"])
        self._limit = PATIENCE * spec.host_timeout
        found = os.environ.get("SSH_CONNECTION", "").split()
        address, interface = chosen_network(host.address, host.interface, (found or [""])[2:3][0])
        self._residence = Residence(self.settings, spec, host, int(message["index"]))
        self._spec = spec_here(self.settings, spec, host, self._residence)
        self._network = {"address": address, "interface": interface}
        if self.settings.warm and spec.zygote:
            self._warm = zygote.Awaited(zygote.ensure(self.settings), WARM_TIMEOUT)
        if message.get("secret"):
            self._meeting = KeyValueServer(address, str(message["secret"]))
        self._ask_for_room()

    def _ask_for_room(self) -> None:
        if self._residence is None or self._spec is None:
            return
        taken, reason = self._residence.ask(self._spec.slots)
        if not taken:
            self.out.send({"verb": "busy", "reason": reason})
            return
        self._spec = replace(self._spec, slots=taken)
        port = self._meeting.port if self._meeting else 0
        words = {**self._network, "port": port, "workdir": self._spec.cwd}
        self.out.send({"verb": "seated", **words})

    def on_ship(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        """Say which of the pieces are missing here."""
        self._pieces = [from_json(Piece, piece) for piece in message["pieces"]]
        self._depot = Depot(self.settings.blobs)
        self._depot.prune()
        missing = self._depot.missing(self._pieces)
        self._missing = set(missing)
        self.out.send({"verb": "want", "digests": missing})
        self._say_ready()

    def on_piece(self, message: dict[str, Any], body: bytes) -> None:
        self._depot.take(message["digest"], body, last=message["last"])
        if message["last"]:
            self._missing.discard(message["digest"])
            self._say_ready()

    def _say_ready(self) -> None:
        spec, residence = self._spec, self._residence
        if not self._pieces or self._missing or self._warm is not None or self._mirror is not None:
            return
        if spec is None or residence is None or not residence.seated:
            return
        self._depot.lay_out(self._pieces, residence.root)
        residence.paths.spec.write_text(json.dumps(asdict(spec)))
        residence.tell_where_files_land(spec)
        self._mirror = Mirror(residence.root)
        self.out.send({"verb": "ready"})

    def on_start(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        spec, residence, rank = self._spec, self._residence, int(message["rank"])
        if spec is None or residence is None:
            raise HostError("asked to start a rank of no job")
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            start = RankStart(
                spec, spec.slots[rank], residence.paths, message["env"], read_end, self._report_end
            )
            process = ZygoteLauncher(spec.zygote if spec.zygote else "").start(start)
        except BaseException:
            os.close(write_end)
            raise
        finally:
            os.close(read_end)
        self._lifelines[rank] = write_end
        self._ranks[rank] = process
        self.selector.register(process.pidfd, selectors.EVENT_READ, None)
        self.out.send({"verb": "started", "rank": rank, "pid": process.pid})

    def on_signal(self, message: dict[str, Any], body: bytes) -> None:  # noqa: ARG002
        process = self._ranks.get(int(message["rank"]))
        if process is not None:
            process.send(signal.Signals(int(message["number"])))

    # ---- what ranks do ----------------------------------------------------------------------------

    def _take_reports(self) -> None:
        data, _ = read_available(self._report)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            rank, phase = map(int, line.split())
            self.out.send({"verb": "phase", "rank": rank, "phase": phase})

    def _collect(self) -> None:
        for rank, process in list(self._ranks.items()):
            code = process.exit_code()
            if code is None:
                continue
            self._take_reports()
            self.selector.unregister(process.pidfd)
            process.close()
            os.close(self._lifelines.pop(rank))
            del self._ranks[rank]
            self.out.send_all(self._last_words(rank, code))

    def _last_words(self, rank: int, code: int) -> Iterator[bytes]:
        """Yield all that the rank has left, then its exit code."""
        yield from self._news()
        yield encoded({"verb": "exit", "rank": rank, "code": code})

    def _look(self) -> None:
        if self.out.room and self.out.drained:
            self.out.send_all(self._news())

    def _news(self) -> Iterator[bytes]:
        if self._residence is None or self._mirror is None:
            return
        for message, data in self._mirror.changes():
            yield encoded(message, data)
        for rank in self._residence.ranks:
            path = self._residence.paths.progress(rank)
            with contextlib.suppress(OSError):
                counters = path.read_bytes()
                if counters != self._moved.get(rank):
                    self._moved[rank] = counters
                    words = {"verb": "progress", "rank": rank, "mono": time.monotonic_ns()}
                    yield encoded(words, counters)

    def _leave(self) -> None:
        """End everything of the job on this host."""
        for process in self._ranks.values():
            process.send(signal.SIGKILL)
        for fd in self._lifelines.values():
            os.close(fd)
        if self._spec is not None:
            kill_tagged(self._spec.id)
        if self._residence is not None:
            self._residence.leave()
        reap(())
        if self._meeting is not None:
            self._meeting.close()


def main() -> None:
    """Keep stdin and stdout for frames; what else is printed goes to ssh's stderr."""
    os.umask(0o077)
    stdin, stdout = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.chdir(Path("/"))
    become_subreaper()
    Agent(stdin, stdout).serve()


if __name__ == "__main__":
    main()
