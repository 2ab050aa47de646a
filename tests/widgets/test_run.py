"""A run in words and numbers: what the panel draws, what one line says, what the figure keeps."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace

import pytest

from nbaas.jobs.job import JobStatus, RankStatus
from nbaas.records import JobSpec, Metric, RankFailure, Slot, State
from nbaas.widgets.curves import Curves
from nbaas.widgets.figure import MAX_BYTES, mime_bundle
from nbaas.widgets.run import RunView, clock, fact_lines
from nbaas.widgets.summary import stored_run, summary_html, summary_text
from nbaas.worker.progress import Phase, Progress


def run_of(world_size=2, epochs=None):
    slots = tuple(Slot(rank, rank, world_size, "here") for rank in range(world_size))
    spec = JobSpec("20260101-000000-00000000", "digits", "horovod", slots, created=1000.0)
    return RunView(spec, f"{world_size} ranks on the CPU", epochs=epochs)


def status(state, *phases, step=0, **more):
    ranks = tuple(
        RankStatus(rank, 100 + rank, Progress(phase, step, 2, 0.01, 0.0, 5, 20))
        for rank, phase in enumerate(phases)
    )
    return JobStatus(state, since=1010.0, started=1004.0, ranks=ranks, **more)


def test_until_the_first_step_it_says_how_many_ranks_are_up():
    run = run_of(4)
    run.take_status(status(State.STARTING, Phase.JOINED, Phase.BORN, Phase.JOINED, Phase.JOINED))
    assert run.view(1001.0)["reason"] == "3 of 4 ranks up"
    assert [rank["state"] for rank in run.view(1001.0)["ranks"]][:2] == ["joined", "starting"]


def test_time_left_comes_from_the_part_that_is_done():
    run = run_of(epochs=10)
    run.take_status(status(State.RUNNING, Phase.RUNNING, Phase.RUNNING, step=25))
    # 1 epoch and a quarter of the second of ten, since 1004: 12.5 % in 10 s leave 70 s.
    assert run.progress.part == pytest.approx(0.125)
    assert run.eta(1014.0) == pytest.approx(70.0)
    assert run_of().eta(1014.0) is None


def test_one_line_says_what_became_of_it():
    run = run_of()
    rows = [
        Metric(1005 + k, k + 1, 1, {"loss": 2.0 / (k + 1), "rows": 64, "lr": 0.1}) for k in range(5)
    ]
    run.take({0: rows})
    run.take_status(status(State.SUCCEEDED, Phase.DONE, Phase.DONE, step=5))
    line = run.line(2000.0)
    assert line.startswith(
        "digits: succeeded on 2 ranks on the CPU (horovod), 2 epochs, 5 steps in 0:10"
    )
    assert "loss 2 to 0.4" in line
    assert "64 samples/s" in line


def test_rows_of_batches_are_counted_and_not_drawn():
    run = run_of()
    run.take({0: [Metric(1.0, 1, 1, {"loss": 1.0, "rows": 64})]})
    assert list(run.curves.by_name) == ["loss"]


def test_a_failure_names_the_rank():
    run = run_of()
    failure = RankFailure(1, "ValueError", "no such label: 11", "")
    run.take_status(status(State.FAILED, failure=failure))
    assert run.view(1020.0)["reason"] == "rank 1: ValueError: no such label: 11"


def test_a_view_is_json():
    run = run_of()
    run.take(
        {0: [Metric(1.0, 1, 1, {"loss": math.nan})], 1: [Metric(1.0, 1, 1, {"rss": 1e8}, "sys")]}
    )
    json.dumps(run.view(1001.0), allow_nan=False)
    assert run.view(1001.0)["stats"][0]["value"] == "NaN"


def test_facts_are_sentences():
    lines = fact_lines({"split_modules": ["Net"], "gathered": {"sort": 3}, "loaders": ["X: whole"]})
    assert lines == ["split by rows: Net", "gathered: sort (3x)", "X: whole"]


def test_the_figure_is_crisp_and_small_for_any_length():
    curves = Curves()
    for step in range(200_000):
        curves.append(step, {"loss": math.sin(step) + 2, "accuracy": math.cos(step)})
    data, metadata = mime_bundle("title", "line", curves)
    assert data["image/png"].startswith(b"\x89PNG")
    assert len(data["image/png"]) <= MAX_BYTES
    assert data["text/plain"] == "line"
    from PIL import Image

    width = Image.open(io.BytesIO(data["image/png"])).width
    assert width == 2 * metadata["image/png"]["width"]


def test_the_users_matplotlib_is_left_alone():
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    curves = Curves()
    curves.append(1, {"loss": 1.0})
    curves.append(2, {"loss": math.inf})
    mime_bundle("title", "line", curves)
    assert dict(mpl.rcParams) == before


def test_times_read_as_clocks():
    assert [clock(s) for s in (8.2, 760, 3723)] == ["0:08", "12:40", "1:02:03"]


def system(step, step_time, wait, **more):
    return Metric(1.0, step, 1, {"step_time": step_time, "wait": wait, "rss": 1e8, **more}, "sys")


def test_the_rank_for_which_the_others_wait_is_marked():
    run = run_of(3)
    run.take({0: [system(10, 0.1, 0.05)], 1: [system(10, 0.1, 0.01)], 2: [system(10, 0.1, 0.06)]})
    assert [rank["slow"] for rank in run.view(1001.0)["ranks"]] == [False, True, False]
    assert run.view(1001.0)["ranks"][0]["wait"] == pytest.approx(0.5)


def test_ranks_that_wait_alike_are_not_marked():
    run = run_of(2)
    run.take({0: [system(10, 0.1, 0.02)], 1: [system(10, 0.1, 0.03)]})
    assert not any(rank["slow"] for rank in run.view(1001.0)["ranks"])
    alone = run_of(1)
    alone.take({0: [system(10, 0.1, 0.0)]})
    assert not alone.view(1001.0)["ranks"][0]["slow"]
    assert alone.scaling() == ""


def test_what_the_ranks_gain_comes_from_their_waiting():
    run = run_of(2)
    assert run.scaling() == ""
    run.take({0: [system(10, 0.1, 0.02), system(20, 0.1, 0.04)], 1: [system(20, 0.1, 0.01)]})
    assert run.scaling() == (
        "2 ranks: at most 1.6 times one, a rank spends 20% of a step waiting for others"
    )
    short = run_of(2)
    short.take({rank: [system(10, 0.002, 0.0015)] for rank in (0, 1)})
    assert short.scaling().endswith("steps of 2.0 ms are short for more than one rank")


def test_what_a_gpu_tells_is_one_word():
    run = run_of(1)
    run.take({0: [system(1, 0.1, 0.0, gpu_memory=3 * 2**30, gpu_use=87.0)]})
    assert run.view(1001.0)["ranks"][0]["gpu"] == "3.0 GB · 87 %"


def test_what_a_cell_logs_is_a_curve_where_the_cell_wants_it():
    run = run_of()
    run.take({0: [Metric(1.0, 40, 1, {"loss": 1.0}), Metric(1.0, 2, 1, {"acc": 0.5}, "log")]})
    assert list(run.curves.by_name["acc"].steps) == [2]
    assert run.step == 40


def test_the_summary_escapes_what_comes_from_a_user():
    run = run_of()
    run.spec = replace(run.spec, name="<img src=x onerror=alert(1)>")
    run.facts = ["replicated: <b>Net</b>"]
    run.cost = "1 core-hours"
    shown = summary_html(run, 1001.0)
    assert "<img" not in shown
    assert "<b>" not in shown
    assert "1 core-hours" in shown
    assert summary_text(run, 1001.0).endswith("replicated: <b>Net</b>")


def test_a_stored_run_is_small_json_for_any_length_and_any_number_of_curves():
    run = run_of()
    for step in range(20_000):
        run.curves.append(step, {f"loss{n}": math.sin(step) / 3 for n in range(100)})
    run.curves.append(20_000, {"loss0": math.nan, "loss1": -math.inf})
    text = json.dumps(stored_run(run, 1001.0), allow_nan=False)
    assert len(text) < 120_000
    curves = {curve["name"]: curve for curve in json.loads(text)["curves"]}
    assert len(curves) == 64
    assert (curves["loss0"]["y"][-1], curves["loss1"]["y"][-1]) == ("nan", "-inf")


def test_the_next_model_of_a_cell_begins_with_its_first_epoch():
    run = run_of(epochs=3)
    steps = [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2)]
    run.take({0: [Metric(1004.0 + step, step, epoch, {"loss": 1.0}) for step, epoch in steps]})
    assert "epoch 2 of 3" in run.title(1010.0)
    run.take_status(status(State.RUNNING, Phase.RUNNING, Phase.RUNNING, step=5))
    # 2 of 3 epochs, but for 15 batches of 20, since the model's first step at 1008.
    assert run.eta(1013.0) == pytest.approx(5.0 * (1 - 1.25 / 3) / (1.25 / 3))
    assert run.step == 5
    # A counter that lags behind the journal takes nothing back.
    run.take_status(status(State.RUNNING, Phase.RUNNING, Phase.RUNNING, step=3))
    run.take({0: [Metric(1011.0, 6, 3, {"loss": 1.0})]})
    assert "epoch 3 of 3" in run.title(1012.0)
