"""ONNX Runtime serves a version when it was asked for or measured to be faster, with torch's answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.engine_choice import NEEDED, choose_engine, is_faster
from nbaas.deploy.registry import read_version
from nbaas.errors import DeployError, UsageError
from tests.deploy.conftest import deployed, mlp

installed = all(importlib.util.find_spec(name) for name in NEEDED)
needs_onnx = pytest.mark.skipif(not installed, reason="onnxruntime is not installed")


@pytest.mark.parametrize(
    ("single", "batch", "faster"),
    [
        ((1, 2), (1, 2), True),
        ((2, 1), (1, 2), False),
        ((1, 2), (3, 2), False),
        ((1, 2), (2.05, 2), True),
    ],
)
def test_the_engine_is_chosen_by_what_was_measured(single, batch, faster):
    notes = {
        "single": {"onnx": single[0], "torch": single[1]},
        "batch": {"onnx": batch[0], "torch": batch[1]},
    }
    assert is_faster(notes) is faster


def test_an_engine_nobody_knows_is_refused_by_name(tmp_path):
    with pytest.raises(UsageError, match="'tensorrt' is no engine to serve by"):
        choose_engine(tmp_path, None, "tensorrt")


def test_without_onnxruntime_auto_is_torch_and_onnx_says_what_to_install(tmp_path):
    needed = ("no_such_runtime",)
    assert choose_engine(tmp_path, None, "auto", needed) == ("torch", {})
    with pytest.raises(DeployError, match="pip install no_such_runtime"):
        choose_engine(tmp_path, None, "onnx", needed)


@needs_onnx
@pytest.mark.ranks
def test_a_version_by_onnx_runtime_answers_as_the_model_without_torch_in_its_process(shared):
    model, x = mlp(), torch.randn(5, 64)
    options = client.Options(engine="onnx")
    endpoint = deployed(shared, model, "onnx", x, options=options)
    manifest = read_version(shared.endpoints, "onnx", 1)
    assert (manifest.engine, manifest.engine_notes["difference"] <= 1e-5) == ("onnx", True)
    assert np.abs(client.predict(shared, "onnx", x) - model(x).detach().numpy()).max() <= 1e-5
    assert endpoint.post([[0.5] * 64, [1.0] * 64]).status == 200
    [pid] = endpoint.replica_pids()
    assert "libtorch" not in Path(f"/proc/{pid}/maps").read_text()
    client.undeploy(shared, "onnx")


@needs_onnx
@pytest.mark.ranks
def test_a_model_that_does_not_export_is_served_by_torch_or_refused(shared, notebook):
    notebook.run("""
import torch
from torch import nn
class Branches(nn.Module):
    def forward(self, x):
        return x * 2 if float(x.sum()) > 0 else x * 3
""")
    x = torch.ones(2, 3)
    with pytest.raises(DeployError, match="cannot run by ONNX Runtime"):
        client.deploy(shared, notebook["Branches"](), name="branches", example=x,
                      options=client.Options(engine="onnx"))  # fmt: skip
