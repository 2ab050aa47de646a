"""Third-party clients of the Open Inference Protocol get exact answers: tritonclient, curl."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.ranks
triton = pytest.importorskip("tritonclient.http")


def inputs_of(x, *, binary: bool):
    given = triton.InferInput("x", list(x.shape), "FP32")
    given.set_data_from_numpy(x, binary_data=binary)
    return [given], [triton.InferRequestedOutput("output", binary_data=binary)]


@pytest.fixture
def headers(digits):
    return {"Authorization": f"Bearer {digits[0].token}"}


@pytest.fixture
def client(digits):
    host, port = digits[0].address
    with triton.InferenceServerClient(f"{host}:{port}") as opened:
        yield opened


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip", "deflate"])
def test_triton_gets_the_models_answer(digits, client, headers, binary, compression):
    model = digits[1]
    x = np.random.default_rng(0).normal(size=(3, 64)).astype("f4")
    inputs, outputs = inputs_of(x, binary=binary)
    answer = client.infer(
        "digits", inputs, outputs=outputs, headers=headers, request_id="t-1",
        request_compression_algorithm=compression,
    )  # fmt: skip
    assert (
        np.abs(answer.as_numpy("output") - model(torch.from_numpy(x)).detach().numpy()).max()
        <= 1e-6
    )
    assert answer.get_response()["id"] == "t-1"


def test_triton_reads_health_and_metadata(client, headers):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("digits", headers=headers)
    assert client.is_model_ready("digits", "1", headers=headers)
    assert not client.is_model_ready("digits", "9", headers=headers)
    assert client.get_server_metadata()["name"] == "nbaas"
    assert client.get_model_metadata("digits", headers=headers)["inputs"][0]["shape"] == [-1, 64]
    index = client.get_model_repository_index(headers=headers)
    assert [row["name"] for row in index] == ["digits"]


def test_triton_shows_the_reason_of_a_refusal(client, headers):
    from tritonclient.utils import InferenceServerException

    inputs, outputs = inputs_of(np.zeros((1, 63), "f4"), binary=True)
    with pytest.raises(
        InferenceServerException, match=r"expected FP32 \[-1,64\], got FP32 \[1,63\]"
    ):
        client.infer("digits", inputs, outputs=outputs, headers=headers)
    inputs, outputs = inputs_of(np.zeros((1, 64), "f4"), binary=True)
    with pytest.raises(InferenceServerException, match="token"):
        client.infer("digits", inputs, outputs=outputs)
    with pytest.raises(InferenceServerException, match="no version 9"):
        client.infer("digits", inputs, outputs=outputs, model_version="9", headers=headers)


def test_the_asynchronous_triton_client_asks_many_at_a_time(digits, headers):
    aio = pytest.importorskip("tritonclient.http.aio")
    endpoint, model = digits
    x = np.random.default_rng(1).normal(size=(32, 64)).astype("f4")

    async def main():
        host, port = endpoint.address
        async with aio.InferenceServerClient(f"{host}:{port}") as opened:
            calls = (
                opened.infer("digits", inputs_of(x[i : i + 1], binary=True)[0], headers=headers)
                for i in range(len(x))
            )
            return await asyncio.gather(*calls)

    got = np.concatenate([answer.as_numpy("output") for answer in asyncio.run(main())])
    assert np.abs(got - model(torch.from_numpy(x)).detach().numpy()).max() <= 1e-5


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_line_of_the_readme_works(digits):
    endpoint, model = digits
    host, port = endpoint.address
    token_file = endpoint.settings.endpoints / "digits" / "token"
    line = (
        f'curl -sf -H "Authorization: Bearer $(cat {token_file})" '
        f"-d '{{\"inputs\": [{[0.5] * 64}]}}' http://{host}:{port}/predict/digits"
    )
    answer = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=30, check=True
    )
    expected = model(torch.full((1, 64), 0.5)).detach().numpy()
    assert np.abs(np.array(json.loads(answer.stdout)["outputs"]) - expected).max() <= 1e-6
