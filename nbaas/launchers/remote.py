"""Ranks on several hosts as one gang: those of this host are started here, the others by agents.

Rule: ready means that every host is reached, fits, has room and has all that the job needs; only then
does the first rank start.  Hosts are asked for room one after the other, in the order of their names:
two jobs that want the same hosts cannot wait for each other.
"""

from __future__ import annotations

import os
import selectors
import time

from nbaas.engines.base import EngineFactory, Rendezvous
from nbaas.engines.rendezvous import KeyValueServer, Meeting
from nbaas.errors import HostError
from nbaas.launchers.link import HostLink, Stage
from nbaas.launchers.local import Launcher, RankProcess, RankStart, Slots
from nbaas.launchers.network import interface_of, route_to
from nbaas.records import JobPaths, JobSpec

SECRET_BYTES = 32


class RemoteLauncher:
    """Starts ranks where their slots are; `here` starts those of this host."""

    def __init__(self, spec: JobSpec, paths: JobPaths, here: Launcher) -> None:
        self._spec = spec
        self._paths = paths
        self._here = here
        self._secret = os.urandom(SECRET_BYTES).hex()
        self._starts = 0
        self._server: KeyValueServer | None = None
        self.links = [
            HostLink(spec, paths, host, index, self._secret)
            for index, host in enumerate(spec.hosts)
        ]

    def open(self, selector: selectors.BaseSelector) -> None:
        """Begin to reach the hosts; raises HostError where ssh is not installed."""
        for link in self.links:
            link.connect(selector)

    @property
    def ready(self) -> bool:
        """Whether ranks can be started; raises HostError where a host never will be."""
        for link in self.links:
            if link.stage is Stage.LOST:
                raise link.failure or HostError(f"{link.host.name} is lost")
        self._move_on()
        return all(link.stage is Stage.READY for link in self.links)

    @property
    def waiting_for(self) -> str:
        """Why the job has to wait for room; '' when it does not."""
        return next((link.waiting_for for link in self.links if link.waiting_for), "")

    @property
    def shipped(self) -> dict[str, int]:
        """Bytes that were sent to each host because it had them not."""
        return {link.host.name: link.shipped for link in self.links}

    @property
    def children(self) -> list[int]:
        ours = [link.process.pid for link in self.links if link.process is not None]
        return [*ours, *self._here.children]

    def _move_on(self) -> None:
        if any(link.stage is Stage.CONNECTING for link in self.links):
            return  # nothing is taken or sent before every host is known to fit
        in_order = sorted(self.links, key=lambda link: link.host.name)
        for link in in_order:
            if link.stage is Stage.MET:
                link.ask_for_seats()
            if link.stage is Stage.SEATING:
                return
        for link in self.links:
            if link.stage is Stage.SEATED:
                link.ship()

    def turn(self) -> None:
        now = time.monotonic()
        for link in self.links:
            link.turn(now)

    def rendezvous(self, engine: EngineFactory, paths: JobPaths, slots: Slots) -> Rendezvous:
        """Open a meeting place for one start, on the host of rank 0: all ranks must reach it anyway."""
        if len(slots) == 1:
            return engine.rendezvous(paths.root, slots)
        self._starts += 1
        token = f"{self._secret}.{self._starts}"
        interfaces = {link.host.name: str(link.network["interface"]) for link in self.links}
        first = next((link for link in self.links if 0 in link.ranks), None)
        if first is not None:
            address = f"{first.network['address']}:{first.network['port']}"
            return Meeting(address, token, interfaces)
        own = route_to(str(self.links[0].network["address"]))
        if self._server is None:
            self._server = KeyValueServer(own, self._secret)
        interfaces |= {slot.host: interface_of(own) for slot in self._spec.local_slots}
        return Meeting(self._server.address, token, interfaces)

    def start(self, rank: RankStart) -> RankProcess:
        for link in self.links:
            if rank.slot.rank in link.ranks:
                if link.stage is Stage.LOST:
                    raise link.failure or HostError(f"{link.host.name} is lost")
                return link.start(rank)
        return self._here.start(rank)

    def close(self) -> None:
        """End what is left on all hosts; returns within seconds, whatever hosts do."""
        for link in self.links:
            link.let_go()
        for link in self.links:
            link.close()
        if self._server is not None:
            self._server.close()
        self._here.close()
