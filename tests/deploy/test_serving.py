"""A deployed notebook model over real HTTP: answers equal to the model's, clear refusals, tokens."""

from __future__ import annotations

import asyncio
import gzip
import json
import re

import numpy as np
import pytest
import torch
from torch import nn

from nbaas.deploy import client
from nbaas.deploy.hosting import ask_host
from nbaas.errors import (
    DeployError,
    EndpointError,
    EndpointNotFoundError,
    InputError,
    UsageError,
)
from tests.deploy.conftest import Notebook, answer_of, ask, deployed, exchange, mlp

pytestmark = pytest.mark.ranks
ROW = [0.5] * 64


def v2(data, shape, **fields):
    return {"inputs": [{"name": "x", "shape": shape, "datatype": "FP32", "data": data}], **fields}


def test_predict_equals_the_model_in_the_notebook(digits):
    endpoint, model = digits
    for rows in (1, 5, 100):
        x = torch.randn(rows, 64)
        answer = client.predict(endpoint.settings, "digits", x)
        assert answer.dtype == np.float32
        assert np.abs(answer - model(x).detach().numpy()).max() <= 1e-6


@pytest.mark.parametrize("form", ["tensor", "array", "list", "mapping", "float64"])
def test_predict_takes_what_people_hold(digits, form):
    endpoint, model = digits
    x = torch.randn(2, 64)
    given = {"tensor": x, "array": x.numpy(), "list": x.tolist(), "mapping": {"x": x},
             "float64": x.double().numpy()}[form]  # fmt: skip
    answer = client.predict(endpoint.settings, "digits", given)
    assert np.abs(answer - model(x).detach().numpy()).max() <= 1e-6


def test_open_inference_json_binary_and_plain_give_the_same(digits):
    endpoint, model = digits
    x = torch.randn(2, 64)
    expected = model(x).detach().numpy()
    spoken = endpoint.post(v2(x.ravel().tolist(), [2, 64], id="a7"), endpoint.infer).json
    assert (spoken["id"], spoken["model_name"]) == ("a7", "digits")
    assert np.abs(np.reshape(spoken["outputs"][0]["data"], (2, 10)) - expected).max() <= 1e-6
    plain = endpoint.post({"inputs": x.tolist()}).json
    assert np.abs(np.array(plain["outputs"]) - expected).max() <= 1e-6
    one = endpoint.post(x[0].tolist()).json
    assert np.abs(np.array(one["outputs"]) - expected[0]).max() <= 1e-6


def test_a_compressed_body_is_taken(digits):
    endpoint, _ = digits
    body = gzip.compress(json.dumps({"inputs": [ROW]}).encode())
    assert endpoint.post(body, Content_Encoding="gzip").status == 200
    assert endpoint.post(body, Content_Encoding="br").status == 415
    assert endpoint.post(body[:-8], Content_Encoding="gzip").status == 400


def test_the_answer_names_the_version_and_echoes_the_request_id(digits):
    endpoint, _ = digits
    answered = endpoint.post([ROW], X_Request_Id="r-1")
    assert answered.headers["x-nbaas-version"] == "1"
    assert answered.headers["x-request-id"] == "r-1"


BAD_BODIES = [
    (b"", "is not JSON"),
    (b"{", "is not JSON"),
    (b'"hello"', "is not JSON"),
    (b"[[1, 2", "is not JSON"),
    (b"{}", "input 'x' is missing"),
    (b'{"inputs": null}', "no list of numbers"),
    (b'{"inputs": [["a"]]}', "got `str`"),
    (json.dumps([ROW[:63]]).encode(), "input 'x': expected FP32 [-1,64], got FP32 [1,63]"),
    (json.dumps([ROW, ROW[:63]]).encode(), "the rows differ in length"),
    (b"[" * 200_000, "expected"),
    (json.dumps(v2(ROW[:63], [1, 63])).encode(), "input 'x': expected FP32 [-1,64], got FP32 [1,63]"),
    (json.dumps({"inputs": [{"name": "x", "shape": [1, 64], "datatype": "INT64", "data": [1] * 64}]})
     .encode(), "input 'x': expected FP32 [-1,64], got INT64 [1,64]"),
    (json.dumps({"y": [ROW]}).encode(), "there is no input 'y'"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "reason"), BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_p47_a_bad_body_is_a_400_with_the_expected_signature(digits, body, reason):
    endpoint, _ = digits
    answered = endpoint.post(body)
    assert answered.status == 400
    assert reason in answered.error
    assert "FP32 [-1,64]" in answered.error
    assert endpoint.post([ROW]).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("POST", "/v2/models/nothing/infer", 404, "no endpoint 'nothing'"),
        ("POST", "/predict/nothing", 404, "no endpoint 'nothing'"),
        ("POST", "/v2/models/digits/versions/99/infer", 404, "no version 99"),
        ("GET", "/v2/models/digits/versions/99", 404, "no version 99"),
        ("GET", "/v2/models/digits/infer", 405, "POST"),
        ("DELETE", "/v2/models/digits", 405, "POST"),
        ("PUT", "/v2/health/live", 405, "GET"),
        ("GET", "/", 404, "nothing here"),
        ("GET", "/v2/models/..%2f..%2fetc", 404, "no endpoint"),
        ("GET", "/predict/../../etc/passwd", 404, "no endpoint"),
    ],
)
def test_a_route_that_is_not_there_is_said_in_one_sentence(digits, method, path, status, reason):
    endpoint, _ = digits
    answered = endpoint.request(method, path)
    assert (answered.status, reason in answered.error) == (status, True), answered.error


@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v2/models/digits/infer"), ("POST", "/predict/digits"), ("GET", "/v2/models/digits"),
     ("GET", "/v2/models/digits/ready"), ("GET", "/metrics"), ("POST", "/v2/repository/index")],
)  # fmt: skip
def test_without_its_token_nothing_of_an_endpoint_shows(digits, method, path, token):
    endpoint, _ = digits
    answered = endpoint.request(method, path, token=token, body=b"[]")
    assert answered.status == 401
    assert "digits" not in answered.error


def test_the_token_of_one_endpoint_does_not_open_another(shared, digits):
    endpoint, _ = digits
    other = deployed(shared, mlp(seed=1), "other", torch.zeros(1, 64))
    for path in (other.infer, "/v2/models/other", "/metrics"):
        method = "POST" if path == other.infer else "GET"
        answered = endpoint.request(method, path, body=b"{}" if method == "POST" else b"")
        assert answered.status in (401, 404)
    client.undeploy(shared, "other")


def test_no_token_is_written_in_clear_but_in_the_owners_file(digits, shared):
    endpoint, _ = digits
    secret = endpoint.token.encode()
    holders = [p for p in shared.home.rglob("*") if p.is_file() and secret in p.read_bytes()]
    assert [path.name for path in holders] == ["token"]
    assert holders[0].stat().st_mode & 0o077 == 0


def test_p65_state_and_sockets_are_the_owners_alone(shared, digits):
    for path in (shared.endpoints / "_host").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path


def test_tokens_are_created_listed_without_value_revoked_and_expire(digits, eventually):
    endpoint, _ = digits
    made = client.create_token(endpoint.settings, "digits", label="ci", lifetime=3600)
    assert endpoint.request("GET", "/v2/models/digits", token=made.value).status == 200
    listed = client.list_tokens(endpoint.settings, "digits")
    assert {token.label for token in listed} == {"default", "ci"}
    assert not any(made.value in repr(token) for token in listed)
    client.revoke_token(endpoint.settings, "digits", made.id)
    assert endpoint.request("GET", "/v2/models/digits", token=made.value).status == 401
    brief = client.create_token(endpoint.settings, "digits", label="brief", lifetime=0.3)
    eventually(
        lambda: endpoint.request("GET", "/v2/models/digits", token=brief.value).status == 401
    )
    with pytest.raises(DeployError, match="no token 'zz'"):
        client.revoke_token(endpoint.settings, "digits", "zz")


def test_metadata_readiness_index_and_metrics(digits):
    endpoint, _ = digits
    assert endpoint.request("GET", "/v2", token="").json["extensions"] == ["binary_tensor_data"]
    assert endpoint.request("GET", "/v2/health/live", token="").status == 200
    assert endpoint.request("GET", "/v2/health/ready", token="").status == 200
    described = endpoint.request("GET", "/v2/models/digits").json
    assert described["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, 64]}]
    assert described["outputs"] == [{"name": "output", "datatype": "FP32", "shape": [-1, 10]}]
    assert endpoint.request("GET", "/v2/models/digits/versions/1/ready").status == 200
    index = endpoint.request("POST", "/v2/repository/index").json
    assert [(row["name"], row["state"]) for row in index] == [("digits", "READY")]
    endpoint.post([ROW])
    host_token = client.host_token(endpoint.settings)
    text = endpoint.request("GET", "/metrics", token=host_token).body.decode()
    counted = re.search(
        r'nbaas_requests_total\{code="200",endpoint="digits",version="1"\} (\S+)', text
    )
    assert float(counted[1]) >= 1
    assert 'nbaas_batch_size_bucket{endpoint="digits",le="+Inf",version="1"}' in text


def test_the_list_says_how_each_endpoint_stands(digits):
    endpoint, _ = digits
    row = next(r for r in client.list_endpoints(endpoint.settings) if r.name == "digits")
    assert (row.version, row.state, row.replicas, row.ready) == (1, "READY", 1, 1)
    assert row.requests > 0


# ------------------------------------------------------------------ many at a time


def test_256_concurrent_distinct_inputs_each_get_their_own_answer(digits):
    endpoint, model = digits
    x = torch.randn(256, 64)
    expected = model(x).detach().numpy()

    async def one(i):
        body = json.dumps({"inputs": [x[i].tolist()]}).encode()
        return await exchange(
            endpoint.address, "POST", endpoint.plain, token=endpoint.token, body=body
        )

    async def everyone():
        return await asyncio.gather(*(one(i) for i in range(256)))

    answers = asyncio.run(everyone())
    got = np.array([answered.json["outputs"][0] for answered in answers])
    assert np.abs(got - expected).max() <= 1e-5


def test_one_bad_row_in_a_batch_spoils_no_other(shared, notebook):
    notebook.run("""
import torch
from torch import nn
class Picky(nn.Module):
    def forward(self, x):
        if (x < 0).any():
            raise ValueError("negative input")
        return x * 2
""")
    endpoint = deployed(shared, notebook["Picky"](), "picky", torch.ones(2, 3))

    async def everyone():
        rows = [[-1.0 if i % 5 == 0 else float(i)] * 3 for i in range(40)]
        bodies = [json.dumps([row]).encode() for row in rows]
        token = endpoint.token
        calls = (
            exchange(endpoint.address, "POST", endpoint.plain, token=token, body=b) for b in bodies
        )
        return await asyncio.gather(*calls)

    for i, answered in enumerate(asyncio.run(everyone())):
        if i % 5 == 0:
            assert (answered.status, answered.error) == (
                500,
                "the model raised ValueError: negative input",
            )
        else:
            assert answered.json["outputs"] == [[2.0 * i] * 3]
    client.undeploy(shared, "picky")


def test_rows_that_depend_on_each_other_are_run_one_request_at_a_time(shared, notebook):
    notebook.run("""
from torch import nn
class Centered(nn.Module):
    def forward(self, x):
        return x - x.mean(0)
""")
    endpoint = deployed(shared, notebook["Centered"](), "centered", torch.randn(2, 3))

    async def everyone():
        bodies = [json.dumps([[float(i)] * 3, [float(i) + 2] * 3]).encode() for i in range(30)]
        token = endpoint.token
        calls = (
            exchange(endpoint.address, "POST", endpoint.plain, token=token, body=b) for b in bodies
        )
        return await asyncio.gather(*calls)

    for answered in asyncio.run(everyone()):
        assert answered.json["outputs"] == [[-1.0] * 3, [1.0] * 3]
    client.undeploy(shared, "centered")


def test_requests_of_different_width_are_never_mixed(shared, notebook):
    notebook.run("""
from torch import nn
class Double(nn.Module):
    def forward(self, x):
        return x * 2
""")
    model, example = notebook["Double"](), torch.ones(2, 3)
    endpoint = deployed(shared, model, "double", example)
    answered = endpoint.post([[1.0] * 4])
    assert answered.status == 400
    client.undeploy(shared, "double")


# ------------------------------------------------------------------ HTTP as it comes


def talk(endpoint, work):
    """Run `work(reader, writer)` on one connection to the gateway."""

    async def main():
        reader, writer = await asyncio.open_connection(*endpoint.address)
        try:
            async with asyncio.timeout(20):
                return await work(reader, writer)
        finally:
            writer.close()

    return asyncio.run(main())


def raw(endpoint, body: bytes, *lines: str) -> bytes:
    head = [f"POST {endpoint.plain} HTTP/1.1", "Host: h", f"Authorization: Bearer {endpoint.token}"]
    return "\r\n".join([*head, *lines, "", ""]).encode() + body


def test_a_connection_serves_many_requests_and_pipelined_answers_keep_their_order(digits):
    endpoint, model = digits
    x = torch.randn(10, 64)

    async def work(reader, writer):
        for row in x:
            body = json.dumps([row.tolist()]).encode()
            writer.write(raw(endpoint, body, f"Content-Length: {len(body)}"))
        return [(await answer_of(reader)).json["outputs"][0] for _ in x]

    answers = np.array(talk(endpoint, work))
    assert np.abs(answers - model(x).detach().numpy()).max() <= 1e-5


def test_a_body_in_pieces_and_a_chunked_one_are_read_whole(digits):
    endpoint, _ = digits
    body = json.dumps([ROW]).encode()

    async def work(reader, writer):
        whole = raw(endpoint, body, f"Content-Length: {len(body)}")
        for i in range(0, len(whole), 97):
            writer.write(whole[i : i + 97])
            await writer.drain()
        first = await answer_of(reader)
        chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        writer.write(raw(endpoint, chunk, "Transfer-Encoding: chunked"))
        return first.status, (await answer_of(reader)).status

    assert talk(endpoint, work) == (200, 200)


def test_expect_continue_is_answered_before_the_body(digits):
    endpoint, _ = digits
    body = json.dumps([ROW]).encode()

    async def work(reader, writer):
        writer.write(raw(endpoint, b"", f"Content-Length: {len(body)}", "Expect: 100-continue"))
        interim = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        return interim, (await answer_of(reader)).status

    interim, status = talk(endpoint, work)
    assert interim.startswith(b"HTTP/1.1 100")
    assert status == 200


@pytest.mark.parametrize("lines", [["Content-Length: 999999999999"], ["Content-Length: 20000000"]])
def test_p47_a_huge_body_is_refused_before_it_is_sent(digits, lines):
    endpoint, _ = digits

    async def work(reader, writer):
        writer.write(raw(endpoint, b"", *lines))
        return await answer_of(reader)

    answered = talk(endpoint, work)
    assert (answered.status, "over 16777216 bytes" in answered.error) == (413, True)


def test_a_chunked_body_that_grows_over_the_limit_is_cut_off(digits):
    endpoint, _ = digits

    async def work(reader, writer):
        writer.write(raw(endpoint, b"", "Transfer-Encoding: chunked"))
        chunk = b"%x\r\n%b\r\n" % (1 << 20, b"1" * (1 << 20))
        answer = asyncio.create_task(answer_of(reader))
        for _ in range(40):
            if answer.done():
                break
            writer.write(chunk)
            await writer.drain()
        return await answer

    assert talk(endpoint, work).status == 413


@pytest.mark.parametrize(
    "garbage",
    [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST / HTTP/9.9\r\n\r\n", b"\r\n\r\nnonsense\r\n\r\n",
     b"GET / HTTP/1.1\r\nA: " + b"b" * 100_000 + b"\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_http_is_answered_400_and_the_gateway_goes_on(digits, garbage):
    endpoint, _ = digits

    async def work(reader, writer):
        writer.write(garbage)
        return await reader.read(100)

    answer = talk(endpoint, work)
    assert answer.split(b" ")[1] in (b"400", b"431")
    assert endpoint.post([ROW]).status == 200


def test_rule_5_a_client_that_hangs_up_does_not_hurt_the_others(shared, notebook):
    notebook.run("""
import time
from torch import nn
class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.05)
        return x
""")
    endpoint = deployed(shared, notebook["Slow"](), "slow", notebook_ones())
    pids = endpoint.replica_pids()

    async def impatient():
        for _ in range(40):
            _, writer = await asyncio.open_connection(*endpoint.address)
            body = b"[[1, 1, 1]]"
            writer.write(raw(endpoint, body, f"Content-Length: {len(body)}"))
            await writer.drain()
            writer.transport.abort()

    async def patient():
        statuses = []
        reader, writer = await asyncio.open_connection(*endpoint.address)
        for _ in range(10):
            token, path = endpoint.token, endpoint.plain
            answered = await ask(reader, writer, "POST", path, token=token, body=b"[[2, 2, 2]]")
            statuses.append((answered.status, answered.json["outputs"]))
        writer.close()
        return statuses

    async def both():
        return (await asyncio.gather(impatient(), patient()))[1]

    assert asyncio.run(both()) == [(200, [[2.0] * 3])] * 10
    assert endpoint.replica_pids() == pids
    client.undeploy(shared, "slow")


def notebook_ones():
    return torch.ones(2, 3)


# ------------------------------------------------------------------ versions


def test_versions_follow_each_other_and_roll_back(shared):
    first, second = mlp(seed=1), mlp(seed=2)
    x = torch.randn(2, 64)
    endpoint = deployed(shared, first, "versions", x)
    made = client.deploy(shared, second, name="versions", example=x)
    assert made.version == 2
    assert np.allclose(client.predict(shared, "versions", x), second(x).detach(), atol=1e-6)
    assert client.rollback(shared, "versions").version == 1
    assert np.allclose(client.predict(shared, "versions", x), first(x).detach(), atol=1e-6)
    assert endpoint.post([ROW]).headers["x-nbaas-version"] == "1"
    assert client.rollback(shared, "versions", 2).version == 2
    with pytest.raises(DeployError, match="has no version 7"):
        client.rollback(shared, "versions", 7)
    client.undeploy(shared, "versions")
    with pytest.raises(EndpointNotFoundError, match="no endpoint 'versions'"):
        client.predict(shared, "versions", x)
    assert endpoint.request("POST", endpoint.infer, token="gone").status == 401


def test_a_canary_takes_its_share_by_percent_header_and_key(shared):
    x = torch.randn(2, 64)
    endpoint = deployed(shared, mlp(seed=1), "canary", x)
    made = client.deploy(shared, mlp(seed=2), name="canary", example=x, canary=30)
    assert made.version == 2

    def version(**headers):
        return endpoint.post([ROW], **headers).headers["x-nbaas-version"]

    assert {version(X_Nbaas_Canary="always") for _ in range(5)} == {"2"}
    assert {version(X_Nbaas_Canary="never") for _ in range(5)} == {"1"}
    assert len({version(X_Nbaas_Key="user-7") for _ in range(10)}) == 1
    by_key = [version(X_Nbaas_Key=f"user-{i}") for i in range(100)]
    assert 15 <= by_key.count("2") <= 45
    assert endpoint.described()["version"] == 1
    client.set_canary(shared, "canary", 100)
    assert {version() for _ in range(5)} == {"2"}
    assert client.rollback(shared, "canary").version == 1
    client.undeploy(shared, "canary")


# ------------------------------------------------------------------ deploys that fail


def test_p42_a_version_that_cannot_be_served_leaves_the_old_one_serving(shared, notebook):
    x = torch.ones(2, 3)
    notebook.run("""
import os, torch
from torch import nn
class Good(nn.Module):
    def forward(self, x):
        return x * 2
class Differs(nn.Module):
    def forward(self, x):
        return x + os.getpid()
class Dies(nn.Module):
    def __setstate__(self, state):
        os._exit(7)
    def forward(self, x):
        return x
class Raises(nn.Module):
    def __setstate__(self, state):
        raise RuntimeError("cannot be rebuilt")
    def forward(self, x):
        return x
""")
    endpoint = deployed(shared, notebook["Good"](), "steady", x)
    for bad, reason in [
        ("Differs", "differs from the notebook's"),
        ("Dies", "exit code 7"),
        ("Raises", "RuntimeError: cannot be rebuilt"),
    ]:
        with pytest.raises(DeployError, match=reason):
            client.deploy(shared, notebook[bad](), name="steady", example=x)
        assert endpoint.post([[1.0] * 3]).json["outputs"] == [[2.0] * 3]
    assert endpoint.described()["version"] == 1
    client.undeploy(shared, "steady")


def test_what_is_no_module_or_no_name_is_refused_before_anything_starts(settings):
    with pytest.raises(DeployError, match="a dict cannot be deployed"):
        client.deploy(settings, {}, name="x")
    with pytest.raises(UsageError, match=r"'\.\./x' is no endpoint name"):
        client.deploy(settings, nn.Linear(1, 1), name="../x")
    with pytest.raises(EndpointError, match="no endpoint host runs"):
        client.gateway_address(settings)
    assert client.list_endpoints(settings) == []
    assert not (settings.endpoints / "_host" / "lock").exists()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (torch.zeros(1, 63), r"expected FP32 \[-1,64\], got FP32 \[1,63\]"),
        (torch.zeros(64), r"expected FP32 \[-1,64\], got FP32 \[64\]"),
        (["a"], "got <U1"),
        ({"z": torch.zeros(1, 64)}, "there is no input 'z'"),
    ],
)
def test_predicting_with_a_wrong_shape_is_one_clear_line(digits, value, reason):
    endpoint, _ = digits
    with pytest.raises(InputError, match=reason) as refused:
        client.predict(endpoint.settings, "digits", value)
    assert "\n" not in str(refused.value)


def test_the_host_answers_only_what_it_knows(shared, digits):
    with pytest.raises(DeployError, match="knows no 'format'"):
        ask_host(shared, {"op": "format"}, 5.0)
    with pytest.raises(UsageError, match="no endpoint name"):
        ask_host(shared, {"op": "undeploy", "name": "../.."}, 5.0)


def test_a_notebook_class_needs_no_example_when_its_first_layer_tells(shared):
    made = Notebook().run("from torch import nn\nmodel = nn.Sequential(nn.Linear(3, 2))")["model"]
    endpoint = deployed(shared, made, "guessed", None)
    assert endpoint.post([[1.0, 2.0, 3.0]]).status == 200
    client.undeploy(shared, "guessed")
