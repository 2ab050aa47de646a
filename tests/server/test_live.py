"""The socket of a panel: who may open it, and what it is told."""

from __future__ import annotations

import asyncio
import json

import pytest
from jupyter_process import BASE, TOKEN
from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect

pytestmark = pytest.mark.ranks

GOES_ON = "for n in range(1, 100000): step(n, 0.02)"
ENDS = "step(1)"


async def connect(server, *, token=TOKEN, **headers):
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        sent["Authorization"] = f"token {token}"
    url = f"ws://127.0.0.1:{server.port}{BASE}nbaas/api/live"
    return await websocket_connect(HTTPRequest(url, headers=sent))


async def told(socket, wanted):
    """Return the first message that `wanted` accepts."""
    async with asyncio.timeout(20):
        while True:
            text = await socket.read_message()
            assert text is not None, "the server closed the socket"
            if wanted(message := json.loads(text)):
                return message


def refused(server, **given):
    async def attempt():
        with pytest.raises(HTTPClientError) as error:
            await connect(server, **given)
        return error.value.code

    return asyncio.run(attempt())


def opened(server, **given):
    async def attempt():
        socket = await connect(server, **given)
        await told(socket, lambda message: "running" in message)
        socket.close()
        return True

    return asyncio.run(attempt())


def test_p60_the_socket_refuses_strangers(server):
    cookie = server.cookie_header()
    evil = "https://evil.example"
    assert refused(server, token=None) == 403
    assert refused(server, token="wrong") == 403
    assert refused(server, token=None, Cookie=cookie, Origin=evil) == 403
    assert refused(server, Host="evil.example") == 403


def test_p60_the_socket_opens_for_its_user(server, read_only_server):
    origin = f"http://127.0.0.1:{server.port}"
    assert opened(server)
    assert opened(server, token=None, Cookie=server.cookie_header(), Origin=origin)
    assert opened(read_only_server)


def test_a_job_is_told_of_as_it_runs_and_once_as_it_ends(server, start_job):
    async def watch():
        socket = await connect(server)
        job = start_job(ENDS)
        message = await told(socket, lambda m: any(r["id"] == job.id for r in m["ended"]))
        assert message["ended"][0]["state"] == "SUCCEEDED"
        going = start_job(GOES_ON)
        later = await told(
            socket, lambda m: any(r["id"] == going.id and r["step"] for r in m.get("running", []))
        )
        assert all(row["id"] != job.id for row in later["ended"])
        socket.close()

    asyncio.run(watch())


def test_a_hidden_panel_is_told_of_ends_only(server, start_job):
    async def watch():
        socket = await connect(server)
        await socket.write_message(json.dumps({"visible": False}))
        job = start_job(ENDS)
        message = await told(socket, lambda m: job.id in {row["id"] for row in m["ended"]})
        assert "running" not in message
        going = start_job(GOES_ON)
        await socket.write_message(json.dumps({"visible": True}))
        await told(socket, lambda m: any(r["id"] == going.id for r in m.get("running", [])))
        socket.close()

    asyncio.run(watch())


def test_a_panel_that_asks_is_told_everything_once_more(server):
    async def watch():
        socket = await connect(server)
        await told(socket, lambda m: "finished" in m)
        await socket.write_message(json.dumps({"visible": True}))
        again = await told(socket, lambda m: "finished" in m)
        assert {"running", "hosts", "endpoints"} <= again.keys()
        socket.close()

    asyncio.run(watch())


def test_hosts_and_endpoints_come_too(server):
    async def watch():
        socket = await connect(server)
        message = await told(socket, lambda m: "hosts" in m)
        assert message["hosts"][0]["cores"] > 0
        assert isinstance(message["endpoints"], list)
        socket.close()

    asyncio.run(watch())


@pytest.mark.parametrize(
    "text", ["", "hello", "[]", '{"visible": 1}', '{"visible": true, "x": 1}', " " * 5000]
)
def test_a_message_that_is_none_closes_the_socket(server, text):
    async def watch():
        socket = await connect(server)
        await socket.write_message(text)
        async with asyncio.timeout(20):
            while await socket.read_message() is not None:
                pass
        assert socket.close_code == 1008

    asyncio.run(watch())


def test_there_is_a_limit_to_open_panels(server):
    async def watch():
        sockets = [await connect(server) for _ in range(64)]
        late = await connect(server)
        async with asyncio.timeout(20):
            while await late.read_message() is not None:
                pass
        assert late.close_code == 1013
        for socket in sockets:
            socket.close()

    asyncio.run(watch())
    assert opened(server)
