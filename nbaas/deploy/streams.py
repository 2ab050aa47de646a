"""The streams of one replica: its model's generators, one item each in turn.

Rules: no stream holds up another, or a request that has just come, for longer than one item.  A
stream is at most WINDOW items ahead of its client, and closed once the client has left.
"""

from __future__ import annotations

import json
import traceback
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from nbaas.deploy.answers import Encoder
from nbaas.deploy.codec import JSON_BODY, Request
from nbaas.deploy.frames import CANCEL, ITEM, WINDOW, answer
from nbaas.errors import InputError


@dataclass(slots=True)
class Stream:
    """One generator, and how many items its client has room for."""

    identity: int
    request: Request
    items: Generator[list[Any]]
    room: int = WINDOW


class Streams:
    """The open streams by the id of their request; `runner` yields the arrays of each item."""

    def __init__(self, runner: Any, encoder: Encoder) -> None:
        self._runner = runner
        self._encoder = encoder
        self._open: dict[int, Stream] = {}
        self._turn: deque[Stream] = deque()  # those whose client has room

    @property
    def ready(self) -> bool:
        """Whether an item can be made for somebody."""
        return bool(self._turn)

    def begin(self, identity: int, request: Request) -> None:
        """Open a stream.  Raises: InputError: it asks for what a stream cannot give."""
        if request.binary:
            raise InputError("a stream answers in JSON; leave binary_data_output out")
        stream = Stream(identity, request, self._runner.stream_arrays(request.arrays))
        self._open[identity] = stream
        self._turn.append(stream)

    def told(self, identity: int, flags: int, count: int) -> bytes:
        """Give a stream room for `count` items, or close it; returns the frame of its end, if any."""
        stream = self._open.get(identity)
        if stream is None:
            return b""  # it has ended meanwhile
        if flags & CANCEL:
            self._end(stream)
            return answer(identity, 200, 1, JSON_BODY, b"{}")
        if stream.room == 0:
            self._turn.append(stream)
        stream.room += count
        return b""

    def step(self) -> bytes:
        """Return the frame of one item, or of the end, of the stream whose turn it is."""
        if not self._turn:
            return b""
        stream = self._turn.popleft()
        try:
            outputs = next(stream.items, None)
            body = b"{}" if outputs is None else self._encoded(stream.request, outputs)
        except Exception as raised:  # noqa: BLE001 - the model may raise anything
            traceback.print_exc()
            self._end(stream)
            reason = f"the model raised {type(raised).__name__}: {raised}"
            return answer(
                stream.identity, 500, 1, JSON_BODY, json.dumps({"error": reason}).encode()
            )
        if outputs is None:
            self._end(stream)
            return answer(stream.identity, 200, 1, JSON_BODY, body)
        stream.room -= 1
        if stream.room:
            self._turn.append(stream)
        return answer(stream.identity, ITEM, 1, JSON_BODY, body)

    def _encoded(self, request: Request, outputs: list[Any]) -> bytes:
        # The row of an item is taken out only where each of its arrays has one.
        request.squeeze = request.squeeze and all(y.shape[:1] == (1,) for y in outputs)
        return self._encoder.encode(request, outputs)[1]

    def _end(self, stream: Stream) -> None:
        self._open.pop(stream.identity, None)
        if stream in self._turn:
            self._turn.remove(stream)
        try:
            stream.items.close()
        except Exception:  # noqa: BLE001 - a finally block of the model's own
            traceback.print_exc()

    def close(self) -> None:
        """Close every stream: the gateway has left, or this replica ends."""
        for stream in list(self._open.values()):
            self._end(stream)
