"""The counters of a rank, as a reader in another process sees them."""

from __future__ import annotations

import time
from pathlib import Path

from nbaas.worker.progress import Phase, Progress, ProgressWriter, read_progress


def test_a_reader_sees_where_a_rank_is(tmp_path: Path):
    path = tmp_path / "progress" / "r0"
    assert read_progress(path) == Progress()
    writer = ProgressWriter(path)
    writer.phase(Phase.RUNNING)
    writer.batch(3, 12)
    writer.step(7, 2)
    seen = read_progress(path)
    assert (seen.phase, seen.step, seen.epoch, seen.batch, seen.batches) == (
        Phase.RUNNING,
        7,
        2,
        3,
        12,
    )
    assert 0 <= seen.step_time < 60
    assert 0 <= time.monotonic() - seen.moved < 60


def test_an_epoch_of_unknown_length_has_no_number_of_batches(tmp_path: Path):
    writer = ProgressWriter(tmp_path / "r0")
    writer.batch(5, None)
    assert read_progress(tmp_path / "r0").batches == 0


def test_a_file_that_is_cut_off_reads_as_a_rank_that_has_said_nothing(tmp_path: Path):
    (tmp_path / "r0").write_bytes(b"\1\0\0")
    assert read_progress(tmp_path / "r0") == Progress()
