"""Predictions through the Jupyter server are those of the gateway, and of the model itself."""

from __future__ import annotations

import http.client
import itertools
import json
import shutil
import struct
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from jupyter_process import BASE, TOKEN

from nbaas.config import Settings
from nbaas.deploy.client import deploy, gateway_address, predict, token
from nbaas.deploy.events import events
from nbaas.deploy.hosting import stop_host

pytestmark = pytest.mark.ranks

INFER = "nbaas/v2/models/digits/infer"


@pytest.fixture(scope="module")
def model():
    import torch

    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 3)).eval()


@pytest.fixture(scope="module")
def endpoints(server, model):
    """Two endpoints of one model, in the home that the server looks into."""
    import torch

    settings = Settings(home=server.home, cache=server.home)
    for name in ("digits", "other"):
        deploy(settings, model, name=name, example=torch.zeros(2, 4))
    yield settings
    stop_host(settings)
    shutil.rmtree(settings.endpoints)  # the server is shared: the next file begins at version 1


def body_of(rows):
    flat = [value for row in rows for value in row]
    entry = {"name": "input", "datatype": "FP32", "shape": [len(rows), 4], "data": flat}
    return json.dumps({"inputs": [entry]}).encode()


def input_name(server):
    rows = server.get("nbaas/api/endpoints").json["endpoints"]
    return next(row for row in rows if row["name"] == "digits")["inputs"][0]["name"]


def rows_of(answer):
    assert answer.status == 200, answer.body[:500]
    output = answer.json["outputs"][0]
    width = output["shape"][1]
    data = output["data"]
    return [data[i : i + width] for i in range(0, len(data), width)]


def expected(model, rows):
    import torch

    with torch.inference_mode():
        return model(torch.tensor(rows, dtype=torch.float32)).tolist()


@pytest.fixture(scope="module")
def request_body(server, endpoints):
    name = input_name(server)
    return lambda rows: body_of(rows).replace(b'"name": "input"', b'"name": "%s"' % name.encode())


ROWS = [[0.1, -0.2, 0.3, 0.4], [1.0, 2.0, -3.0, 4.0]]


def test_a_prediction_through_the_server_equals_the_model_and_the_gateway(
    server, endpoints, request_body, model
):
    through = rows_of(server.post(INFER, request_body(ROWS)))
    for row, right in zip(through, expected(model, ROWS), strict=True):
        assert row == pytest.approx(right, rel=1e-5, abs=1e-6)
    direct = predict(endpoints, "digits", ROWS).tolist()
    for row, same in zip(through, direct, strict=True):
        assert row == pytest.approx(same)


def test_a_binary_request_and_answer_pass_unchanged(server, request_body, model):
    name = input_name(server)
    data = struct.pack("<8f", *ROWS[0], *ROWS[1])
    entry = {"name": name, "datatype": "FP32", "shape": [2, 4]}
    entry["parameters"] = {"binary_data_size": len(data)}
    head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
    answer = server.post(
        INFER, head + data,
        Content_Type="application/octet-stream",
        Inference_Header_Content_Length=str(len(head)),
    )  # fmt: skip
    assert answer.status == 200, answer.body
    length = int(answer.headers["Inference-Header-Content-Length"])
    values = struct.unpack("<6f", answer.body[length:])
    right = expected(model, ROWS)
    assert list(values) == pytest.approx([*right[0], *right[1]], rel=1e-5, abs=1e-6)


def test_a_long_body_is_passed_on_in_parts_and_answered_right(server, request_body, model):
    rows = [[i / 1000, 1.0, -1.0, 0.5] for i in range(60_000)]
    body = request_body(rows)
    assert len(body) > 1 << 20
    through = rows_of(server.post(INFER, body))
    right = expected(model, rows)
    for index in (0, 1, 31_234, 59_999):
        assert through[index] == pytest.approx(right[index], rel=1e-4, abs=1e-5)
    assert len(through) == len(rows)


def test_many_at_once_each_get_their_own_answer(server, request_body, model):
    rows = [[float(i), 0.0, 1.0, -float(i)] for i in range(200)]
    right = expected(model, rows)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda row: server.post(INFER, request_body([row])), rows))
    for answer, row in zip(answers, right, strict=True):
        assert rows_of(answer)[0] == pytest.approx(row, rel=1e-4, abs=1e-4)


def test_a_token_of_the_endpoint_opens_it_without_a_login(server, endpoints, request_body):
    secret = token(endpoints, "digits")
    answer = server.post(INFER, request_body(ROWS), token=None, Authorization=f"Bearer {secret}")
    assert len(rows_of(answer)) == 2
    long = request_body([[0.0] * 4] * 60_000)
    answer = server.post(INFER, long, token=None, Authorization=f"Bearer {secret}")
    assert answer.status == 200


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "nbaas/v2/models/other/infer"),
        ("GET", "nbaas/v2/models/other"),
        ("GET", "nbaas/v2/repository/index"),
        ("GET", "nbaas/api/jobs"),
        ("GET", "nbaas/api/endpoints"),
        ("POST", "nbaas/api/endpoints/digits/undeploy"),
        ("GET", "api/kernels"),
    ],
)
def test_a_token_of_the_endpoint_opens_nothing_else(server, endpoints, method, path):
    secret = token(endpoints, "digits")
    body = b"{}" if method == "POST" else None
    answer = server.request(method, path, body, token=None, Authorization=f"Bearer {secret}")
    assert answer.status == 403


def test_a_rebound_host_name_is_refused_with_a_token_of_the_endpoint_too(
    server, endpoints, request_body
):
    secret = token(endpoints, "digits")
    answer = server.post(
        INFER, request_body(ROWS), token=None, Authorization=f"Bearer {secret}", Host="evil.example"
    )
    assert answer.status == 403


def test_a_page_of_ours_predicts_with_cookie_and_xsrf_token(server, request_body):
    answer = server.post(
        INFER, request_body(ROWS), token=None,
        Cookie=server.cookie_header(), X_XSRFToken=server.cookies["_xsrf"],
    )  # fmt: skip
    assert len(rows_of(answer)) == 2


@pytest.mark.parametrize("length", [10, 2_000_000])
def test_a_stranger_reaches_no_endpoint(server, endpoints, length):
    assert is_refused(server, b"x" * length, None)
    assert is_refused(server, b"x" * length, "wrong")


def is_refused(server, body, token):
    """Tell whether the body is answered 403, or a large one hung up on before it was all sent."""
    try:
        return server.post(INFER, body, token=token).status == 403
    except ConnectionError:
        return len(body) > 1_000_000


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"not json", ""),
        (b'{"inputs": []}', ""),
        (b'{"inputs": [{"name": "nobody", "datatype": "FP32", "shape": [1, 4], "data": []}]}', ""),
    ],
)
def test_bad_input_is_a_400_with_the_gateways_reason(server, endpoints, body, reason):
    answer = server.post(INFER, body)
    assert answer.status == 400
    assert answer.json["error"]


def test_an_endpoint_that_is_not_there_is_a_404(server, endpoints):
    assert server.post("nbaas/v2/models/nobody/infer").status == 404


def test_metadata_and_readiness_come_through(server, endpoints):
    assert server.get("nbaas/v2").json["name"] == "nbaas"
    assert server.get("nbaas/v2/models/digits").json["name"] == "digits"
    assert server.get("nbaas/v2/models/digits/ready").status == 200
    names = {row["name"] for row in server.get("nbaas/v2/repository/index").json}
    assert {"digits", "other"} <= names


def test_plain_json_comes_through(server, endpoints, model):
    answer = server.post("nbaas/predict/digits", json.dumps({"inputs": ROWS}).encode())
    assert answer.status == 200, answer.body
    assert answer.json["outputs"][1] == pytest.approx(expected(model, ROWS)[1], rel=1e-4)


def test_endpoints_are_listed_with_state_version_and_signature(server, endpoints):
    rows = {row["name"]: row for row in server.get("nbaas/api/endpoints").json["endpoints"]}
    row = rows["digits"]
    assert (row["state"], row["version"], row["ready"]) == ("READY", 1, 1)
    assert row["path"] == INFER
    assert row["inputs"][0]["shape"] == [-1, 4]
    assert [v["current"] for v in row["versions"]] == [True]
    host, port = gateway_address(endpoints)
    assert row["url"] == f"http://{host}:{port}/v2/models/digits/infer"


def test_no_token_is_in_any_answer(server, endpoints, request_body):
    secrets = {token(endpoints, "digits"), token(endpoints, "other")}
    secrets.add((server.home / "endpoints" / "_host" / "token").read_text().strip())
    answers = [
        server.get("nbaas/api/endpoints"), server.get("nbaas/v2/models/digits"),
        server.post(INFER, request_body(ROWS)), server.post("nbaas/v2/models/nobody/infer"),
    ]  # fmt: skip
    text = "".join(str(answer.headers) + answer.body.decode() for answer in answers)
    assert not [secret for secret in secrets if secret in text]


def test_the_token_of_an_endpoint_is_for_who_may_change_it(server, read_only_server, endpoints):
    path = "nbaas/api/endpoints/digits/token"
    assert server.post(path).json == {"name": "digits", "token": token(endpoints, "digits")}
    assert server.get(path).status == 405
    assert server.post("nbaas/api/endpoints/nobody/token").status == 404
    assert read_only_server.post(path).status == 403


def test_traffic_and_latency_are_remembered(server, endpoints, request_body, eventually):
    def seen():
        server.post(INFER, request_body(ROWS))
        rows = server.get("nbaas/api/endpoints").json["endpoints"]
        row = next(row for row in rows if row["name"] == "digits")
        assert len(row["traffic"]) == len(row["latency"])
        return [
            (rate, p99) for rate, p99 in zip(row["traffic"], row["latency"], strict=True) if rate
        ]

    assert all(rate > 0 and p99 > 0 for rate, p99 in eventually(seen))


def test_a_host_that_was_stopped_is_started_by_the_next_prediction(server, endpoints, request_body):
    stop_host(endpoints)
    states = {row["state"] for row in server.get("nbaas/api/endpoints").json["endpoints"]}
    assert states == {"STOPPED"}
    assert len(rows_of(server.post(INFER, request_body(ROWS)))) == 2


def test_rollback_and_undeploy_do_what_they_say(server, endpoints, model, request_body):
    import torch

    twice = torch.nn.Sequential(model, torch.nn.Softmax(dim=1)).eval()
    deploy(endpoints, twice, name="other", example=torch.zeros(2, 4))
    versions = lambda: next(  # noqa: E731
        row["versions"]
        for row in server.get("nbaas/api/endpoints").json["endpoints"]
        if row["name"] == "other"
    )
    assert [v["current"] for v in versions()] == [False, True]
    assert server.post("nbaas/api/endpoints/other/rollback").json == {"name": "other", "version": 1}
    assert [v["current"] for v in versions()] == [True, False]
    assert server.post("nbaas/api/endpoints/other/undeploy").status == 200
    assert server.post("nbaas/v2/models/other/infer").status == 404
    again = server.post("nbaas/api/endpoints/other/undeploy")
    assert (again.status, again.json["kind"]) == (404, "EndpointNotFoundError")


def test_a_canary_is_split_promoted_and_refused_through_the_server(server, endpoints, model):
    import torch

    twice = torch.nn.Sequential(model, torch.nn.Softmax(dim=1)).eval()
    for served, share in ((model, 0.0), (twice, 25.0)):
        deploy(endpoints, served, name="split", example=torch.zeros(2, 4), canary=share)
    row = lambda: next(  # noqa: E731
        row for row in server.get("nbaas/api/endpoints").json["endpoints"] if row["name"] == "split"
    )
    assert (row()["version"], row()["canary"]["version"], row()["canary"]["percent"]) == (1, 2, 25)

    def split(**body):
        answer = server.post("nbaas/api/endpoints/split/canary", json.dumps(body).encode())
        return answer.status, answer.json

    status, answer = split(percent=50, limit=5)
    assert (status, answer["version"], answer["canary"]["percent"]) == (200, 1, 50)
    assert (row()["canary"]["limit"], row()["shadow"], row()["notice"]) == (5, None, "")
    assert split(percent=101)[0] == 400
    assert split(percent=0)[1] == {"name": "split", "version": 1, "canary": None, "shadow": None}
    status, answer = split(percent=10)
    assert (status, answer["error"]) == (422, "split has no canary")
    assert split(percent=100, version=2)[1]["version"] == 2
    assert server.post("nbaas/api/endpoints/split/undeploy").status == 200
    assert split(percent=10)[0] == 404


def test_tokens_are_made_listed_without_value_and_revoked_through_the_server(
    server, endpoints, request_body
):
    asked = json.dumps({"label": "ann", "lifetime": 3600, "rate": 50}).encode()
    made = server.post("nbaas/api/endpoints/digits/tokens", asked)
    assert made.status == 201
    value, identity = made.json["value"], made.json["token"]["id"]
    header = {"Authorization": f"Bearer {value}"}
    rows = request_body(ROWS)
    assert server.request("POST", INFER, rows, token=None, **header).status == 200
    listed = server.get("nbaas/api/endpoints/digits/tokens")
    assert value not in listed.body.decode()
    row = next(row for row in listed.json["tokens"] if row["id"] == identity)
    assert (row["label"], row["rate"], row["expires"] > row["created"]) == ("ann", 50, True)
    revoke = json.dumps({"id": identity}).encode()
    assert server.post("nbaas/api/endpoints/digits/tokens/revoke", revoke).status == 200
    assert server.post("nbaas/api/endpoints/digits/tokens/revoke", revoke).status == 422
    assert server.post("nbaas/api/endpoints/digits/tokens", b'{"lifetime": -1}').status == 400
    host, port = gateway_address(endpoints)
    refused = urllib.request.Request(f"http://{host}:{port}/v2/models/digits/infer", rows, header)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(refused, timeout=10)


def test_an_answer_is_explained_through_the_server(server, endpoints, model, request_body):
    pytest.importorskip("captum")
    rows = [[1.0, 2.0, 3.0, 4.0]]
    answer = server.post(INFER.replace("/infer", "/explain"), request_body(rows))
    assert answer.status == 200, answer.body[:500]
    outputs = {output["name"]: output["data"] for output in answer.json["outputs"]}
    assert outputs["score"][0] == pytest.approx(max(expected(model, rows)[0]), abs=1e-5)
    parts = outputs[input_name(server)]
    assert sum(parts) == pytest.approx(outputs["score"][0] - outputs["baseline"][0], abs=1e-2)


def test_the_card_of_a_version_is_told_by_the_server(server, endpoints):
    card = server.get("nbaas/api/endpoints/digits/card").json
    titles = [section["title"] for section in card["sections"]]
    assert (card["name"], card["version"], titles[:2]) == ("digits", 1, ["Model", "Signature"])
    assert server.get("nbaas/api/endpoints/nothing/card").status == 404
    assert server.get("nbaas/api/endpoints/digits/card?version=9").status == 422


class Endless:
    """A function that yields for ever, with the module that makes its items."""

    def __init__(self, net, closed):
        self.net = net
        self.closed = closed

    def __call__(self, x):
        import time
        from pathlib import Path

        try:
            while True:
                x = self.net(x)
                yield x
                time.sleep(0.01)
        finally:
            Path(self.closed).write_text("closed")


def test_a_stream_comes_through_the_server_and_ends_with_its_client(server, endpoints, tmp_path):
    import torch

    torch.manual_seed(0)
    net, closed = torch.nn.Linear(4, 4).eval(), tmp_path / "closed"
    deploy(endpoints, Endless(net, str(closed)), name="endless", example=torch.zeros(1, 4))
    assert closed.read_text() == "closed"  # of the example
    closed.unlink()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request(
        "POST", f"{BASE}nbaas/predict/endless/stream", json.dumps({"inputs": ROWS[:1]}),
        {"Authorization": f"token {TOKEN}"},
    )  # fmt: skip
    answer = connection.getresponse()
    assert (answer.status, answer.getheader("Content-Type")) == (200, "text/event-stream")
    items = [json.loads(data)["outputs"] for _, data in itertools.islice(events(answer), 3)]
    with torch.inference_mode():
        x = torch.tensor(ROWS[:1])
        for item in items:
            x = net(x)
            assert item[0] == pytest.approx(x[0].tolist(), rel=1e-5, abs=1e-6)
    assert not closed.exists()
    answer.close()
    connection.close()
    deadline = time.monotonic() + 30
    while not closed.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert server.post("nbaas/v2/models/digits/infer_stream").status == 400
