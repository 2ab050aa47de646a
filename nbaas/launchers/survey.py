"""What other hosts have, asked of all at once: an agent that is given no job says it and goes.

Rule: a host that cannot be asked is an answer too, one line that names it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nbaas.config import Settings
from nbaas.errors import HostError
from nbaas.launchers.facts import HostFacts, clock_skew, facts_here, lacks, versions_here
from nbaas.launchers.frames import FrameReader, read_available
from nbaas.launchers.link import facts_from
from nbaas.launchers.ssh import agent_command, explained, start_agent
from nbaas.placement import configured_hosts
from nbaas.records import Host

ANSWER_TIMEOUT = 25.0  # seconds; ssh itself gives up to connect after ten
MOST_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class Surveyed:
    """A host and what it has, or why that is not known; `asked` in seconds since the epoch."""

    host: Host
    facts: HostFacts | None
    error: HostError | None = None
    asked: float = 0.0

    def wrong(self, versions: dict[str, str], engine: str = "") -> list[tuple[str, str]]:
        """Return (what is wrong, what mends it) for ranks of this notebook's versions."""
        if self.error is not None or self.facts is None:
            error = self.error or HostError(f"{self.host.name}: it was not asked")
            return [(error.message.removeprefix(f"{self.host.name}: "), error.hint)]
        found = lacks(self.host, self.facts, versions, engine=engine)
        if skew := clock_skew(self.facts, self.asked):
            found.append((f"its clock is {skew:+.0f} s off", "timedatectl set-ntp true, there"))
        return found


@dataclass(frozen=True, slots=True)
class Verdict:
    """One line about a host: what it has, or one thing that it lacks and what mends that."""

    host: str
    ok: bool
    text: str
    hint: str = ""


def free_text(facts: HostFacts) -> str:
    """Return '3 of 4 GPUs' or '2 of 8 cores'."""
    if facts.gpus:
        return f"{len(facts.gpus) - len(facts.busy_gpus)} of {len(facts.gpus)} GPUs"
    return f"{max(0, facts.cores - facts.busy_ranks)} of {facts.cores} cores"


def verdicts(answers: Sequence[Surveyed], engine: str) -> list[Verdict]:
    """Return at least one line for each host."""
    lines = []
    for answer in answers:
        wrong = answer.wrong(versions_here(), engine)
        lines += [Verdict(answer.host.name, ok=False, text=text, hint=hint) for text, hint in wrong]
        if not wrong and answer.facts is not None:
            facts = answer.facts
            has = f"ready: {free_text(facts)} free, {facts.free / 2**30:.1f} GiB of disk"
            lines.append(Verdict(answer.host.name, ok=True, text=f"{has}, {facts.executable}"))
    return lines


def every_host(settings: Settings, *, checked: bool) -> list[Verdict]:
    """Return the lines of all hosts of config.toml; this machine first, unless they are checked."""
    answers = survey([entry.host for entry in configured_hosts(settings.clusters)], settings)
    if not checked:
        here = facts_here(settings)
        answers.insert(0, Surveyed(Host(here.hostname), here, asked=time.time()))
    return verdicts(answers, settings.engine if checked else "")


def survey(hosts: Sequence[Host], settings: Settings) -> list[Surveyed]:
    """Return every host's answer, in order; takes as long as the slowest, at most 25 seconds."""
    if not hosts:
        return []
    with concurrent.futures.ThreadPoolExecutor(min(len(hosts), MOST_AT_ONCE)) as askers:
        return list(askers.map(lambda host: _asked(host, settings), hosts))


def _asked(host: Host, settings: Settings) -> Surveyed:
    with tempfile.TemporaryDirectory(prefix="nbaas-ssh-") as folder:
        log = Path(folder) / "ssh.log"
        try:
            command = agent_command(host, config=settings.ssh_config, timeout=settings.host_timeout)
            with _agent(command, log) as process:
                facts = _first_words(process)
                if facts is not None:
                    return Surveyed(host, facts, asked=time.time())
            raise explained(host, process.returncode, log.read_text(errors="replace"))
        except HostError as error:
            return Surveyed(host, None, error)


@contextlib.contextmanager
def _agent(command: tuple[str, ...], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run an agent in this block; it ends as its stdin does."""
    process = start_agent(command, log, os.environ)
    try:
        yield process
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _first_words(process: subprocess.Popen[bytes]) -> HostFacts | None:
    """Return what the agent says of its host, None where it ends or stays silent."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    reader, fd = FrameReader(greeted=False), process.stdout.fileno()
    os.set_blocking(fd, False)
    deadline = time.monotonic() + ANSWER_TIMEOUT
    with contextlib.suppress(ValueError, KeyError, TypeError):
        while (left := deadline - time.monotonic()) > 0:
            select.select([fd], [], [], left)
            data, ended = read_available(fd)
            for message, _ in reader.feed(data):
                if message.get("verb") == "facts":
                    return facts_from(message)
            if ended:
                return None
    return None
