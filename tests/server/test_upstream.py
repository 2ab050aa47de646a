"""Connections to the gateway, against servers that behave well and badly on real sockets."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from nbaas.errors import EndpointError
from nbaas.server.upstream import Address, Call, Pool

CALL = Call("POST", "/v2/models/x/infer", ((b"Content-Type", b"application/json"),))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Gateway:
    """A server whose answers a test writes; `seen` are the requests it got."""

    def __init__(self, answer) -> None:
        self.answer = answer
        self.seen: list[bytes] = []
        self.opened = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        port = self.server.sockets[0].getsockname()[1]

        async def locate() -> Address:
            return Address("127.0.0.1", port, "host-token")

        self.pool = Pool(locate)
        return self

    async def __aexit__(self, *_):
        self.pool.close()
        self.server.close()

    async def serve(self, reader, writer):
        self.opened += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        length = int(line.split(b":")[1])
                self.seen.append(head + await reader.readexactly(length))
                if await self.answer(writer, len(self.seen)) is False:
                    break
        writer.close()


async def answers_ok(writer, _):
    writer.write(OK)
    await writer.drain()


async def body_of(pool, call=CALL, body=b"{}"):
    async with pool.exchange(call, body) as connection:
        whole = connection.whole()
        if whole is not None:
            return connection.status, whole
        return connection.status, b"".join([chunk async for chunk in connection.chunks()])


def test_a_connection_is_kept_and_used_again():
    async def run():
        async with Gateway(answers_ok) as gateway:
            for _ in range(5):
                assert await body_of(gateway.pool) == (200, b"ok")
            assert gateway.opened == 1

    asyncio.run(run())


def test_many_at_once_use_connections_of_their_own():
    async def run():
        async with Gateway(answers_ok) as gateway:
            answers = await asyncio.gather(*(body_of(gateway.pool) for _ in range(20)))
            assert set(answers) == {(200, b"ok")}
            assert len(gateway.seen) == 20

    asyncio.run(run())


def test_the_hosts_token_goes_out_where_the_caller_shows_none_of_the_endpoint():
    async def run():
        async with Gateway(answers_ok) as gateway:
            await body_of(gateway.pool)
            own = Call("GET", "/v2", (), "Bearer of-the-endpoint")
            await body_of(gateway.pool, own, None)
            assert b"Authorization: Bearer host-token\r\n" in gateway.seen[0]
            assert b"Authorization: Bearer of-the-endpoint\r\n" in gateway.seen[1]
            assert b"host-token" not in gateway.seen[1]

    asyncio.run(run())


def test_a_token_is_not_in_what_is_printed():
    assert "secret" not in repr(Address("h", 1, "secret"))
    assert "secret" not in repr(Call("GET", "/", (), "secret"))


def test_a_connection_that_the_gateway_closed_while_idle_costs_nothing():
    async def closes_after_each(writer, _):
        await answers_ok(writer, 0)
        return False

    async def run():
        async with Gateway(closes_after_each) as gateway:
            for number in range(1, 6):
                assert await body_of(gateway.pool) == (200, b"ok")
                assert gateway.opened == number

    asyncio.run(run())


def test_a_gateway_that_leaves_before_its_answer_is_an_endpoint_error():
    async def leaves(writer, _):
        return False

    async def run():
        async with Gateway(leaves) as gateway:
            with pytest.raises(EndpointError, match="does not answer"):
                await body_of(gateway.pool)

    asyncio.run(run())


def test_an_answer_that_breaks_off_is_an_error_and_never_a_short_answer():
    async def breaks_off(writer, _):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        await writer.drain()
        return False

    async def run():
        async with Gateway(breaks_off) as gateway:
            with pytest.raises(EndpointError, match="amid"):
                await body_of(gateway.pool)
            assert gateway.pool.idle == []

    asyncio.run(run())


@pytest.mark.parametrize("junk", [b"hello\r\n\r\n", b"HTTP/9.9 abc\r\n\r\n", b"\x00\xff" * 50])
def test_what_is_no_http_is_an_endpoint_error(junk):
    async def talks_junk(writer, _):
        writer.write(junk)
        await writer.drain()
        return False

    async def run():
        async with Gateway(talks_junk) as gateway:
            with pytest.raises(EndpointError):
                await body_of(gateway.pool)

    asyncio.run(run())


def test_bytes_after_an_answer_are_not_taken_for_the_next_one():
    async def answers_twice(writer, number):
        writer.write(OK + (OK.replace(b"ok", b"no") if number == 1 else b""))
        await writer.drain()

    async def run():
        async with Gateway(answers_twice) as gateway:
            with contextlib.suppress(EndpointError):
                await body_of(gateway.pool)
            assert await body_of(gateway.pool) == (200, b"ok")

    asyncio.run(run())


def test_a_long_answer_is_held_back_until_it_is_read():
    size = 20 << 20

    async def floods(writer, _):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size >> 16):
            writer.write(b"x" * (1 << 16))
            await writer.drain()

    async def run():
        async with Gateway(floods) as gateway, gateway.pool.exchange(CALL, b"{}") as connection:
            await asyncio.sleep(0)
            assert connection.whole() is None
            read = 0
            async for chunk in connection.chunks():
                read += len(chunk)
            assert read == size

    asyncio.run(run())


def test_an_answer_before_the_whole_body_is_taken():
    """A gateway that refuses by the head does not read on; what it said is the answer."""

    async def run():
        async def refuses(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 413 Too Long\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(refuses, "127.0.0.1", 0)

        async def locate() -> Address:
            return Address("127.0.0.1", server.sockets[0].getsockname()[1], "t")

        pool = Pool(locate)
        connection = await pool.open(CALL, 50 << 20)
        for _ in range(200):
            await connection.send(b"x" * (256 << 10))
            await asyncio.sleep(0)
        await connection.answered()
        assert connection.status == 413
        pool.give_back(connection)
        assert pool.idle == []
        server.close()

    asyncio.run(run())


def test_nobody_listening_is_an_endpoint_error():
    async def run():
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        server.close()
        await server.wait_closed()

        async def locate() -> Address:
            return Address("127.0.0.1", port, "t")

        with pytest.raises(EndpointError, match="does not answer"):
            await body_of(Pool(locate))

    asyncio.run(run())
