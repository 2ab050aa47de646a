"""Rows of a file are answered in order, and a file that does not fit leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nbaas.deploy.files import predict_file, read_rows, write_rows
from nbaas.errors import EndpointNotFoundError, InputError, UsageError

pytestmark = pytest.mark.ranks


@pytest.mark.parametrize("kind", [".csv", ".npy", ".npz"])
def test_each_row_of_a_file_gets_its_own_answer_in_its_place(digits, tmp_path, kind):
    endpoint, model = digits
    x = np.random.default_rng(0).normal(size=(600, 64)).astype("f4")
    write_rows(tmp_path / f"in{kind}", {"x": x})
    told = []
    done = predict_file(
        endpoint.settings, "digits", tmp_path / f"in{kind}", tmp_path / f"out{kind}",
        progress=lambda rows, total: told.append((rows, total)),
    )  # fmt: skip
    assert done == 600
    assert told == [(256, 600), (512, 600), (600, 600)]
    got = next(iter(read_rows(tmp_path / f"out{kind}", ["output"]).values()))
    assert np.abs(got - model(torch.from_numpy(x)).detach().numpy()).max() <= 1e-5


def test_a_row_that_does_not_fit_is_named_and_nothing_is_written(digits, tmp_path):
    endpoint, _ = digits
    np.save(tmp_path / "in.npy", np.zeros((3, 63), "f4"))
    with pytest.raises(
        InputError, match=r"in\.npy, rows 1 to 3: input 'x': expected FP32 \[-1,64\]"
    ):
        predict_file(endpoint.settings, "digits", tmp_path / "in.npy", tmp_path / "out.npy")
    assert [path.name for path in tmp_path.iterdir()] == ["in.npy"]


def test_a_pickle_is_not_loaded_and_an_empty_file_is_said(digits, tmp_path):
    endpoint, _ = digits
    np.save(tmp_path / "in.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"in\.npy cannot be read"):
        predict_file(endpoint.settings, "digits", tmp_path / "in.npy", tmp_path / "out.npy")
    np.save(tmp_path / "in.npy", np.zeros((0, 64), "f4"))
    with pytest.raises(InputError, match="holds no row"):
        predict_file(endpoint.settings, "digits", tmp_path / "in.npy", tmp_path / "out.npy")


def test_a_file_of_another_kind_and_an_unknown_endpoint_are_refused(digits, tmp_path):
    endpoint, _ = digits
    with pytest.raises(UsageError, match=r"in\.xls is of no known kind"):
        predict_file(endpoint.settings, "digits", tmp_path / "in.xls", tmp_path / "out.csv")
    with pytest.raises(EndpointNotFoundError, match="no endpoint 'nothing'"):
        predict_file(endpoint.settings, "nothing", tmp_path / "in.csv", tmp_path / "out.csv")


def test_the_openapi_document_describes_what_the_token_reaches(digits):
    endpoint, _ = digits
    assert endpoint.request("GET", "/openapi.json", token="").status == 401
    content = endpoint.request("GET", "/openapi.json").json
    assert content["openapi"] == "3.1.0"
    infer = content["paths"]["/v2/models/digits/infer"]["post"]
    schema = infer["requestBody"]["content"]["application/json"]["schema"]
    [described] = schema["properties"]["inputs"]["items"]["oneOf"]
    assert described["properties"]["name"] == {"const": "x"}
    assert described["properties"]["shape"]["prefixItems"][1] == {"const": 64}
    jsonschema = pytest.importorskip("jsonschema")
    entry = {"name": "x", "shape": [1, 64], "datatype": "FP32", "data": [0.5] * 64}
    jsonschema.validate({"inputs": [entry]}, schema)
    assert endpoint.post({"inputs": [entry]}, endpoint.infer).status == 200
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"inputs": [entry | {"shape": [1, 63]}]}, schema)
