"""Curves kept beside a journal: the same as the journal read whole, whoever was killed when."""

from __future__ import annotations

import math
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nbaas.journal import JournalReader, JournalWriter, frame
from nbaas.worker import kept
from nbaas.worker.curves import Curves
from nbaas.worker.kept import LEAST, SAVE_ROWS, KeptCurves, curves_file, read_curves
from nbaas.worker.metrics import MetricsWriter, encoded

ROWS = 30_000
# A real writer, as a rank has one; every 500 rows it lets the reader of this test catch up.
WRITER = """
import math, random, sys
from pathlib import Path
from nbaas.worker.metrics import MetricsWriter
path, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
writer = MetricsWriter(path)
for step in range(first, last + 1):
    draw = random.Random(step)
    value = draw.random() if step % 977 else draw.choice([math.nan, math.inf, -math.inf, 1e6])
    writer.add(step, 1, {"loss": value, "lr": 1 / step})
    if step % 1000 == 0:
        writer.add(step // 1000, 1, {"val": -value}, "log")
        writer.add(step, 1, {"rss": 1e9 + step}, "sys")
    if step % 500 == 0:
        writer.flush()
        print(step, flush=True)
writer.close()
"""


def start_writer(path: Path, first: int = 1, last: int = ROWS) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), str(first), str(last)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def read_whole(path: Path) -> Curves:
    curves = Curves()
    for record in JournalReader(path).read(1 << 30):
        curves.add(record)
    return curves


def told(curves: Curves) -> str:
    """Return everything that curves hold, NaN included, as text."""
    return repr((curves.by_name, curves.step, curves.epoch, curves.recent))


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """A journal of ROWS rows and more, whole, and its curves."""
    path = tmp_path / "r0.jl"
    assert start_writer(path).wait(120) == 0
    return path


def test_p28_curves_on_file_are_those_of_the_journal_to_the_last_bit(written: Path):
    curves, offset = read_curves(written)
    assert offset == written.stat().st_size
    assert told(curves) == told(read_whole(written))
    loss = curves.by_name["loss"]
    rows = [r["values"] for r in JournalReader(written).read(1 << 30) if "kind" not in r]
    values = [float(row["loss"]) for row in rows]
    for at, bucket in enumerate(loss.buckets):
        part = values[at * loss.width : (at + 1) * loss.width]
        finite = [value for value in part if math.isfinite(value)]
        strange = [value for value in part if not math.isfinite(value)]
        assert {y for _, y in bucket if math.isfinite(y)} == {min(finite), max(finite)}
        assert repr([y for _, y in bucket if not math.isfinite(y)]) == repr(strange[:1])


@pytest.mark.faults
def test_p21_and_p28_a_rank_killed_at_any_moment_leaves_the_same_curves(
    tmp_path: Path, rounds, chance: random.Random, tally
):
    for number in range(rounds(20)):
        path = tmp_path / f"{number}" / "r0.jl"
        writer = start_writer(path)
        stop = chance.randrange(1, ROWS // 500)
        for _ in range(stop):
            writer.stdout.readline()
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        first = KeptCurves(path)
        behind = path.stat().st_size - first.offset
        wrong = told(first.read()) != told(read_whole(path))
        assert behind < 2 * LEAST + SAVE_ROWS * 150
        # The gang starts again from a checkpoint: some steps are made twice.
        again = start_writer(path, max(1, 500 * stop - 700))
        assert again.wait(120) == 0
        found = read_curves(path)
        wrong |= found is None or told(found[0]) != told(read_whole(path))
        steps = [r["step"] for r in JournalReader(path).read(1 << 30) if "kind" not in r]
        tally.add(lost=ROWS - len(set(steps)), wrong=wrong)
        shutil.rmtree(path.parent)


def test_rows_that_a_resumed_run_replaces_are_gone_from_its_curves(tmp_path: Path):
    path = tmp_path / "r0.jl"
    journal, curves = JournalWriter(path), KeptCurves(path)

    def write(steps: range, value: float) -> None:
        for step in steps:
            record = encoded((0.0, step, 1, {"loss": value}, "train"))
            assert journal.append(record)
            curves.take([record], journal.end - len(frame(record)), journal.end)

    write(range(1, 9001), 9.0)
    write(range(6001, 8001), 1.0)
    curves.save()
    journal.close()
    loss = KeptCurves(path).read().by_name["loss"]
    assert told(KeptCurves(path).read()) == told(read_whole(path))
    assert {step > 6000 for step, y in loss.points(10_000) if y == 1.0} == {True}
    assert {step <= 6000 for step, y in loss.points(10_000) if y == 9.0} == {True}
    assert loss.points(10_000)[-1] == (8000, 1.0)


def test_p25_damaged_curves_are_noticed_set_aside_and_made_again(
    written: Path, rounds, chance: random.Random
):
    whole, file = told(read_whole(written)), curves_file(written)
    good = file.read_bytes()
    for number in range(rounds(40)):
        data = bytearray(good)
        if number % 2:
            del data[chance.randrange(len(data)) :]
        else:
            at = chance.randrange(len(data))
            data[at : at + 4096] = chance.randbytes(min(4096, len(data) - at))
        file.write_bytes(data)
        assert kept.is_damaged(file)
        assert told(KeptCurves(written).read()) == whole
        assert file.with_name("r0.curves.damaged").read_bytes() == data
        assert file.read_bytes() == good, "made again, to the last bit"


@pytest.mark.parametrize("change", ["shorter", "other", "format"])
def test_p26_curves_of_another_journal_or_format_are_not_used(written: Path, change: str):
    data = written.read_bytes()
    if change == "shorter":
        cut = data.rfind(b"\n", 0, len(data) // 2) + 1
        written.write_bytes(data[:cut])
    elif change == "other":
        lines = data.splitlines(keepends=True)
        written.write_bytes(b"".join([lines[-1], *lines[:-1]]))
    else:
        line, _, body = curves_file(written).read_bytes().partition(b"\n")
        head = kept.unframe(line)
        curves_file(written).write_bytes(frame({**head, "format": 99}) + body)
    assert KeptCurves(written).offset == 0
    assert not curves_file(written).with_name("r0.curves.damaged").exists()
    assert told(KeptCurves(written).read()) == told(read_whole(written))


def test_a_reader_of_a_long_journal_without_curves_leaves_them_for_the_next(written: Path):
    curves_file(written).unlink()
    KeptCurves(written).read()
    assert KeptCurves(written).offset == written.stat().st_size
    assert list(written.parent.glob(".*")) == []


def test_a_rank_whose_curves_were_lost_catches_up_while_it_writes(written: Path):
    curves_file(written).unlink()
    writer = MetricsWriter(written)
    for step in range(ROWS + 1, ROWS + 100):
        writer.add(step, 1, {"loss": 0.5, "lr": 0.1})
        writer.flush()
    writer.close()
    assert KeptCurves(written).offset > 0
    assert told(KeptCurves(written).read()) == told(read_whole(written))


READER = """
import sys
from pathlib import Path
from nbaas.worker import kept
path = Path(sys.argv[1])
for _ in range(20):
    curves = kept.KeptCurves(path)
    curves.read()
    kept.write_curves(path, curves.curves, curves.offset)
"""


@pytest.mark.ranks
def test_p24_many_processes_read_and_keep_the_same_curves_at_once(written: Path):
    command = [sys.executable, "-c", READER, str(written)]
    readers = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(6)]
    for reader in readers:
        assert reader.communicate(timeout=120)[1] == b""
        assert reader.returncode == 0
    assert told(read_curves(written)[0]) == told(read_whole(written))
    assert sorted(file.name for file in written.parent.iterdir()) == ["r0.curves", "r0.jl"]


def test_a_short_journal_has_no_curves_beside_it(tmp_path: Path):
    writer = MetricsWriter(tmp_path / "r0.jl")
    writer.add(1, 1, {"loss": 1.0})
    writer.close()
    assert [file.name for file in tmp_path.iterdir()] == ["r0.jl"]


def test_curves_that_cannot_be_written_cost_no_row(tmp_path: Path):
    path = tmp_path / "r0.jl"
    curves_file(path).mkdir()  # whoever renames onto it is refused
    writer = MetricsWriter(path)
    for step in range(1, 9001):
        writer.add(step, 1, {"loss": 0.5})
    writer.close()
    assert [row["step"] for row in JournalReader(path).read(1 << 30)] == list(range(1, 9001))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["r0.curves", "r0.jl"]
