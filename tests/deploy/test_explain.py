"""An explanation adds up to the score it explains, and what cannot be explained is said in one line."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.attribution import MAX_WINDOWS, Wish, attribute, window_for
from nbaas.deploy.explain import METHODS
from nbaas.deploy.explanations import ask_why
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.errors import InputError
from tests.deploy.conftest import REPOSITORY, deployed

pytest.importorskip("captum")

MODELS = """
import torch
from torch import nn

class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.places = nn.Embedding(12, 8)
        self.head = nn.Linear(8, 3)
    def forward(self, ids, mask):
        x = self.words(ids) + self.places(torch.arange(ids.shape[1]))
        return {"logits": self.head((x * mask[..., None]).mean(1))}

class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(6, 2)
    def forward(self, x):
        return self.fc(x.float())

class Detached(Linear):
    def forward(self, x):
        return torch.from_numpy(self.fc(x).detach().numpy() * 1)

def label(scores):
    return scores.argmax(1)
"""


def signed(kind: str, shape: tuple[int, ...], *, width: int = 2, name: str = "x") -> Signature:
    outputs = (TensorSpec("output", "FP32", (-1, width)),)
    return Signature((TensorSpec(name, kind, (-1, *shape)),), outputs)


def test_a_linear_model_is_explained_by_its_weights_whatever_the_method(notebook):
    model = notebook.run(MODELS)["Linear"]().eval()
    x = torch.randn(3, 6)
    for method in METHODS:
        found = attribute(model, signed("FP32", (6,)), [x], Wish(method=method, target=1))
        assert torch.allclose(found.parts["x"], model.fc.weight[1] * x, atol=1e-5), method
        assert torch.allclose(found.score, model(x)[:, 1])
        assert torch.allclose(found.baseline, model.fc.bias[1].expand(3))
    assert not any(p.grad is not None for p in model.parameters())


def test_the_tokens_of_a_row_add_up_and_the_mask_is_no_part(notebook):
    model = notebook.run(MODELS)["Bag"]().eval()
    ids, mask = torch.randint(1, 20, (2, 12)), torch.ones(2, 12)
    specs = (TensorSpec("ids", "INT64", (-1, 12)), TensorSpec("mask", "FP32", (-1, 12)))
    signature = Signature(specs, (TensorSpec("logits", "FP32", (-1, 3)),), returns="mapping")
    found = attribute(model, signature, [ids, mask], Wish(input="ids"))
    assert set(found.parts) == {"ids"}
    total = found.parts["ids"].sum(1)
    assert torch.allclose(total, found.score - found.baseline, atol=1e-3)
    blanked = attribute(model, signature, [ids, mask], Wish(input="ids", method="occlusion"))
    assert torch.allclose(blanked.parts["ids"], found.parts["ids"], atol=1e-3)  # it is linear


@pytest.mark.parametrize(
    ("inner", "asked", "window"),
    [
        ((64,), (), (1,)),
        ((3, 32, 32), (), (3, 4, 4)),
        ((28, 28), (), (3, 3)),
        ((32, 16, 3), (), (4, 2, 3)),
        ((28, 28), (7,), (7, 7)),
        ((5000,), (), (8,)),
        ((6,), (100,), (6,)),
    ],
)
def test_the_window_follows_the_shape(inner, asked, window):
    assert window_for(inner, asked) == window
    assert np.prod([-(-a // b) for a, b in zip(inner, window, strict=True)]) <= MAX_WINDOWS


def test_what_has_no_gradients_is_named_with_the_way_out(notebook):
    notebook.run(MODELS)
    x = torch.ones(2, 6)
    with pytest.raises(InputError, match=r"'x' is INT64 \[-1,6\] .*no gradients.*occlusion"):
        attribute(notebook["Linear"](), signed("INT64", (6,)), [x.long()], Wish())
    with pytest.raises(InputError, match="'x' is not differentiable in this model"):
        attribute(notebook["Detached"](), signed("FP32", (6,)), [x], Wish())
    found = attribute(notebook["Detached"](), signed("FP32", (6,)), [x], Wish("occlusion"))
    assert found.parts["x"].abs().sum() > 0


def test_the_route_explains_in_json_and_binary_and_goes_on_predicting(digits):
    endpoint, model = digits
    x = torch.randn(3, 64)
    found = ask_why(endpoint.settings, "digits", x)
    scores, target = model(x).max(1)
    assert found.parts["x"].shape == (3, 64)
    assert np.array_equal(found.target, target)
    assert np.allclose(found.score, scores.detach(), atol=1e-5)
    assert np.allclose(found.parts["x"].sum(1), found.score - found.baseline, atol=1e-2)
    path = "/v2/models/digits/versions/1/explain"
    plain = endpoint.post({"inputs": x.tolist(), "parameters": {"target": 3}}, path).json
    assert plain["outputs"]["target"] == [3, 3, 3]
    entry = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": x[0].tolist()}
    asked = endpoint.post({"inputs": [entry], "id": "why"}, path).json
    assert (asked["id"], [o["name"] for o in asked["outputs"]]) == (
        "why", ["x", "target", "score", "baseline"],
    )  # fmt: skip
    assert np.allclose(client.predict(endpoint.settings, "digits", x), model(x).detach(), atol=1e-5)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"inputs": [[1.0] * 63]}, "expected FP32"),
        ({"inputs": [[1.0] * 64], "parameters": {"target": 10}}, "no target 10 .0 to 9"),
        ({"inputs": [[1.0] * 64], "parameters": {"target": "a"}}, "parameters do not fit"),
        ({"inputs": [[1.0] * 64], "parameters": {"method": "magic"}}, "'magic' is no method"),
        ({"inputs": [[1.0] * 64], "parameters": {"steps": 10**6}}, "1 to 512"),
        ({"inputs": [[1.0] * 64], "parameters": {"window": [2, 2]}, }, "row has 1 dimensions"),
        ({"inputs": [[1.0] * 64] * 17}, "at most 16"),
        (b"\xff\xff", "not JSON"),
    ],
)  # fmt: skip
def test_a_wish_that_cannot_be_granted_is_a_400_with_the_reason(digits, body, reason):
    endpoint, _ = digits
    if isinstance(body, dict) and "window" in body.get("parameters", {}):
        body["parameters"]["method"] = "occlusion"
    answered = endpoint.post(body, "/v2/models/digits/explain")
    assert (answered.status, bool(re.search(reason, answered.error))) == (400, True), answered.body


def test_explain_needs_a_token_and_post(digits):
    endpoint, _ = digits
    path = "/v2/models/digits/explain"
    assert endpoint.request("POST", path, token="wrong", body=b"{}").status == 401
    assert endpoint.request("GET", path).status == 405
    described = endpoint.request("GET", "/openapi.json").json["paths"][path]["post"]
    schema = described["requestBody"]["content"]["application/json"]["schema"]
    assert schema["properties"]["parameters"]["properties"]["method"]["enum"] == list(METHODS)


def test_a_step_that_leaves_only_labels_is_left_out_of_the_explanation(shared, notebook):
    notebook.run(MODELS)
    x = torch.randn(2, 6)
    model = notebook["Linear"]()
    deployed(shared, model, "labelled", x, post=notebook["label"])
    found = ask_why(shared, "labelled", x)
    assert np.allclose(found.score, model(x).max(1).values.detach(), atol=1e-5)
    client.undeploy(shared, "labelled")


def test_without_captum_the_answer_says_what_to_install():
    code = """
import json, sys
sys.modules["captum"] = None  # as where it is not installed
from types import SimpleNamespace
from nbaas.deploy.explain import Explainer
from nbaas.deploy.manifest import Signature, TensorSpec
from nbaas.errors import NbaasError
spec = TensorSpec("x", "FP32", (-1, 2))
manifest = SimpleNamespace(signature=Signature((spec,), (spec,)), batchable=True)
try:
    Explainer("", "m", "1", SimpleNamespace(manifest=manifest)).answer(-1, b"[[1.0, 2.0]]")
except NbaasError as error:
    print(json.dumps([error.http_status, str(error)]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60,
        check=True,
    )  # fmt: skip
    status, reason = json.loads(done.stdout)
    assert status == 501
    assert "pip install 'nbaas[explain]'" in reason
