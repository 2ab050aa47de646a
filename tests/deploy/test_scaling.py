"""Replicas come while requests wait, go while they do not, and say so when they cannot come."""

from __future__ import annotations

import asyncio
import os

import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.registry import Options, checked_options
from nbaas.deploy.scaling import CROWDED, SPARE, Load, Scaler
from nbaas.errors import UsageError
from tests.deploy.conftest import SIGKILL, ask, deployed, mlp

ROW = [0.5] * 64
SLOW = """
import time
from torch import nn
class Slow(nn.Module):
    def forward(self, x):
        time.sleep(0.05)
        return x * 2
"""


def load(waiting=0, in_flight=0, silent=0.0):
    return Load(waiting, in_flight, 4, silent)


def wanted(scaler, now, replicas, seen, *, least=1, most=4, idle=0.0):
    return scaler.wanted(now, replicas, seen, least=least, most=most, idle=idle)


def test_one_replica_more_for_every_second_that_requests_wait():
    scaler = Scaler()
    crowd = load(waiting=3, in_flight=4)
    assert wanted(scaler, 0.0, 1, crowd) == 1
    assert wanted(scaler, CROWDED / 2, 1, load(in_flight=4)) == 1, "a moment without ends it"
    assert wanted(scaler, CROWDED, 1, crowd) == 1
    assert wanted(scaler, 2 * CROWDED, 1, crowd) == 2
    assert wanted(scaler, 2.5 * CROWDED, 2, crowd) == 2
    assert wanted(scaler, 3 * CROWDED, 2, crowd) == 3
    assert wanted(scaler, 9 * CROWDED, 4, crowd) == 4, "at most"


def test_one_replica_fewer_once_the_others_would_have_done_for_long():
    scaler = Scaler()
    assert wanted(scaler, 0.0, 3, load(in_flight=2)) == 3
    assert wanted(scaler, SPARE / 2, 3, load(in_flight=9)) == 3, "that needed all three"
    assert wanted(scaler, SPARE, 3, load(in_flight=4)) == 3
    assert wanted(scaler, 2 * SPARE, 3, load()) == 2
    assert wanted(scaler, 3 * SPARE, 2, load()) == 1
    assert wanted(scaler, 9 * SPARE, 1, load()) == 1, "the last one stays"


def test_none_after_silence_and_the_least_again_for_a_request():
    scaler = Scaler()
    assert wanted(scaler, 0.0, 2, load(silent=59.0), least=2, idle=60.0) == 2
    assert wanted(scaler, 1.0, 2, load(in_flight=1, silent=61.0), least=2, idle=60.0) == 2
    assert wanted(scaler, 2.0, 2, load(silent=61.0), least=2, idle=60.0) == 0
    assert wanted(scaler, 3.0, 0, load(silent=62.0), least=2, idle=60.0) == 0
    assert wanted(scaler, 4.0, 0, load(waiting=1), least=2, idle=60.0) == 2


def test_an_idle_endpoint_keeps_no_replica_and_answers_the_next_request(shared, eventually):
    model = mlp()
    options = Options(idle=0.5)
    endpoint = deployed(shared, model, "sleepy", torch.randn(2, 64), options=options)
    expected = model(torch.tensor([ROW])).detach()
    for _ in range(2):
        eventually(lambda: endpoint.described()["state"] == "IDLE" and not endpoint.replica_pids())
        assert endpoint.request("GET", "/v2/models/sleepy/ready").status == 200
        answered = endpoint.post([ROW])
        assert answered.status == 200
        assert torch.allclose(torch.tensor(answered.json["outputs"]), expected, atol=1e-5)
    client.undeploy(shared, "sleepy")


def test_requests_that_wait_bring_more_replicas_and_none_fails(shared, notebook, eventually):
    model = notebook.run(SLOW)["Slow"]()
    options = Options(replicas=1, most=3, max_batch=1)
    endpoint = deployed(shared, model, "crowded", torch.ones(1, 3), options=options)
    statuses: list[int] = []

    async def main():
        stop = asyncio.Event()

        async def one():
            reader, writer = await asyncio.open_connection(*endpoint.address)
            while not stop.is_set():
                answered = await ask(
                    reader, writer, "POST", endpoint.plain, token=token, body=b"[[1, 1, 1]]"
                )
                statuses.append(answered.status)
            writer.close()

        token = endpoint.token
        clients = [asyncio.create_task(one()) for _ in range(8)]
        try:
            await asyncio.to_thread(eventually, lambda: len(endpoint.replica_pids()) == 3)
        finally:
            stop.set()
            await asyncio.gather(*clients)

    asyncio.run(main())
    assert set(statuses) == {200}
    client.undeploy(shared, "crowded")


def test_p45_a_replica_that_cannot_start_again_is_seen_pausing_and_then_given_up(
    shared, notebook, eventually, tmp_path
):
    flag = tmp_path / "whole"
    flag.touch()
    notebook.run(f"""
import os
from torch import nn
class Fragile(nn.Module):
    def __setstate__(self, state):
        if not os.path.exists({str(flag)!r}):
            raise RuntimeError("its file is gone")
        super().__setstate__(state)
    def forward(self, x):
        return x
""")
    endpoint = deployed(shared, notebook["Fragile"](), "fragile", torch.ones(1, 3))
    flag.unlink()
    os.kill(endpoint.replica_pids()[0], SIGKILL)
    eventually(lambda: endpoint.described()["state"] == "BACKOFF")
    described = eventually(lambda: (d := endpoint.described())["state"] == "FAILED" and d)
    assert "its file is gone" in described["reason"]
    answered = eventually(lambda: (a := endpoint.post([[1, 1, 1]])).status == 503 and a)
    assert answered.error.startswith("fragile 1 has failed: RuntimeError: its file is gone")
    assert int(answered.headers["retry-after"]) >= 1
    flag.touch()
    client.deploy(shared, notebook["Fragile"](), name="fragile", example=torch.ones(1, 3))
    assert endpoint.post([[1, 1, 1]]).status == 200
    client.undeploy(shared, "fragile")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"replicas": 0}, "replicas 0 makes no sense"),
        ({"replicas": 4, "most": 2}, r"replicas 4\.\.2 makes no sense"),
        ({"idle": -1}, "idle -1 makes no sense"),
        ({"device": "gpu"}, "device 'gpu' makes no sense .auto, cpu, cuda or cuda:1"),
        ({"rate": -2}, "rate -2 makes no sense"),
        ({"max_body": 1 << 40}, "max body 1099511627776 makes no sense"),
        ({"cors": "a\r\nSet-Cookie: x"}, "cors .* makes no sense"),
        ({"timeout": 0}, "timeout 0 s makes no sense"),
    ],
)
def test_options_that_make_no_sense_are_refused(given, reason):
    with pytest.raises(UsageError, match=reason):
        checked_options(Options(**given))
