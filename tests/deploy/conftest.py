"""A notebook without IPython, and an endpoint host of this session's own."""

from __future__ import annotations

import asyncio
import itertools
import json
import linecache
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from nbaas.config import Settings
from nbaas.deploy import client
from nbaas.deploy.hosting import ask_host

MLP = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden=16):
        super().__init__()
        self.fc1 = nn.Linear(64, hidden)
        self.fc2 = nn.Linear(hidden, 10)
    def forward(self, x):
        return self.fc2(torch.relu(self.fc1(x)))
"""


@dataclass
class Notebook:
    """Cells run in one namespace called `__main__`, their text known to linecache, as ipykernel does."""

    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def run(self, source: str) -> dict[str, Any]:
        name = f"<cell {next(self._numbers)} of {id(self)}>"
        linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
        exec(compile(source, name, "exec"), self.namespace)
        return self.namespace

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def mlp(hidden: int = 16, seed: int = 0):
    """Return a small network whose class lives in a notebook."""
    import torch

    torch.manual_seed(seed)
    made = Notebook()
    return made.run(MLP)["Net"](hidden).eval()


@pytest.fixture(scope="session")
def shared(tmp_path_factory) -> Iterator[Settings]:
    """Settings of a home whose endpoint host runs for the whole session; names keep tests apart."""
    root = tmp_path_factory.mktemp("endpoints")
    settings = Settings(home=root / "home", cache=root / "cache")
    yield settings
    client.stop_host(settings)


@pytest.fixture
def alone(settings) -> Iterator[Settings]:
    """Settings whose host is this test's own: it may be killed."""
    yield settings
    client.stop_host(settings)


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


async def exchange(
    address, method: str, path: str, *, token: str = "", body: bytes = b"", **headers: str
) -> Answered:
    """Return the answer to one request on a connection of its own."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        return await ask(reader, writer, method, path, token=token, body=body, **headers)
    finally:
        writer.close()


async def ask(
    reader, writer, method: str, path: str, *, token: str = "", body: bytes = b"", **headers: str
) -> Answered:
    """Return the answer to one request on a connection that stays."""
    lines = [f"{method} {path} HTTP/1.1", "Host: here", f"Content-Length: {len(body)}"]
    lines += [f"Authorization: Bearer {token}"] if token else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    writer.write("\r\n".join([*lines, "", ""]).encode() + body)
    return await answer_of(reader)


async def answer_of(reader) -> Answered:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    status = int(head[0].split()[1])
    found = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
    body = await reader.readexactly(int(found.get("content-length", 0)))
    return Answered(status, found, body)


@dataclass(frozen=True)
class Endpoint:
    """One deployed endpoint and how to reach it in every way."""

    settings: Settings
    name: str

    @property
    def address(self) -> tuple[str, int]:
        return client.gateway_address(self.settings)

    @property
    def token(self) -> str:
        return client.token(self.settings, self.name)

    @property
    def infer(self) -> str:
        return f"/v2/models/{self.name}/infer"

    @property
    def plain(self) -> str:
        return f"/predict/{self.name}"

    def request(
        self, method: str, path: str, *, body: bytes = b"", token=None, **headers
    ) -> Answered:
        token = self.token if token is None else token
        return asyncio.run(exchange(self.address, method, path, token=token, body=body, **headers))

    def post(self, body: Any, path: str = "", **headers: str) -> Answered:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.request("POST", path or self.plain, body=data, **headers)

    def described(self) -> dict[str, Any]:
        rows = ask_host(self.settings, {"op": "describe"}, 10.0)["endpoints"]
        return next(row for row in rows if row["name"] == self.name)

    def replica_pids(self) -> list[int]:
        return self.described()["pids"]

    def gateway_pid(self) -> int:
        return ask_host(self.settings, {"op": "describe"}, 10.0)["gateway"]["pid"]


def deployed(settings: Settings, model, name: str, example, **given) -> Endpoint:
    client.deploy(settings, model, name=name, example=example, **given)
    return Endpoint(settings, name)


@pytest.fixture(scope="session")
def digits(shared) -> tuple[Endpoint, Any]:
    """A small network that is served, and the module itself."""
    import torch

    model = mlp()
    return deployed(shared, model, "digits", torch.randn(3, 64)), model


SIGKILL = signal.SIGKILL
REPOSITORY = Path(__file__).parents[2]
