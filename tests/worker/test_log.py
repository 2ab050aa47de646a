"""What a loop tells with `nbaas.log`, and the scalars it assigns: recorded once, whatever they are."""

from __future__ import annotations

import ast
import json
import math
import pickle

import numpy as np
import pytest
import torch

import nbaas
from nbaas.errors import UsageError
from nbaas.jobs.series import records_of, rows_of
from nbaas.journal import JournalReader
from nbaas.records import State
from nbaas.worker.log import entries, set_recorder
from nbaas.worker.metrics import MetricsWriter, metric_of
from nbaas.worker.pictures import BINS, FEWEST_BINS, Histogram, Picture, PictureWriter
from nbaas.worker.recorder import MOST_SERIES, NOTE, RankRecorder, with_notes

CELL = """
import matplotlib.pyplot as plt, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
rows = torch.randn(65, 8)
loader = DataLoader(TensorDataset(rows, rows.sum(1, keepdim=True)), batch_size=16)
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
total, means = 0.0, []
for epoch in range(2):
    for x, y in loader:
        optimizer.zero_grad(); loss = ((model(x) - y) ** 2).mean(); loss.backward(); optimizer.step()
        total += loss.item()
        nbaas.log(error=(model(x) - y).abs().mean(), odd=float("nan"))
        means.append((model(x) - y).abs().mean().item())
    val_loss = ((model(rows) - rows.sum(1, keepdim=True)) ** 2).mean()
    train_loss, label = total / len(loader), "none"
    figure, axes = plt.subplots(figsize=(2, 1))
    nbaas.log({"acc": torch.tensor([0.5]), "top": {"k": 3}}, step=epoch)
    nbaas.log(sample=figure, pixels=torch.rand(3, 8, 6), weights=model, batch=x)
    plt.close(figure)
print(means)
"""


@pytest.mark.ranks
def test_a_cell_on_two_ranks_records_each_value_once(run):
    job = run(CELL, {"nbaas": nbaas})
    assert job.wait(120).state is State.SUCCEEDED, job.log(0).read()
    told = [row for row in rows_of(job) if row.kind == "log"]
    assert [row for row in rows_of(job, 1) if row.kind == "log"] == []
    errors = [row for row in told if "error" in row.values]
    assert [row.step for row in errors] == list(range(1, 11))
    assert all(math.isnan(row.values["odd"]) for row in errors)
    # A pending scalar is the value over the whole batch, which `item` reads too.
    means = ast.literal_eval(job.log(0).read())
    assert [row.values["error"] for row in errors] == pytest.approx(means, rel=1e-5)
    scores = [(row.step, row.values) for row in told if "acc" in row.values]
    assert scores == [(0, {"acc": 0.5, "top/k": 3}), (1, {"acc": 0.5, "top/k": 3})]
    for name in ("val_loss", "train_loss"):  # assigned, not logged
        assert [row.step for row in told if name in row.values] == [5, 10]
    assert {name for row in told for name in row.values} == {
        "error", "odd", "acc", "top/k", "val_loss", "train_loss",
    }  # fmt: skip
    record = next(r for r in records_of(job) if r["step"] == 5)
    assert {"loss", "lr", "error", "val_loss"} <= record.keys()
    pictures = JournalReader(job.paths.root / "pictures.jsonl").read()
    assert [p["name"] for p in pictures if p["step"] == 5] == [
        "sample", "pixels", "weights/weight", "weights/bias", "batch",
    ]  # fmt: skip
    assert sum(pictures[2]["counts"]) == 8
    for picture in pictures:
        if "file" in picture:
            assert (job.paths.pictures / picture["file"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.ranks
def test_a_value_that_cannot_be_logged_is_the_users_error_with_its_line(run):
    job = run("x = 1\nnbaas.log(acc='high')", {"nbaas": nbaas})
    failure = job.wait(120).failure
    assert failure is not None
    assert failure.message.startswith("acc: 'high' cannot be logged (log a number")
    assert "nbaas.log(acc='high')" in failure.traceback
    assert "worker" not in failure.traceback


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, 1.0),
        (3, 3.0),
        (np.float32(0.5), 0.5),
        (np.array([[7]]), 7.0),
        (torch.tensor(2.5, requires_grad=True), 2.5),
        (torch.tensor([2], dtype=torch.int8), 2.0),
        (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
        (math.inf, math.inf),
    ],
)
def test_what_is_one_number_is_a_point(value, number):
    assert list(entries({"a": value})) == [("a", number)]


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("high", "a: 'high' cannot be logged"),
        ([1, 2], "a: a list cannot be logged"),
        (None, "a: a NoneType cannot be logged"),
        (torch.rand(7), r"a: shape \(7,\) is neither one number nor an image"),
        (torch.rand(2, 3, 8, 8), r"shape \(2, 3, 8, 8\)"),
        (torch.tensor(1 + 2j), "no real number"),
        (np.array(["a", "b"]), "a ndarray cannot be logged"),
    ],
)
def test_what_is_nothing_to_show_is_refused_by_name(value, told):
    with pytest.raises(UsageError, match=told) as refused:
        list(entries({"a": value}))
    assert refused.value.hint


@pytest.mark.parametrize("step", [0.5, "three", math.inf, [1]])
def test_a_step_that_is_no_whole_number_is_refused(step):
    with pytest.raises(UsageError, match="step="):
        nbaas.log(a=1, step=step)


@pytest.mark.parametrize(
    "shape", [(8, 6), (8, 6, 1), (8, 6, 3), (8, 6, 4), (1, 8, 6), (3, 8, 6), (1, 3, 8, 6)]
)
def test_an_image_keeps_its_size_whatever_the_order_of_its_channels(shape):
    import io

    from PIL import Image

    (_, picture), = entries({"a": np.random.default_rng(0).random(shape)})  # fmt: skip
    assert isinstance(picture, Picture)
    assert Image.open(io.BytesIO(picture.png)).size == (6, 8)


def test_a_histogram_counts_every_element_and_names_what_is_no_number():
    found = nbaas.histogram(torch.tensor([0.0, 1.0, 1.0, math.nan, math.inf]))
    assert (found.low, found.high, found.strange) == (0.0, 1.0, 2)
    assert (found.counts[0], found.counts[-1], len(found.counts)) == (1, 2, FEWEST_BINS)
    assert nbaas.histogram(torch.zeros(0)).counts == (0,) * FEWEST_BINS
    assert len(nbaas.histogram(torch.rand(100, 100)).counts) == BINS
    assert pickle.loads(pickle.dumps(found)) == found


class Place:
    step, epoch = 0, 0


def test_a_loop_without_an_optimizer_counts_its_calls(tmp_path):
    writer = MetricsWriter(tmp_path / "r0.jl")
    recorder = RankRecorder(Place(), writer, None)
    for value in (3.0, 2.0, 1.0):
        recorder.record({"error": value}, None)
    writer.close()
    rows = [metric_of(record) for record in JournalReader(tmp_path / "r0.jl").read()]
    assert [(row.step, row.values["error"]) for row in rows] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_a_number_again_and_again_is_recorded_like_the_first_time(tmp_path):
    writer = MetricsWriter(tmp_path / "r0.jl")
    set_recorder(RankRecorder(Place(), writer, None))
    odd = 'a "b" %s\u2028\\ é'
    try:
        for step in (1, 2, 3):
            nbaas.log({odd: 1 / step, 7: step, "loss": 0.5}, step=step)
        nbaas.log({odd: 10**400, 7: -(10**400), "loss": math.nan}, step=4)
        nbaas.log({odd: torch.tensor(5.0), "loss": 2.5}, step=5)
    finally:
        set_recorder(None)
    writer.close()
    rows = [metric_of(record) for record in JournalReader(tmp_path / "r0.jl").read()]
    assert [row.step for row in rows] == [1, 2, 3, 4, 5]
    assert [row.values[odd] for row in rows] == [1.0, 0.5, 1 / 3, math.inf, 5.0]
    assert [row.values.get("7") for row in rows] == [1.0, 2.0, 3.0, -math.inf, None]
    assert [row.values["loss (logged)"] for row in rows[:3]] == [0.5] * 3
    assert math.isnan(rows[3].values["loss (logged)"])


def test_series_are_limited_and_the_first_that_is_refused_is_told(tmp_path, capsys):
    writer = MetricsWriter(tmp_path / "r0.jl")
    recorder = RankRecorder(Place(), writer, None)
    for start in range(0, MOST_SERIES + 200, 100):
        recorder.record({f"s{n}": 1.0 for n in range(start, start + 100)}, 1)
    writer.close()
    rows = [metric_of(record) for record in JournalReader(tmp_path / "r0.jl").read()]
    assert {name for row in rows for name in row.values} == {f"s{n}" for n in range(MOST_SERIES)}
    assert capsys.readouterr().err.count("not recorded") == 1


def test_a_long_name_is_cut_and_a_wide_row_is_written_in_parts(tmp_path):
    writer = MetricsWriter(tmp_path / "r0.jl")
    writer.add(1, 1, {"n" * 500: 1.0, **{f"{n:0>200}": 2.0 for n in range(200)}})
    writer.close()
    lines = (tmp_path / "r0.jl").read_bytes().splitlines()
    assert max(map(len, lines)) < 64 << 10
    rows = [metric_of(record) for record in JournalReader(tmp_path / "r0.jl").read()]
    assert sum(len(row.values) for row in rows) == 201
    assert max(len(name) for row in rows for name in row.values) == 200


def test_pictures_go_on_where_an_earlier_start_of_the_job_stopped(tmp_path):
    for step in (1, 2):
        writer = PictureWriter(tmp_path / "pictures")
        writer.add(step, "a", Picture(b"png %d" % step))
        writer.add(step, "h", Histogram(0.0, 1.0, (1,)))
        writer.close()
    kept = JournalReader(tmp_path / "pictures.jsonl").read()
    assert [record["step"] for record in kept] == [1, 1, 2, 2]
    files = [record["file"] for record in kept if "file" in record]
    assert [(tmp_path / "pictures" / f).read_bytes() for f in files] == [b"png 1", b"png 2"]


def noted(source):
    """Return name -> values that a cell's own assignments would record."""
    found = {}
    space = {NOTE: lambda name, value, settle: found.setdefault(name, []).append(value)}
    exec(compile(with_notes(ast.parse(source)), "<cell>", "exec"), space)
    return found


def test_scalars_of_the_loops_own_level_are_noted():
    assert noted(
        "start = 0.5\n"
        "for epoch in range(2):\n"
        "    correct = 0\n"
        "    for batch in range(3):\n        correct += 1\n        inner = batch / 2\n"
        "    acc, _hidden = correct / 4, 1.0\n"
        "    with open('/dev/null'):\n        val_loss: float = 1 / (epoch + 1)\n"
        "    if acc > 0.5:\n        best = acc\n        continue\n"
    ) == {"acc": [0.75, 0.75], "val_loss": [1.0, 0.5], "best": [0.75, 0.75]}


def test_a_single_loop_is_noted_and_folds_are_looked_into():
    assert noted("for step in range(2):\n    loss = step / 2") == {"loss": [0.0, 0.5]}
    folds = (
        "for fold in range(2):\n"
        "  for epoch in range(1):\n"
        "    for b in range(1):\n      x = 1/2\n"
        "    acc = fold/1"
    )
    assert noted(folds) == {"acc": [0.0, 1.0]}


def test_constants_clocks_sums_and_what_is_logged_are_not_noted():
    assert (
        noted(
            "import time\n"
            "def log(**_): pass\n"
            "for epoch in range(1):\n"
            "    began = time.perf_counter(); lr = 0.1; total = 0.0; total += 1.0\n"
            "    acc = 1 / 2; log(acc=acc)\n"
            "acc = 1 / 3"
        )
        == {}
    )


def test_the_lines_of_a_noted_cell_are_its_own():
    tree = with_notes(ast.parse("for e in range(2):\n    a = e / 2\n    b = 1 / (e - 1)\n"))
    with pytest.raises(ZeroDivisionError) as failed:
        exec(compile(tree, "<cell>", "exec"), {NOTE: lambda *_: None})
    assert failed.traceback[-1].lineno + 1 == 3


@pytest.mark.ranks
def test_metrics_of_a_job_leave_the_shell_as_csv_and_json(run, cli):
    cell = "for i in range(3):\n    nbaas.log(acc=i / 4, odd=float('inf'))"
    job = run(cell, {"nbaas": nbaas}, ranks=1)
    assert job.wait(120).state is State.SUCCEEDED
    header, *lines = cli("metrics", job.name, "--csv").stdout.splitlines()
    assert header == "step,epoch,time,acc,odd"
    assert [line.split(",")[3:] for line in lines] == [[str(i / 4), "inf"] for i in range(3)]
    records = [json.loads(line) for line in cli("metrics", job.id, "--json").stdout.splitlines()]
    assert [(r["step"], r["acc"], r["odd"]) for r in records] == [
        (1, 0.0, "inf"), (2, 0.25, "inf"), (3, 0.5, "inf"),
    ]  # fmt: skip
    assert "0.25" in cli("metrics", job.name).stdout
    assert cli("metrics", "nothing").stderr.startswith("nbaas: ")
