"""Tokens, rates and origins: who may ask an endpoint, how often, and from which pages."""

from __future__ import annotations

import asyncio
import time

import pytest
import torch

from nbaas.deploy import client
from nbaas.deploy.admission import Bucket, Grant, allow_origin, granted
from nbaas.deploy.registry import Options
from tests.deploy.conftest import ask, deployed, mlp

ROW = [0.5] * 64


def test_a_bucket_holds_a_second_of_its_rate_and_refills():
    bucket = Bucket(5.0, 0.0)
    assert [bucket.wait(0.0, 5.0) for _ in range(5)] == [0.0] * 5
    assert bucket.wait(0.0, 5.0) == pytest.approx(0.2)
    assert bucket.wait(0.2, 5.0) == 0.0
    assert [bucket.wait(100.0, 5.0) > 0 for _ in range(6)] == [False] * 5 + [True]
    slow = Bucket(1.0, 0.0)
    assert slow.wait(0.0, 0.1) == 0.0
    assert slow.wait(0.0, 0.1) == pytest.approx(10.0)


def test_an_expired_token_opens_nothing():
    grants = [Grant(b"a" * 32, time.time() - 1, 0.0), Grant(b"b" * 32, 0.0, 0.0)]
    assert granted(grants, b"a" * 32) is None
    assert granted(grants, b"b" * 32) is grants[1]
    assert granted(grants, b"c" * 32) is None


@pytest.fixture(scope="module")
def open_page(shared):
    options = Options(cors="https://a.example, https://b.example", rate=3)
    yield deployed(shared, mlp(), "paged", torch.randn(2, 64), options=options)
    client.undeploy(shared, "paged")


def test_a_token_over_its_rate_is_a_429_and_others_are_not_held_up(shared, open_page):
    fast = client.create_token(shared, "paged", label="fast", rate=1000)

    async def main(token):
        reader, writer = await asyncio.open_connection(*open_page.address)
        path, body = open_page.plain, str([ROW]).encode()
        answers = [
            await ask(reader, writer, "POST", path, token=token, body=body) for _ in range(12)
        ]
        writer.close()
        return answers

    limited = asyncio.run(main(open_page.token))
    assert [a.status for a in limited[:3]] == [200] * 3
    refused = [a for a in limited if a.status == 429]
    assert refused
    assert refused[0].error == "this token may ask 3 times a second"
    assert int(refused[0].headers["retry-after"]) >= 1
    assert {a.status for a in asyncio.run(main(fast.value))} == {200}
    assert {a.status for a in asyncio.run(main(client.host_token(shared)))} == {200}


def test_pages_of_the_origins_named_may_ask(open_page):
    asked = {"Access_Control_Request_Method": "POST", "Origin": "https://b.example"}
    preflight = open_page.request("OPTIONS", open_page.infer, token="", **asked)
    assert preflight.status == 200
    assert preflight.headers["access-control-allow-origin"] == "https://b.example"
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    refused = open_page.post(b"{", Origin="https://a.example")
    assert refused.headers["access-control-allow-origin"] == "https://a.example"
    other = open_page.request("OPTIONS", open_page.infer, token="", Origin="https://evil.example")
    assert "access-control-allow-origin" not in other.headers


def test_no_page_may_ask_unless_the_endpoint_says_so(digits):
    endpoint, _ = digits
    answered = endpoint.post([ROW], Origin="https://a.example")
    assert answered.status == 200
    assert not [name for name in answered.headers if name.startswith("access-control")]
    assert endpoint.request("OPTIONS", endpoint.infer, Origin="https://a.example").status == 405
    assert allow_origin(frozenset({b"*"}), b"https://any.example").startswith(
        b"Access-Control-Allow-Origin: *"
    )


def test_a_token_that_expires_is_refused_from_then_on(shared, digits, eventually):
    endpoint, _ = digits
    made = client.create_token(shared, "digits", label="brief", lifetime=1.5)
    assert (
        endpoint.request("POST", endpoint.plain, body=str([ROW]).encode(), token=made.value).status
        == 200
    )
    eventually(
        lambda: endpoint.request(
            "POST", endpoint.plain, body=str([ROW]).encode(), token=made.value
        ).status == 401
    )  # fmt: skip
    client.revoke_token(shared, "digits", made.id)
