"""P47: whatever is sent, the answer is a 4xx with one sentence, and nothing dies or grows."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import zlib

import psutil
import pytest
import torch

from tests.deploy.conftest import Answered, answer_of, deployed

pytestmark = pytest.mark.ranks

REQUESTS = 2000
GROWTH = 50 << 20  # bytes
VALID = {
    "inputs": [{"name": "input", "shape": [1, 4], "datatype": "FP32", "data": [1.0, 2.0, 3.0, 4.0]}]
}
ODD = [
    None, True, "", "x", "NaN", -1, 0, 1, 4, 2**31, 2**63, 2**70, 1e308, -0.5, [], {}, [[]], [[[]]],
    [1, 4], [4, 1], [-1, 4], [0, 4], [1, 2**40], [1] * 40, ["1", "4"], "FP32", "INT64", "BYTES", "fp32",
    "input", "output", "\u0000", "\U0001f40d", {"binary_data_size": 16}, {"binary_data_size": -1},
]  # fmt: skip


@pytest.fixture(scope="module")
def fuzzed(shared):
    torch.manual_seed(0)
    return deployed(shared, torch.nn.Linear(4, 2), "fuzzed", torch.ones(2, 4))


@pytest.fixture
def chance() -> random.Random:
    """A generator whose seed is printed when the test fails; NBAAS_FAULT_SEED repeats a run."""
    seed = int(os.environ.get("NBAAS_FAULT_SEED") or random.randrange(1 << 30))
    print(f"NBAAS_FAULT_SEED={seed}")
    return random.Random(seed)


def changed(content, chance: random.Random):
    """Return `content` with one place in it made odd, dropped or doubled."""
    content = json.loads(json.dumps(content))
    place, node = [], content
    while isinstance(node, dict | list) and node and (not place or chance.random() < 0.8):
        key = chance.choice(list(node) if isinstance(node, dict) else range(len(node)))
        place.append((node, key))
        node = node[key]
    node, key = place[-1]
    what = chance.random()
    if what < 0.6:
        node[key] = chance.choice(ODD)
    elif what < 0.8:
        del node[key]
    elif isinstance(node, list):
        node.append(node[key])
    else:
        node[f"{key}x"] = node[key]
    return content


def body_of(chance: random.Random) -> tuple[bytes, list[str]]:
    """Return a body and header lines: a valid request after one to three accidents."""
    kind, lines = chance.randrange(6), list[str]()
    content = VALID if chance.random() < 0.7 else {"inputs": [[1.0, 2.0, 3.0, 4.0]]}
    for _ in range(chance.randint(1, 3)):
        content = changed(content, chance) if isinstance(content, dict) and content else content
    body = json.dumps(content).encode()
    if kind == 1 and body:  # bytes that differ
        broken = bytearray(body)
        for _ in range(chance.randint(1, 4)):
            broken[chance.randrange(len(broken))] = chance.randrange(256)
        body = bytes(broken)
    elif kind == 2:  # cut off
        body = body[: chance.randrange(len(body) + 1)]
    elif kind == 3:  # the binary form, or something like it
        header = json.dumps(changed(VALID, chance)).encode()
        lines.append(
            f"Inference-Header-Content-Length: {chance.choice([len(header), 0, 7, 10**9, 'x'])}"
        )
        body = header + chance.randbytes(chance.choice([0, 3, 16, 64]))
    elif kind == 4:  # packed, well or badly
        encoding, pack = chance.choice([("gzip", gzip.compress), ("deflate", zlib.compress)])
        packed = pack(body)
        body = chance.choice([packed, packed[:-3], b"\x1f\x8b" + packed[5:], body])
        lines.append(f"Content-Encoding: {chance.choice([encoding, encoding, 'br', 'identity'])}")
    return body, lines


async def answers_to(endpoint, requests: list[tuple[str, bytes, list[str]]]) -> list[Answered]:
    """Return the answers to requests on connections that are opened again when they close."""
    found, streams = [], None
    for path, body, lines in requests:
        if streams is None:
            streams = await asyncio.open_connection(*endpoint.address)
        reader, writer = streams
        head = [f"POST {path} HTTP/1.1", "Host: h", f"Authorization: Bearer {endpoint.token}"]
        head += [f"Content-Length: {len(body)}", *lines, "", ""]
        writer.write("\r\n".join(head).encode() + body)
        async with asyncio.timeout(20):
            found.append(await answer_of(reader))
        if found[-1].headers.get("connection") == "close":
            writer.close()
            streams = None
    if streams is not None:
        streams[1].close()
    return found


def memory(pids: list[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


def test_p47_two_thousand_broken_requests_are_refused_and_nothing_dies(fuzzed, chance):
    family = [fuzzed.gateway_pid(), *fuzzed.replica_pids()]
    before = memory(family)
    paths = [fuzzed.infer, fuzzed.plain, "/v2/models/fuzzed/versions/1/infer"]
    unknown = ["/v2/models/fuzzed/versions/9/infer", "/v2/models/none/infer", "/predict/%00", "/"]
    requests = [
        (chance.choice(paths if chance.random() < 0.95 else unknown), *body_of(chance))
        for _ in range(REQUESTS)
    ]
    parts = [requests[i::8] for i in range(8)]

    async def main():
        return await asyncio.gather(*(answers_to(fuzzed, part) for part in parts))

    for part, answers in zip(parts, asyncio.run(main()), strict=True):
        for request, answer in zip(part, answers, strict=True):
            assert answer.status == 200 or 400 <= answer.status < 500, (request, answer)
            if answer.status != 200:
                assert answer.error, request
                assert "\n" not in answer.error
                assert "Traceback" not in answer.error
    assert [fuzzed.gateway_pid(), *fuzzed.replica_pids()] == family
    assert memory(family) - before < GROWTH
    assert fuzzed.post(VALID, fuzzed.infer).status == 200


BOMBS = {
    "deep": b"[" * 200_000,
    "deep object": b'{"inputs":' * 50_000,
    "many keys": b"{" + b",".join(b'"k%d":1' % i for i in range(300_000)) + b"}",
    "long number": b'{"inputs": [[' + b"9" * 1_000_000 + b",1,1,1]]}",
    "long text": b'{"inputs": "' + b"x" * 4_000_000 + b'"}',
    "many rows": b"[" + b"[1,2,3]," * 500_000 + b"[1,2,3]]",
    "spaces": b" " * 8_000_000,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_p47_a_body_made_to_hurt_is_a_4xx_and_costs_no_memory_that_stays(fuzzed, bomb):
    family = [fuzzed.gateway_pid(), *fuzzed.replica_pids()]
    for path in (fuzzed.plain, fuzzed.infer):
        answered = fuzzed.post(BOMBS[bomb], path)
        assert 400 <= answered.status < 500, answered.body[:300]
        assert len(answered.error) < 1000
    assert [fuzzed.gateway_pid(), *fuzzed.replica_pids()] == family


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_p47_what_is_packed_small_and_unpacks_large_is_refused(fuzzed, encoding):
    pack = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    bomb = b"".join(pack.compress(b"[" * (1 << 20)) for _ in range(256)) + pack.flush()
    assert len(bomb) < 1 << 20
    [pid] = fuzzed.replica_pids()
    before = memory([pid])
    answered = fuzzed.post(bomb, Content_Encoding=encoding)
    assert answered.status == 400
    assert "over 16777216 bytes once it is inflated" in answered.error
    assert memory([pid]) - before < GROWTH


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"inputs": [[1, 2, 3]]}, "input 'input': expected FP32 [-1,4], got FP32 [1,3]"),
        ({"inputs": [["a", "b", "c", "d"]]}, "expected FP32 [-1,4]"),
        ({"other": [[1, 2, 3, 4]]}, "expected input 'input' FP32 [-1,4]"),
        (
            [[1, 2, 3, float("nan")]],
            "is not JSON: JSON is malformed: invalid character (byte 11); expected FP32",
        ),
    ],
)
def test_p47_what_does_not_fit_is_told_the_signature(fuzzed, content, reason):
    answered = fuzzed.post(content)
    assert answered.status == 400
    assert reason in answered.error


def test_p47_half_requests_and_broken_chunks_hold_nobody_up(fuzzed, chance):
    token = f"Authorization: Bearer {fuzzed.token}"
    head = f"POST {fuzzed.plain} HTTP/1.1\r\nHost: h\r\n{token}\r\n"
    whole = (head + "Content-Length: 20\r\n\r\n[[1,2,3,4],[1,2,3,4]").encode()
    chunks = [
        b"zz\r\n",
        b"-1\r\n",
        b"ffffffffffffffffff\r\n",
        b"5\r\n[[1,2\r\nxyz\r\n",
        b"3;a=\x00\r\n[[1\r\n",
    ]

    async def main():
        half = []
        for _ in range(100):
            _, writer = await asyncio.open_connection(*fuzzed.address)
            writer.write(whole[: chance.randrange(len(whole))])
            half.append(writer)
        statuses = []
        for chunk in chunks:
            reader, writer = await asyncio.open_connection(*fuzzed.address)
            writer.write((head + "Transfer-Encoding: chunked\r\n\r\n").encode() + chunk)
            writer.write_eof()
            async with asyncio.timeout(20):
                line = await reader.readline()
            statuses.append(int(line.split()[1]) if line else 0)  # 0: hung up on us, half a request
            writer.close()
        ours = await asyncio.to_thread(fuzzed.post, [[1, 2, 3, 4]])
        for writer in half:
            writer.transport.abort()
        return statuses, ours.status

    statuses, ours = asyncio.run(main())
    assert set(statuses) <= {0, 400}
    assert 400 in statuses
    assert ours == 200
