"""A job's metrics in the hands of other tools, read back by those tools; what a job has used."""

from __future__ import annotations

import math

import pytest

import nbaas
from nbaas.errors import UsageError
from nbaas.jobs.cost import Prices, cost_of
from nbaas.jobs.exports import Exports, check_tools
from nbaas.jobs.follow import follow
from nbaas.records import State

pytestmark = pytest.mark.ranks

CELL = """
import torch
for i in range(4):
    nbaas.log(acc=i / 4, odd=float("nan"), step=i)
nbaas.log(pixels=torch.rand(3, 6, 5), weights=nbaas.histogram(torch.randn(100)), step=3)
sum(n * n for n in range(3_000_000))
"""


@pytest.fixture
def ended(run):
    job = run(CELL, {"nbaas": nbaas}, ranks=1)
    assert job.wait(120).state is State.SUCCEEDED, job.log(0).read()
    return job


def test_event_files_hold_what_was_logged_live_and_afterwards(ended, tmp_path, cli):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    exports = Exports(ended, tensorboard=str(tmp_path / "runs"))
    for update in follow(ended):
        exports.take(update)
    exports.close(ended.status())
    assert exports.failed == []
    again = cli("metrics", ended.name, "--tensorboard", str(tmp_path / "runs")).stdout.strip()
    folders = [tmp_path / "runs" / ended.name, tmp_path / "runs" / f"{ended.name}-{ended.id}"]
    assert again == str(folders[1])
    for folder in folders:
        board = EventAccumulator(str(folder)).Reload()
        points = [(event.step, event.value) for event in board.Scalars("acc")]
        assert points == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
        assert math.isnan(board.Scalars("odd")[0].value)
        assert board.Scalars("rank0/rss")[0].value > 1e7
        assert (board.Images("pixels")[0].width, board.Images("pixels")[0].height) == (5, 6)
        assert board.Histograms("weights")[0].histogram_value.num == 100


def test_an_mlflow_run_holds_what_was_logged(ended, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    exports = Exports(ended, mlflow=True)
    for update in follow(ended):
        exports.take(update)
    exports.close(ended.status())
    assert exports.failed == []
    client = MlflowClient()
    experiment = client.get_experiment_by_name("nbaas")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == (ended.name, "FINISHED")
    assert found.data.params["ranks"] == "1"
    history = client.get_metric_history(found.info.run_id, "acc")
    assert sorted((m.step, m.value) for m in history) == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]
    assert client.list_artifacts(found.info.run_id, "pictures/pixels")


def test_an_export_that_fails_is_told_and_ends_nothing(ended, tmp_path):
    (tmp_path / "file").write_text("in the way")
    exports = Exports(ended, tensorboard=str(tmp_path / "file"))
    for update in follow(ended):
        exports.take(update)
    exports.close(ended.status())
    assert len(exports.failed) == 1
    assert exports.failed[0].startswith("--tensorboard: ")


def test_a_tool_that_is_not_installed_is_told_with_the_way_out(monkeypatch):
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "mlflow", raising=False)
    with pytest.raises(UsageError, match="mlflow is not installed") as refused:
        check_tools("", mlflow=True)
    assert "pip install" in refused.value.hint


def test_a_real_job_tells_the_core_hours_it_held_and_what_it_ran(ended):
    status = ended.status()
    cost = cost_of(ended, status, Prices(core_hour=3600.0), now=0.0)
    seconds = (status.since - status.started) * ended.spec.slots[0].threads
    assert 3600 * cost.core_hours == pytest.approx(seconds)
    assert cost.busy_core_hours > 0
    assert cost.money == pytest.approx(seconds)
