"""What goes wrong between hosts: named by rank and host, within seconds, nothing left on any host."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from lab import known_line

from nbaas.errors import HostError
from nbaas.launchers.facts import versions_here
from nbaas.launchers.mirror import checked_name
from nbaas.launchers.ssh import agent_command
from nbaas.launchers.survey import survey
from nbaas.records import Host, State

pytestmark = pytest.mark.ranks

FOREVER = """\
import time, torch
weight = torch.nn.Parameter(torch.zeros(3))
optimizer = torch.optim.SGD([weight], lr=0.1)
print('begun', flush=True)
while True:
    optimizer.zero_grad()
    weight.sum().backward()
    optimizer.step()
    time.sleep(0.02)
"""


def running(job, eventually):
    """Return the job once every rank has made a step."""

    def stepping():
        status = job.status()
        assert not status.state.final, status
        return all(rank.progress.step for rank in status.ranks)

    eventually(stepping, timeout=60)
    return job


def nothing_left(lab, eventually, timeout: float = 25.0) -> None:
    for host in lab.hosts.values():
        eventually(lambda host=host: not host.of_jobs(), timeout=timeout)


def ranks_on(host) -> list[int]:
    return [pid for pid, line in host.of_jobs() if "launchers.agent" not in line]


def test_a_rank_killed_on_another_host_is_named_with_it(run, lab, eventually):
    job = running(run(FOREVER, engine="ddp"), eventually)
    os.kill(ranks_on(lab["b"])[0], signal.SIGKILL)
    status = job.wait(20)
    assert status.state is State.FAILED
    assert status.reason.startswith("rank 1 on b: killed (SIGKILL)"), status.reason
    assert "begun" in job.log(0).read()
    nothing_left(lab, eventually)


def test_a_host_that_is_cut_ends_the_job_and_its_ranks_end_there_too(run, lab, eventually):
    job = running(run(FOREVER, engine="ddp", host_timeout=4.0), eventually)
    lab["b"].cut()
    status = job.wait(30)
    assert status.state is State.FAILED
    assert status.reason == "rank 1 on b: its host has not answered for 4 s", status.reason
    # The agent hears nothing either: it ends its ranks without being told.
    nothing_left(lab, eventually, timeout=45)
    lab["b"].join()


def test_the_death_of_the_supervisor_ends_ranks_everywhere(run, lab, eventually):
    cell = "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(600)\n" + FOREVER
    job = running(run(cell, engine="ddp"), eventually)
    os.kill(job.history().supervisor[0], signal.SIGKILL)
    # Looked at before anybody asks for the job's state, which would clean up itself.
    nothing_left(lab, eventually)
    assert job.status().state is State.LOST


def test_an_agent_that_is_killed_leaves_no_process(run, lab, eventually):
    cell = "import os, time\nif os.fork() == 0:\n    os.setsid(); time.sleep(600)\n" + FOREVER
    job = running(run(cell, engine="ddp"), eventually)
    [agent] = [pid for pid, line in lab["b"].of_jobs() if "-I -m nbaas.launchers.agent" in line]
    os.kill(agent, signal.SIGKILL)
    status = job.wait(20)
    assert status.state is State.FAILED
    assert status.reason.startswith("rank 1 on b: its host no longer answers"), status.reason
    nothing_left(lab, eventually)


def test_stop_finishes_the_step_on_all_hosts_and_brings_the_values_back(run, lab, eventually):
    job = running(run(FOREVER, engine="ddp"), eventually)
    argv = [line for entry in Path("/proc").iterdir() if (line := command_line(entry))]
    ours = [line for line in argv if b"nbaas.launchers" in line or b"/ssh" in line]
    assert ours
    # The secret is 64 hexadecimal digits; nothing of the job is on a command line of any host.
    assert not [line for line in ours if job.id.encode() in line or _has_long_hex(line)]
    job.stop()
    status = job.wait(20)
    assert status.state is State.STOPPED, status
    assert [rank.exit_code for rank in status.ranks] == [75, 75]
    assert job.paths.result.is_dir()
    nothing_left(lab, eventually)


def command_line(entry: Path) -> bytes:
    """Return what runs as a process of any host, b'' where nothing does."""
    try:
        return (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
    except OSError:
        return b""


def _has_long_hex(line: bytes) -> bool:
    run = 0
    for byte in line:
        run = run + 1 if byte in b"0123456789abcdef" else 0
        if run >= 64:
            return True
    return False


def test_an_error_on_another_host_is_the_users_own(run, lab, eventually):
    job = run("import socket\nif socket.gethostname() == 'b':\n    raise KeyError('column')\n"
              + FOREVER, engine="ddp")  # fmt: skip
    status = job.wait(60)
    assert status.state is State.FAILED
    assert status.failure is not None
    assert (status.failure.rank, status.failure.kind) == (1, "KeyError")
    assert "line 3" in status.failure.traceback
    nothing_left(lab, eventually)


def said(host: Host, settings) -> str:
    [answer] = survey([host], settings)
    assert answer.error is not None
    return str(answer.error)


def test_a_host_that_cannot_be_used_is_one_clear_line(lab, settings):
    known = lab.known_hosts.read_text()
    try:
        lab.known_hosts.write_text(known_line(lab["b"]))
        assert said(Host("a"), settings).startswith("a: its host key is not known here")
        changed = known_line(lab["b"]).replace(lab["b"].address, lab["a"].address)
        lab.known_hosts.write_text(changed)
        assert said(Host("a"), settings).startswith("a: its host key has changed")
    finally:
        lab.known_hosts.write_text(known)
    assert said(Host("a", user="nobody"), settings).startswith(
        "a: it does not let this user in without a password"
    )
    assert said(Host("a:23", port=23), settings).startswith("a:23: nothing listens at its ssh port")
    assert said(Host("no-such-host"), settings).startswith("no-such-host: no host has this name")
    assert "a: there is no /opt/none/python" in said(Host("a", python="/opt/none/python"), settings)
    assert said(Host("a", python="/usr/bin/python3"), settings).startswith(
        "a: its Python has no nbaas"
    )


def test_a_host_that_lacks_something_is_refused_with_the_command(lab, settings):
    [answer] = survey([Host("a")], settings)
    assert answer.wrong(versions_here(), "horovod") == []
    other = {**versions_here(), "torch": "2.99.0"}
    [(wrong, mend)] = answer.wrong(other)
    assert wrong.endswith("the notebook has 2.99.0")
    assert mend.endswith("-m pip install torch==2.99.0")
    assert "Python" in answer.wrong({**other, "python": "3.9"})[0][0]
    facts = replace(answer.facts, named="127.0.1.1")
    [(wrong, mend)] = replace(answer, facts=facts).wrong(versions_here(), "horovod")
    assert "'a' stands for 127.0.1.1" in wrong
    assert f"{lab['a'].address} a" in mend


def test_p66_nothing_is_started_for_a_name_that_is_no_host():
    for name in ("-oProxyCommand=id", "a;id", "a b", "$(id)", ""):
        with pytest.raises(HostError):
            agent_command(Host(name))
    with pytest.raises(HostError):
        agent_command(Host("a", user="-x"))
    with pytest.raises(HostError):
        agent_command(Host("a", python="python; id"))
    command = agent_command(Host("a", user="me", port=2222))
    assert command[command.index("--") + 1] == "a"


@pytest.mark.parametrize(
    "name",
    ["../x", "logs/../../x", "/etc/x", "spec.json", "lock", "bundle/cell.py", "events.jsonl", "a//b",
     ".ssh/id", "-x", "logs/r1.log", "metrics/r7.jl", "failure-r1.json", "a\0b", "a/" * 9 + "b"],
)  # fmt: skip
def test_a_host_cannot_write_what_is_not_its_ranks(name):
    with pytest.raises(HostError):
        checked_name(name, {0})
