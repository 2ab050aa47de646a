"""Promises of metrics, logs and kernels, with real disks that are full and real kernels that die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jupyter_client.manager import KernelManager

from nbaas.config import Settings
from nbaas.jobs.follow import follow
from nbaas.jobs.job import Job
from nbaas.jobs.room import LOG_LIMIT
from nbaas.jobs.store import find_job
from nbaas.journal import JournalReader, frame
from nbaas.records import State

pytestmark = pytest.mark.ranks

Start = Callable[..., Job]

SUBMIT = """
import json, sys
from dataclasses import replace
from pathlib import Path
from nbaas.config import Settings
from nbaas.jobs.submit import new_spec, submit
from nbaas.placement import HostResources, place
def write(bundle):
    bundle.mkdir()
    (bundle / "cell.py").write_text("for number in range(1, 300): step(number)")
settings = Settings(home=Path({home!r}), cache=Path({home!r}), engine="ddp", warm=False, queue=False)
spec = new_spec(settings, place(HostResources("here", 2), ranks=2), name={name!r})
submit(settings, replace(spec, python={python!r}), write)
print("submitted")
"""


@pytest.mark.parametrize("end", ["shutdown", "restart", "kill", "killpg", "interrupt"])
def test_p1_what_happens_to_a_kernel_does_not_touch_its_job(
    settings: Settings, light_python: str, tally, eventually, end: str
):
    kernel = KernelManager(kernel_name="python3")
    kernel.start_kernel()
    client = kernel.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        home, name = str(settings.home), f"kept-{end}"
        code = SUBMIT.format(home=home, name=name, python=light_python)
        client.execute_interactive(code, timeout=60, output_hook=lambda message: None)
        pid = kernel.provisioner.pid
        job = find_job(settings, name)
        {"shutdown": lambda: kernel.shutdown_kernel(now=False),
         "restart": lambda: kernel.restart_kernel(now=True),
         "kill": lambda: os.kill(pid, signal.SIGKILL),
         "killpg": lambda: os.killpg(os.getpgid(pid), signal.SIGKILL),
         "interrupt": lambda: [kernel.interrupt_kernel() for _ in range(5)]}[end]()  # fmt: skip
        status = job.wait(30)
        rows = [len(job.metrics(rank).read()) for rank in (0, 1)]
        tally.add(wrong=status.state is not State.SUCCEEDED, lost=2 * 299 - sum(rows))
        assert tally.clean(), status
    finally:
        client.stop_channels()
        kernel.shutdown_kernel(now=True)


def test_p22_no_prefix_and_no_flipped_bit_of_a_journal_gives_a_wrong_row(tmp_path: Path, tally):
    records = [{"step": step, "loss": 1 / step} for step in range(1, 6)]
    whole = b"".join(frame(record) for record in records)
    path = tmp_path / "journal"

    def rows(data: bytes) -> list[dict]:
        path.write_bytes(data)
        return JournalReader(path).read()

    for length in range(len(whole) + 1):
        found = rows(whole[:length])
        tally.add(wrong=found != records[: len(found)])
    for bit in range(len(whole) * 8):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << (bit % 8)
        found = rows(bytes(damaged))
        # A flipped line feed joins two lines; else one line is lost and all others are there.
        tally.add(wrong=any(row not in records for row in found) or len(found) < len(records) - 2)
    assert tally.clean(), tally


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    point = tmp_path / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(point)]
    if os.getuid() or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True)


def test_p23_a_full_disk_stops_no_training_and_loses_no_acknowledged_row(
    small_disk: Path, start: Start, settings: Settings, tally, eventually
):
    home = small_disk / "home"
    cell = "for number in range(1, 600):\n    step(number)\n    print('x' * 200)\n"
    object.__setattr__(settings, "home", home)
    job = start(cell, 1, queue=False)
    eventually(lambda: job.status().ranks[0].progress.step > 20)
    ballast = small_disk / "ballast"
    free = os.statvfs(small_disk).f_bavail * 4096
    with ballast.open("wb", buffering=0) as file:
        while free > 0:
            try:
                free -= file.write(b"x" * min(free, 65536))
            except OSError:
                break
    before = len(job.metrics(0).read())
    eventually(lambda: "DISK_FULL" in job.status().flags)
    reached = job.status().ranks[0].progress.step
    eventually(lambda: job.status().ranks[0].progress.step > reached + 50)
    ballast.unlink()
    status = job.wait(30)
    steps = [row.step for row in job.metrics(0).read()]
    missing = max(0, before - len(steps)) + (steps != sorted(set(steps)))
    tally.add(wrong=status.state is not State.SUCCEEDED, lost=missing)
    assert steps == list(range(1, 600))
    assert tally.clean(), status


def test_p23_the_last_state_is_written_even_when_the_disk_stays_full(
    small_disk: Path, start: Start, settings: Settings, tally, eventually
):
    object.__setattr__(settings, "home", small_disk / "home")
    job = start("for number in range(1, 200): step(number)\n", 1, queue=False)
    eventually(lambda: job.status().ranks[0].progress.step > 20)
    with (small_disk / "ballast").open("wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            pass
    status = job.wait(30)
    tally.add(wrong=status.state not in (State.SUCCEEDED, State.FAILED))
    assert tally.clean(), status


def test_p27_eight_followers_see_rows_soon_after_they_are_made(start: Start, tally):
    job = start("for number in range(1, 400): step(number, 0.005)\n", 1, queue=False)
    lags: list[float] = []

    def watch() -> None:
        for update in follow(job):
            now = time.time()
            lags.extend(now - row.time for row in update.metrics.get(0, []))

    watchers = [threading.Thread(target=watch) for _ in range(8)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join(60)
    lags.sort()
    tally.add(took=lags[len(lags) * 99 // 100], wrong=len(lags) != 8 * 399)
    assert tally.clean()


def test_p30_a_flood_of_output_neither_stops_the_rank_nor_fills_the_disk(start: Start, tally):
    cell = "line = 'y' * 1023 + '\\n'\nfor n in range(1, 97):\n    step(n)\n"
    cell += "    sys.stdout.write(line * 2048)\n"
    job = start(cell, 1, queue=False)
    text = "".join(update.log for update in follow(job))
    status = job.wait(60)
    found = job.paths.log(0).stat()
    assert found.st_size == 192 << 20
    tally.add(wrong=status.state is not State.SUCCEEDED or found.st_blocks * 512 > LOG_LIMIT)
    assert "bytes of log left out" in text
    assert len(text) < found.st_size // 8
    assert tally.clean()


def test_p20_a_row_that_was_acknowledged_is_on_file(tmp_path: Path, tally):
    program = textwrap.dedent("""
        import os, signal, sys
        from pathlib import Path
        from nbaas.journal import JournalWriter
        writer = JournalWriter(Path(sys.argv[1]))
        for step in range(10**9):
            if writer.append({"step": step}):
                os.write(1, b"%d\\n" % step)
    """)
    for round_ in range(5):
        path = tmp_path / f"journal-{round_}"
        writer = subprocess.Popen(
            [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        seen = [int(writer.stdout.readline()) for _ in range(500)][-1]
        writer.kill()
        seen = max([seen, *map(int, writer.stdout.read().split(b"\n")[:-1])])
        writer.wait(10)
        steps = [record["step"] for record in JournalReader(path).read()]
        tally.add(lost=max(0, seen + 1 - len(steps)), wrong=steps != list(range(len(steps))))
    assert tally.clean(), tally
