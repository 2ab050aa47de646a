"""The client of the rendezvous: a place written `host:port`, or `host:port/token` on the network.

Horovod's own client builds `http://ADDR:PORT/scope/key` from two variables; with the token behind a
slash in ADDR it sends the token first in each path, and nothing of Horovod has to be changed.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from nbaas.errors import EngineError

POLL_INTERVAL = 0.02  # seconds
REQUEST_TIMEOUT = 10.0  # seconds


def horovod_place(address: str, token: str) -> tuple[str, str]:
    """Return Horovod's two variables, address and port, of a rendezvous."""
    host, _, port = address.rpartition(":")
    return (f"{address}/{token}" if token else host), port


def ask(host: str, port: int, method: str, target: str, body: bytes = b"") -> bytes:
    """Return the rendezvous server's answer; raises EngineError when it is gone or refuses.

    `host` as Horovod has it in its environment.
    """
    import http.client  # not at the top: the supervisor stays small

    address, slash, token = host.partition("/")
    if slash:
        target = f"/{token}:{port}{target}"
    else:
        address = f"{host}:{port}"
    connection = http.client.HTTPConnection(address, timeout=REQUEST_TIMEOUT)
    try:
        connection.request(method, target, body)
        response = connection.getresponse()
        answer = response.read()
    except OSError as gone:
        raise EngineError(f"the rendezvous at {address} does not answer: {gone}") from gone
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise EngineError(f"the rendezvous at {address} answered {response.status}")
    return answer


def torch_store(place: str, timeout: float) -> Any:
    """Return torch's view of the rendezvous at `host:port/token`: what its process groups meet at.

    torch's own TCPStore listens on every interface and answers anybody.
    """
    import torch.distributed as dist

    address, _, token = place.partition("/")
    port = int(address.rpartition(":")[2])
    where = f"{address}/{token}"

    class KeyValueStore(dist.Store):  # type: ignore[name-defined]
        """The few verbs that a process group uses; torch calls them from its own threads."""

        def __init__(self) -> None:
            super().__init__()
            self._limit = timedelta(seconds=timeout)

        def set(self, key: str, value: str | bytes) -> None:
            data = value if isinstance(value, bytes) else value.encode()
            ask(where, port, "PUT", f"/ddp/{_quoted(key)}", data)

        def get(self, key: str) -> bytes:
            self.wait([key])
            return ask(where, port, "GET", f"/ddp/{_quoted(key)}")

        def check(self, keys: Sequence[str]) -> bool:
            held = set(ask(where, port, "GET", "/ddp/").decode().split(","))
            return all(_quoted(key) in held for key in keys)

        def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
            deadline = time.monotonic() + (timeout or self._limit).total_seconds()
            while not self.check(keys):
                if time.monotonic() > deadline:
                    raise dist.DistStoreError(f"nobody has set {', '.join(keys)}")
                time.sleep(POLL_INTERVAL)

        def set_timeout(self, timeout: timedelta) -> None:
            self._limit = timeout

    store = KeyValueStore()
    # Never freed: its last owner is a C++ thread, which has no interpreter to free it with and
    # aborts the process as it ends.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(store))
    return store


def _quoted(key: str) -> str:
    import urllib.parse

    return urllib.parse.quote(key, safe="")
