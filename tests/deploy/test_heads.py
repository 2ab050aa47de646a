"""A head seen before is not parsed again: what changes meanwhile is seen all the same."""

from __future__ import annotations

import asyncio
import json

import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.heads import MOST, Heads
from nbaas.deploy.messages import Answer, Request
from tests.deploy.conftest import answer_of, ask, deployed, mlp

HEAD = b"POST /predict/x HTTP/1.1\r\nContent-Length: 3\r\n\r\n"


def parsed(**headers: bytes) -> Request:
    request = Request()
    request.method, request.url, request.plan = b"POST", b"/predict/x", object()
    request.headers = {b"content-length": b"3"}
    request.headers |= {name.encode().replace(b"_", b"-"): value for name, value in headers.items()}
    return request


def test_a_known_head_with_its_whole_body_is_the_same_request_again():
    heads, first = Heads(), parsed()
    heads.learn(HEAD + b"abc", first)
    again = heads.recall(HEAD + b"xyz")
    assert (again.method, again.url, again.plan) == (first.method, first.url, first.plan)
    assert again.body == [b"xyz"]


@pytest.mark.parametrize(
    "data",
    [HEAD + b"ab", HEAD + b"abcd", HEAD + b"abc" + HEAD + b"abc", HEAD[:-2], b"", b"\r\n\r\n",
     HEAD.replace(b"/x", b"/y") + b"abc", b"\r\n\r\n" + HEAD + b"abc"],
)  # fmt: skip
def test_anything_else_goes_to_the_parser(data):
    heads = Heads()
    heads.learn(HEAD + b"abc", parsed())
    assert heads.recall(data) is None


@pytest.mark.parametrize("name", ["x_request_id", "x_nbaas_key", "transfer_encoding", "expect"])
def test_what_differs_each_time_is_not_remembered(name):
    heads = Heads()
    heads.learn(HEAD + b"abc", parsed(**{name: b"1"}))
    assert heads.recall(HEAD + b"abc") is None


def test_a_refused_request_and_one_that_closes_are_not_remembered():
    heads, refused, last = Heads(), parsed(), parsed()
    refused.refusal = Answer(401, b"")
    last.keep_alive = False
    for request in (refused, last):
        heads.learn(HEAD + b"abc", request)
        assert heads.recall(HEAD + b"abc") is None


def test_the_memory_is_bounded():
    heads = Heads()
    for i in range(3 * MOST):
        heads.learn(HEAD.replace(b"/x", b"/%d" % i) + b"abc", parsed())
    assert len(heads._known) <= MOST


def test_versions_and_tokens_that_change_count_at_once_on_a_connection_that_stays(shared):
    x = torch.randn(2, 64)
    endpoint = deployed(shared, mlp(seed=1), "heads", x)
    made = client.create_token(shared, "heads", label="short")
    body = json.dumps(x.tolist()).encode()

    async def main():
        reader, writer = await asyncio.open_connection(*endpoint.address)
        seen = []

        async def asked():
            answered = await ask(
                reader, writer, "POST", endpoint.plain, token=made.value, body=body
            )
            seen.append((answered.status, answered.headers.get("x-nbaas-version")))

        for _ in range(3):
            await asked()
        await asyncio.to_thread(client.deploy, shared, mlp(seed=2), name="heads", example=x)
        await asked()
        # Pipelined: two in one packet, then a half one.
        one = f"POST {endpoint.plain} HTTP/1.1\r\nAuthorization: Bearer {made.value}\r\n".encode()
        one += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        writer.write(one + one + one[:50])
        await writer.drain()
        seen += [((await answer_of(reader)).status, "2") for _ in range(2)]
        writer.write(one[50:])
        seen.append(((await answer_of(reader)).status, "2"))
        await asyncio.to_thread(client.revoke_token, shared, "heads", made.id)
        await asked()
        writer.close()
        return seen

    assert asyncio.run(main()) == [(200, "1")] * 3 + [(200, "2")] * 4 + [(401, None)]
    client.undeploy(shared, "heads")
