"""The metric journal of a rank: every row once, in order, whatever the numbers and the disk are."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

from nbaas.journal import JournalReader
from nbaas.worker.metrics import MetricsWriter, metric_of


def rows(path: Path) -> list:
    return [metric_of(record) for record in JournalReader(path).read()]


def test_every_row_is_on_file_once_and_in_order_when_the_writer_closes(tmp_path: Path):
    writer = MetricsWriter(tmp_path / "r0.jl")
    for step in range(1, 2001):
        writer.add(step, step // 100, {"loss": 1 / step})
    writer.close()
    assert [row.step for row in rows(tmp_path / "r0.jl")] == list(range(1, 2001))
    assert writer.lost == 0


def test_rows_arrive_while_the_loop_goes_on(tmp_path: Path, eventually):
    writer = MetricsWriter(tmp_path / "r0.jl")
    writer.add(1, 1, {"loss": 2.5})
    row = eventually(lambda: rows(tmp_path / "r0.jl"))[0]
    assert (row.step, row.epoch, row.values, row.kind) == (1, 1, {"loss": 2.5}, "train")
    writer.close()


def test_p29_numbers_that_json_cannot_hold_come_back_as_they_were(tmp_path: Path):
    odd = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e308, "e": 5e-324, "f": 2**53 + 2}
    writer = MetricsWriter(tmp_path / "r0.jl")
    writer.add(1, 1, odd)
    writer.close()
    values = rows(tmp_path / "r0.jl")[0].values
    assert math.isnan(values.pop("a"))
    assert values == {name: float(value) for name, value in odd.items() if name != "a"}


def test_p20_rows_on_file_survive_the_kill_of_their_rank(tmp_path: Path):
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from nbaas.worker.metrics import MetricsWriter\n"
        "from nbaas.journal import JournalReader\n"
        "path = Path(sys.argv[1]); writer = MetricsWriter(path)\n"
        "for step in range(1, 501): writer.add(step, 1, {'loss': 1.0})\n"
        "while len(JournalReader(path).read()) < 500: pass\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "r0.jl"
    subprocess.run([sys.executable, "-c", program, str(path)], timeout=60, check=False)
    assert [row.step for row in rows(path)] == list(range(1, 501))


def test_p23_rows_wait_for_a_disk_that_is_full(tmp_path: Path, eventually):
    path = tmp_path / "r0.jl"
    writer = MetricsWriter(path)
    journal = writer._journal.fd
    full = os.open("/dev/full", os.O_WRONLY)
    kept = os.dup(journal)
    os.dup2(full, journal)
    for step in range(1, 101):
        writer.add(step, 1, {"loss": 1.0})
    eventually(lambda: len(writer._unwritten) == 100)
    os.dup2(kept, journal)
    writer.close()
    assert [row.step for row in rows(path)] == list(range(1, 101))


def test_a_record_that_is_no_row_is_passed_over():
    assert metric_of({"time": 1, "step": 2}) is None
    assert metric_of({"time": 1, "step": 2, "epoch": 0, "values": [3]}) is None
    assert metric_of({"time": 1, "step": 2, "epoch": 0, "values": {"a": "b"}}) is None
