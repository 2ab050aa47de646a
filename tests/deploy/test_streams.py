"""A deployed generator over real HTTP: items as they are made, ends and errors told."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from nbaas.deploy import client
from nbaas.deploy.registry import Options
from nbaas.deploy.subscription import predict_stream
from nbaas.errors import DeployError, EndpointError, InputError
from tests.deploy.conftest import SIGKILL, Notebook, deployed, exchange

pytestmark = pytest.mark.ranks

COUNTING = """
import time
import torch
from torch import nn

class Counting(nn.Module):
    '''x (1, 4): how many items, milliseconds before each, the one that raises, cells of an item.'''
    def __init__(self, closed):
        super().__init__()
        self.fc = nn.Linear(1, 1, bias=False)
        self.closed = closed
    def forward(self, x):
        count, pause, bad, width = x[0].tolist()
        try:
            for i in range(int(count)):
                if i == int(bad):
                    raise ValueError(f"item {i} cannot be made")
                time.sleep(pause / 1000)
                yield self.fc(torch.full((1, 1), float(i))).expand(1, int(width))
        finally:
            with open(self.closed, "a") as file:
                file.write(f"{count:g}\\n")

class Remembering(nn.Module):
    '''Keeps the state of its stream in itself.'''
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2, 2)
    def generate(self, x):
        self.state = x
        for _ in range(20):
            self.state = torch.tanh(self.fc(self.state)) + 0.1
            yield {"state": self.state}
"""
ENDLESS = 1e6


def asked(count, pause=0.0, bad=-1.0, width=1.0):
    return [[float(count), float(pause), float(bad), float(width)]]


@pytest.fixture(scope="module")
def counting(shared, tmp_path_factory):
    """A served generator, its module, and the file that its `finally` block writes."""
    closed = tmp_path_factory.mktemp("closed") / "closed"
    torch.manual_seed(0)
    model = Notebook().run(COUNTING)["Counting"](str(closed)).eval()
    endpoint = deployed(shared, model, "counting", torch.tensor(asked(6)))
    return endpoint, model, closed


class Listening:
    """A raw connection that has asked for a stream."""

    def __init__(self, endpoint, inputs, *, path="", version="1.1", buffer=0):
        body = json.dumps({"inputs": inputs}).encode()
        self.socket = socket.socket()
        if buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(60)
        self.socket.connect(endpoint.address)
        lines = [
            f"POST {path or endpoint.plain + '/stream'} HTTP/{version}", "Host: here",
            f"Authorization: Bearer {endpoint.token}", f"Content-Length: {len(body)}", "", "",
        ]  # fmt: skip
        self.socket.sendall("\r\n".join(lines).encode() + body)
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.headers = dict(
            line.decode().strip().lower().split(": ", 1)
            for line in iter(self.file.readline, b"\r\n")
        )

    def chunks(self):
        """Yield each chunk as it was sent; the last, empty one ends them."""
        while size := int(self.file.readline(), 16):
            yield self.file.read(size)
            assert self.file.readline() == b"\r\n"
        assert self.file.readline() == b"\r\n"

    def events(self):
        for chunk in self.chunks():
            yield parsed(chunk)

    def close(self):
        self.file.close()
        self.socket.close()


def parsed(event: bytes):
    """Return kind and data of one event."""
    lines = event.decode().rstrip("\n").split("\n")
    fields = dict(line.split(": ", 1) for line in lines)
    return fields.get("event", "message"), json.loads(fields["data"])


def eventually(met, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def items_made(endpoint):
    return endpoint.request("GET", f"/v2/models/{endpoint.name}/stats").json["items"]


def test_the_items_are_those_of_the_generator(counting):
    endpoint, model, _ = counting
    x = torch.tensor(asked(9, width=3))
    expected = [item.detach().numpy() for item in model(x)]
    got = list(predict_stream(endpoint.settings, "counting", x))
    assert len(got) == 9
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


def test_curl_gets_one_event_an_item_and_the_end(counting):
    endpoint, _, _ = counting
    host, port = endpoint.address
    body = {"id": "a7", "inputs": [
        {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": asked(3)[0]}]}  # fmt: skip
    shown = subprocess.run(
        ["curl", "-sSNi", "-H", f"Authorization: Bearer {endpoint.token}", "-d", json.dumps(body),
         f"http://{host}:{port}/v2/models/counting/infer_stream"],
        capture_output=True, timeout=60, check=True,
    ).stdout  # fmt: skip
    head, _, rest = shown.partition(b"\r\n\r\n")
    assert b"200 OK" in head
    assert b"Content-Type: text/event-stream" in head
    *items, (kind, last) = map(parsed, rest.split(b"\n\n")[:-1])
    assert (kind, last) == ("end", {"items": 3})
    assert [item["id"] for _, item in items] == ["a7"] * 3
    assert items[0][1]["outputs"][0] == {
        "name": "output", "datatype": "FP32", "shape": [1, 1], "data": [0.0]}  # fmt: skip


def test_an_item_is_sent_while_the_next_is_made(counting):
    endpoint, _, _ = counting
    listening = Listening(endpoint, asked(ENDLESS, pause=5))
    assert (listening.status, listening.headers["transfer-encoding"]) == (200, "chunked")
    kinds = [kind for kind, _ in itertools.islice(listening.events(), 5)]
    listening.close()
    assert kinds == ["message"] * 5


def test_a_short_stream_ends_while_long_ones_run(counting):
    endpoint, _, _ = counting
    long = [Listening(endpoint, asked(ENDLESS, pause=1)) for _ in range(2)]
    assert len(list(predict_stream(endpoint.settings, "counting", torch.tensor(asked(10))))) == 10
    for each in long:
        assert next(each.events())[0] == "message"
        each.close()


def test_a_connection_goes_on_after_a_stream(counting):
    endpoint, _, _ = counting
    listening = Listening(endpoint, asked(2))
    assert [kind for kind, _ in listening.events()] == ["message", "message", "end"]
    listening.socket.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: here\r\n\r\n")
    assert listening.file.readline() == b"HTTP/1.1 200 OK\r\n"
    listening.close()


def test_http_1_0_gets_the_events_without_chunks(counting):
    endpoint, _, _ = counting
    listening = Listening(endpoint, asked(2), version="1.0")
    assert listening.headers["connection"] == "close"
    events = [parsed(e) for e in listening.file.read().split(b"\n\n")[:-1]]
    listening.close()
    assert [kind for kind, _ in events] == ["message", "message", "end"]


def test_no_item_at_all_is_an_end(counting):
    endpoint, _, _ = counting
    assert list(predict_stream(endpoint.settings, "counting", torch.tensor(asked(0)))) == []


def test_a_client_that_leaves_ends_the_generator(counting):
    endpoint, _, closed = counting
    listening = Listening(endpoint, asked(777_001, pause=1))
    next(listening.events())
    listening.close()
    eventually(lambda: "777001\n" in closed.read_text())


def test_closing_the_iterator_ends_the_generator(counting):
    endpoint, _, closed = counting
    items = predict_stream(endpoint.settings, "counting", torch.tensor(asked(777_002, pause=1)))
    next(items)
    items.close()
    eventually(lambda: "777002\n" in closed.read_text())


def test_a_client_that_reads_slowly_holds_its_stream_up_and_nobody_else(counting):
    endpoint, _, _ = counting
    listening = Listening(endpoint, asked(ENDLESS, width=20_000), buffer=4096)
    seen = [-1, items_made(endpoint)]
    while seen[-1] != seen[-2]:  # until what lies between is full
        time.sleep(0.2)
        seen.append(items_made(endpoint))
    assert len(list(predict_stream(endpoint.settings, "counting", torch.tensor(asked(3))))) == 3
    read = list(itertools.islice(listening.events(), seen[-1] + 20))  # it goes on where it was
    listening.close()
    values = [event["outputs"][0][0] for _, event in read]
    assert len(set(values)) == len(values)


def test_what_is_raised_before_the_first_item_is_an_error_answer(counting):
    endpoint, _, _ = counting
    answer = endpoint.post({"inputs": asked(3, bad=0)}, f"{endpoint.plain}/stream")
    assert (answer.status, answer.error) == (
        500,
        "the model raised ValueError: item 0 cannot be made",
    )


def test_what_is_raised_later_is_an_error_event(counting):
    endpoint, _, closed = counting
    listening = Listening(endpoint, asked(777_003, bad=2))
    *items, (kind, last) = listening.events()
    listening.close()
    assert (len(items), kind) == (2, "error")
    assert last == {"error": "the model raised ValueError: item 2 cannot be made"}
    assert "777003\n" in closed.read_text()
    given = predict_stream(endpoint.settings, "counting", torch.tensor(asked(5, bad=2)))
    assert len(list(itertools.islice(given, 2))) == 2
    with pytest.raises(EndpointError, match="item 2 cannot be made"):
        next(given)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"inputs": [[1.0]]}, "expected FP32 [-1,4]"),
        ({"inputs": "x"}, "expected"),
        (b"{", "not JSON"),
    ],
)
def test_what_does_not_fit_is_refused_before_it_streams(counting, body, told):
    endpoint, _, _ = counting
    answer = endpoint.post(body, f"{endpoint.plain}/stream")
    assert answer.status == 400
    assert told in answer.error


def test_a_stream_needs_the_token(counting):
    endpoint, _, _ = counting
    path = f"{endpoint.plain}/stream"
    assert endpoint.request("POST", path, body=b"{}", token="x").status == 401
    assert endpoint.request("GET", path).status == 405


def test_each_kind_of_model_names_its_routes(counting, digits):
    endpoint, _, _ = counting
    for path in (endpoint.plain, endpoint.infer, "/v2/models/counting/versions/1/explain"):
        answer = endpoint.post({"inputs": asked(1)}, path)
        assert answer.status == 400
        assert "/v2/models/counting/infer_stream or /predict/counting/stream" in answer.error
    answer = digits[0].post({"inputs": [[0.5] * 64]}, "/v2/models/digits/infer_stream")
    assert (answer.status, "/predict/digits" in answer.error) == (400, True)
    with pytest.raises(InputError, match="stream=True"):
        client.predict(endpoint.settings, "counting", asked(1))
    with pytest.raises(InputError, match="answers at once"):
        predict_stream(endpoint.settings, "digits", [[0.5] * 64])


def test_metadata_openapi_and_metrics_tell_of_streams(counting):
    endpoint, _, _ = counting
    assert endpoint.request("GET", "/v2/models/counting").json["streams"] is True
    token = client.host_token(endpoint.settings)
    paths = endpoint.request("GET", "/openapi.json", token=token).json["paths"]
    assert (
        "text/event-stream"
        in paths["/predict/counting/stream"]["post"]["responses"]["200"]["content"]
    )
    assert {"/v2/models/counting/infer", "/predict/counting"}.isdisjoint(paths)
    before = items_made(endpoint)
    list(predict_stream(endpoint.settings, "counting", torch.tensor(asked(7))))
    assert items_made(endpoint) >= before + 7
    text = endpoint.request("GET", "/metrics", token=token).body.decode()
    assert 'nbaas_stream_items_total{endpoint="counting",version="1"}' in text


def test_a_stream_has_its_limits(shared, counting):
    _, model, _ = counting
    options = Options(max_items=5, timeout=1.0)
    endpoint = deployed(shared, model, "limited", torch.tensor(asked(6)), options=options)
    *items, (kind, last) = Listening(endpoint, asked(ENDLESS)).events()
    assert (len(items), kind, last) == (5, "error", {"error": "the stream was cut after 5 items"})
    assert len(list(predict_stream(shared, "limited", torch.tensor(asked(5))))) == 5
    answer = endpoint.post({"inputs": asked(1, pause=2500)}, f"{endpoint.plain}/stream")
    assert (answer.status, answer.error) == (504, "no answer within 1 s")


def test_a_killed_replica_ends_its_streams_and_no_other(counting, digits):
    endpoint, _, _ = counting
    other, _ = digits
    listening = Listening(endpoint, asked(ENDLESS, pause=2))
    events = listening.events()
    next(events)
    os.kill(endpoint.replica_pids()[0], SIGKILL)
    *_, (kind, last) = events
    listening.close()
    assert (kind, last) == ("error", {"error": "the replica ended amid the stream"})
    assert other.post({"inputs": [[0.5] * 64]}).status == 200
    assert len(list(predict_stream(endpoint.settings, "counting", torch.tensor(asked(4))))) == 4


def test_a_model_that_keeps_its_state_serves_one_stream_at_a_time(shared):
    torch.manual_seed(1)
    model = Notebook().run(COUNTING)["Remembering"]().eval()
    deployed(shared, model, "remembering", torch.randn(1, 2))
    inputs = [torch.randn(1, 2) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        got = list(pool.map(lambda x: list(predict_stream(shared, "remembering", x)), inputs))
    for x, items in zip(inputs, got, strict=True):
        expected = [item["state"].detach().numpy() for item in model.generate(x)]
        assert len(items) == len(expected) == 20
        assert np.abs(np.array(items) - np.array(expected)).max() <= 1e-6


def test_functions_methods_and_steps_can_yield(shared):
    made = Notebook()
    made.run(
        COUNTING
        + "net = nn.Linear(2, 2)\n"
        + "def three(x):\n    for _ in range(3):\n        x = net(x)\n        yield x\n"
        + "def doubled(y):\n    return 2 * y\n"
    )
    deployed(shared, made["three"], "three", torch.randn(1, 2), post=made["doubled"])
    x = torch.randn(1, 2)
    expected = [2 * y.detach().numpy() for y in made["three"](x)]
    got = list(predict_stream(shared, "three", x))
    assert np.abs(np.array(got) - np.array(expected)).max() <= 1e-6
    with pytest.raises(DeployError, match="no request fits both"):
        client.deploy(shared, nn.Linear(2, 2), name="three", example=x, canary=10.0)


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def gen(x):\n    net(x)\n    return\n    yield", "yields nothing"),
        ("def gen(x):\n    yield net(x)\n    yield net(x).long()", "from item to item"),
        (
            "def gen(x):\n    yield net(x)\n    yield {'a': net(x)}",
            "item 1 of the stream holds a,",
        ),
        ("def gen(x):\n    yield 'text'\n    net(x)", "returns a str"),
        ("def gen(x):\n    raise ValueError('no')\n    yield net(x)", "ValueError: no"),
    ],
)
def test_what_cannot_be_streamed_is_told_at_deploy_time(shared, source, told):
    made = Notebook()
    made.run("from torch import nn\nnet = nn.Linear(2, 2)\n" + source)
    with pytest.raises(DeployError, match=told):
        client.deploy(shared, made["gen"], name="never", example=torch.randn(1, 2))


def test_a_new_version_takes_over_and_old_streams_go_on(shared, counting):
    _, model, _ = counting
    endpoint = deployed(shared, model, "renewed", torch.tensor(asked(6)))
    listening = Listening(endpoint, asked(300, pause=5))
    events = listening.events()
    next(events)
    client.deploy(shared, model, name="renewed", example=torch.tensor(asked(6)))
    rest = list(events)
    listening.close()
    assert (len(rest), rest[-1]) == (300, ("end", {"items": 300}))


def test_streams_by_the_hundred_lose_nothing(counting):
    endpoint, _, _ = counting

    async def one(count):
        answer = await exchange(endpoint.address, "GET", "/v2/health/live", token=endpoint.token)
        assert answer.status == 200
        given = predict_stream(endpoint.settings, "counting", torch.tensor(asked(count)))
        with contextlib.closing(given):
            return count, await asyncio.to_thread(lambda: len(list(given)))

    async def all_of_them():
        return await asyncio.gather(*(one(1 + i % 7) for i in range(100)))

    assert all(count == got for count, got in asyncio.run(all_of_them()))
