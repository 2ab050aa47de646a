"""The gateway's side of a replica's socket: what happens to requests when news come in any order."""

from __future__ import annotations

import asyncio

from nbaas.deploy.counters import Counters
from nbaas.deploy.exchanges import Exchange
from nbaas.deploy.frames import REQUEST, answer
from nbaas.deploy.links import Pool


class Asking:
    """A client that keeps its answer."""

    def __init__(self):
        self.answered = asyncio.get_running_loop().create_future()

    def answer(self, exchange, status, header_length, body):
        self.answered.set_result((status, body))

    def item(self, exchange, body):
        raise AssertionError("this is no stream")


def asked(client, body=b"{}"):
    return Exchange(client, 0, -1, body, b"", asyncio.get_running_loop().time())


async def replica(path, *, answers):
    """Listen as a replica does; one that does not answer keeps its requests until `die` is set."""
    got, die = asyncio.Event(), asyncio.Event()

    async def serve(reader, writer):
        _, identity, _, _ = REQUEST.unpack(await reader.readexactly(REQUEST.size))
        got.set()
        if answers:
            writer.write(answer(identity, 200, 1, -1, b"right"))
            await writer.drain()
        else:
            await die.wait()
            writer.transport.abort()

    return await asyncio.start_unix_server(serve, path), got, die


async def through_a_death(folder, *, retired):
    loop = asyncio.get_running_loop()
    pool = Pool(loop, Counters(), queue=8, timeout=30.0)
    first, got, die = await replica(folder / "first", answers=False)
    second, _, _ = await replica(folder / "second", answers=True)
    pool.set_links({str(folder / "first"): 4}, lambda link: None)
    client = Asking()
    pool.submit(asked(client))
    async with asyncio.timeout(30):
        await got.wait()
        if retired:
            pool.retire(lambda link: None)
        else:
            pool.set_links({}, lambda link: None)  # the table comes before the end of the socket
        die.set()
        while not (retired or pool.waiting or client.answered.done()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if not retired:
            pool.set_links({str(folder / "second"): 4}, lambda link: None)
        found = await client.answered
    pool.set_links({}, lambda link: None)
    first.close()
    second.close()
    return found


def test_p44_a_death_that_the_host_tells_of_first_loses_no_request(tmp_path):
    assert asyncio.run(through_a_death(tmp_path, retired=False)) == (200, b"right")


def test_a_death_of_a_version_that_was_replaced_is_told_at_once(tmp_path):
    status, body = asyncio.run(through_a_death(tmp_path, retired=True))
    assert status == 503
    assert b"replica" in body
