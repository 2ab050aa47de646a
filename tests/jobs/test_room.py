"""Logs that flood and disks that are full: the run goes on, and what was lost is said."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nbaas.jobs.logs import LogReader
from nbaas.jobs.room import trim_log


def test_p30_a_log_that_floods_gives_its_old_part_back_while_its_writer_goes_on(tmp_path: Path):
    log = tmp_path / "r0.log"
    line = b"x" * 1023 + b"\n"
    reader = LogReader(log)
    with log.open("ab", buffering=0) as writer:
        writer.write(line)
        assert reader.read() == line.decode()
        writer.write(line * 4096)
        given_back = trim_log(log, limit=1 << 20, kept=64 << 10)
        writer.write(b"the end\n")
    assert given_back > 3 << 20
    assert log.stat().st_blocks * 512 < 1 << 20
    text = reader.read()
    assert text.startswith("[")
    assert "bytes of log were cut off]\n" in text
    assert text.endswith("the end\n")
    assert "\0" not in text
    assert reader.read() == ""


def test_a_log_of_ordinary_size_is_left_alone(tmp_path: Path):
    log = tmp_path / "r0.log"
    log.write_bytes(b"x" * 10_000)
    assert trim_log(log) == 0
    assert trim_log(tmp_path / "none") == 0
    assert log.read_bytes() == b"x" * 10_000


def test_p23_a_print_onto_a_full_disk_does_not_end_the_run():
    program = (
        "import os, sys; from nbaas.worker import streams\n"
        "full = os.open('/dev/full', os.O_WRONLY); kept = os.dup(1)\n"
        "streams.install(); os.dup2(full, 1); print('lost'); os.dup2(kept, 1); print('kept')\n"
        "print(sys.stdout.buffer.raw.lost)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True,
        env=os.environ | {"PYTHONPATH": os.environ.get("PYTHONPATH", "")},
    )  # fmt: skip
    assert done.stdout == "kept\n5\n"
