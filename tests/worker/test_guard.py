"""A rank ends with the process that answers for it, each layer by itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.ranks

PARENT = """
import os, subprocess, sys, time
read_end, write_end = os.pipe()
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], str(os.getpid()), str(read_end)],
                         stdout=subprocess.PIPE, pass_fds=(read_end,), start_new_session=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""
BY_SIGNAL = """
import sys
from nbaas.worker.guard import die_with_parent
die_with_parent(int(sys.argv[1])); print("tied", flush=True)
sum(iter(lambda: 1, 2))
"""
BY_PIPE = """
import sys
from nbaas.worker.guard import hold_lifeline
hold_lifeline(int(sys.argv[2])); print("tied", flush=True)
sum(iter(lambda: 1, 2))
"""


@pytest.mark.parametrize("child", [BY_SIGNAL, BY_PIPE], ids=["signal", "pipe"])
def test_a_rank_in_a_busy_loop_dies_with_its_parent(child: str):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, child], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pidfd = os.pidfd_open(int(parent.stdout.readline()))
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    # Readable once the process has ended: the wait is for the event, not for a time.
    import select

    assert select.select([pidfd], [], [], 30)[0]
    os.close(pidfd)


def test_a_rank_whose_parent_died_before_it_was_tied_ends_itself():
    program = "from nbaas.worker.guard import die_with_parent\ndie_with_parent(1 << 22)"
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 70
