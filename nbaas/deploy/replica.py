"""One process that holds a model: verify, rebuild, compare with the golden answer, then batch.

Run by the endpoint host as `python -m nbaas.deploy.replica SPEC`, SPEC being JSON.  It listens on a
Unix socket for the gateway and takes whatever has arrived, up to `max_batch` requests, the moment it
is free: no timer, so a lone request never waits, and under load batches form by themselves.
Rules: a batch mixes only requests whose rows have equal shapes; a row that makes the model raise is
answered alone and spoils no other; one answer to every request, in one write for each batch.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from nbaas.deploy.answers import Encoder
from nbaas.deploy.assignment import ReplicaSpec
from nbaas.deploy.codec import decode_infer, expected, inflated
from nbaas.deploy.fast import FastDecoder, Packed
from nbaas.deploy.frames import CANCEL, DEFLATE, EXPLAIN, GZIP, MORE, PLAIN, STREAM, answer
from nbaas.deploy.inbox import Frame, Inbox
from nbaas.deploy.plain import decode_plain
from nbaas.deploy.streams import Streams
from nbaas.errors import InputError, NbaasError
from nbaas.records import from_json

JSON_BODY = -1


@dataclass(slots=True)
class Asked:
    """One request of a batch and its answer."""

    identity: int
    request: Any = None  # codec.Request
    reply: bytes = b""
    status: int = 200
    header_length: int = JSON_BODY


class Stop:
    """SIGTERM: at once where nothing is in work, else after the batch."""

    def __init__(self) -> None:
        self.asked = False
        self.idle = False
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.asked = True
        if self.idle:
            raise SystemExit(0)


class Server:
    """Batches requests and answers them; `runner` runs arrays through the model."""

    def __init__(self, runner: Any, spec: ReplicaSpec, max_batch: int, stop: Stop) -> None:
        self.runner = runner
        self.spec = spec
        self.max_batch = max_batch
        self.stop = stop
        self.signature = runner.manifest.signature
        self.encoder = Encoder(spec.name, spec.version, self.signature)
        self.fast = FastDecoder(self.signature)
        self.postponed: list[Frame] = []  # explanations: they wait until predictions are answered
        self.streams = Streams(runner, self.encoder)
        self._explainer: Any = None

    def serve(self, link: socket.socket) -> None:
        """Answer one gateway until it goes away."""
        inbox = Inbox(link)
        self.postponed.clear()  # what a gateway left behind, its successor asks again
        try:
            self._serve(link, inbox)
        finally:
            self.streams.close()

    def _serve(self, link: socket.socket, inbox: Inbox) -> None:
        while True:
            frames = self._gather(inbox)
            if not frames and not self.streams.ready:
                return
            answers = self.answer(frames) + self.streams.step()
            try:
                link.sendall(answers)
                while self.postponed:
                    link.sendall(self._explained(*self.postponed.pop(0)))
            except OSError:
                return  # the gateway left; its successor asks again
            if self.stop.asked:
                raise SystemExit(0)

    def _gather(self, inbox: Inbox) -> list[Frame]:
        """Return what has arrived, at most `max_batch` frames; none at the end, or amid streams."""
        frames: list[Frame] = []
        while len(frames) < self.max_batch:
            frame = inbox.take()
            if frame is not None:
                frames.append(frame)
                continue
            if frames and not self._more(inbox):
                break
            if not frames and self.streams.ready:
                if not inbox.receive(wait=False):
                    break
            elif not frames:
                self.stop.idle = True
                if self.stop.asked or not inbox.receive(wait=True):
                    self.stop.idle = False
                    return []
                self.stop.idle = False
        return frames

    def _more(self, inbox: Inbox) -> bool:
        """Whether further bytes came, waiting at most `max_wait` seconds for them."""
        if self.spec.max_wait and self.max_batch > 1 and not self.runner.manifest.streams:
            select.select([inbox.link], [], [], self.spec.max_wait)
        return inbox.receive(wait=False)

    def answer(self, frames: list[Frame]) -> bytes:
        """Return the answers to `frames`, in their order, as frames."""
        told = b"".join(
            [self.streams.told(f[0], f[1], f[2]) for f in frames if f[1] & (MORE | CANCEL)]
        )
        asked = [one for frame in frames if (one := self._decoded(*frame)) is not None]
        groups: dict[Any, list[Asked]] = {}
        for one in asked:
            if one.request is not None:
                groups.setdefault(self._group(one), []).append(one)
        for group in groups.values():
            for part in self._parts(group):
                self._run(part)
        size = len(asked)
        return told + b"".join(
            [answer(one.identity, one.status, size, one.header_length, one.reply) for one in asked]
        )

    def _decoded(self, identity: int, flags: int, header_length: int, body: bytes) -> Asked | None:
        if flags & (MORE | CANCEL):
            return None
        if flags & EXPLAIN:
            self.postponed.append((identity, flags, header_length, body))
            return None
        one = Asked(identity)
        try:
            if flags == 0 and header_length == JSON_BODY:
                one.request = self.fast.infer(body)
            elif flags == PLAIN:
                one.request = self.fast.plain(body)
            if one.request is None:
                one.request = self._careful(flags, header_length, body)
            if flags & STREAM:
                self.streams.begin(identity, one.request)
                return None
        except InputError as wrong:
            _refuse(one, wrong.http_status, str(wrong))
        except UnicodeDecodeError as wrong:
            _refuse(one, 400, f"the body is not JSON: {wrong}; {expected(self.signature)}")
        except Exception as bug:  # noqa: BLE001 - a request must not end the replica
            traceback.print_exc()
            _refuse(one, 500, f"the request could not be decoded: {bug!r}")
        return one

    def _explained(self, identity: int, flags: int, header_length: int, body: bytes) -> bytes:
        """Return the answer to one request to explain, as a frame."""
        one = Asked(identity)
        try:
            if flags & (GZIP | DEFLATE):
                body = inflated(body, "gzip" if flags & GZIP else "deflate", self.spec.max_body)
            if self._explainer is None:
                from nbaas.deploy.explain import Explainer

                folder = Path(self.spec.directory)
                self._explainer = Explainer(folder, self.spec.name, self.spec.version, self.runner)
            one.header_length, one.reply = self._explainer.answer(header_length, body)
        except NbaasError as wrong:
            _refuse(one, wrong.http_status, str(wrong))
        except Exception as bug:  # noqa: BLE001 - a request must not end the replica
            traceback.print_exc()
            _refuse(one, 500, f"the answer could not be explained: {bug!r}")
        return answer(identity, one.status, 1, one.header_length, one.reply)

    def _careful(self, flags: int, header_length: int, body: bytes) -> Any:
        """Return the request of any form; raises InputError with the reason."""
        if flags & (GZIP | DEFLATE):
            body = inflated(body, "gzip" if flags & GZIP else "deflate", self.spec.max_body)
        if flags & PLAIN:
            return decode_plain(body, self.signature)
        return decode_infer(body, header_length, self.signature)

    def _group(self, one: Asked) -> Any:
        if not self.runner.manifest.batchable:
            return one.identity
        if isinstance(one.request, Packed):
            return self.fast.inner
        arrays = one.request.arrays
        if len(arrays) == 1:
            return arrays[0].shape[1:]
        return tuple([array.shape[1:] for array in arrays])

    def _parts(self, group: list[Asked]) -> Iterator[list[Asked]]:
        """Split a group so that no batch has over `max_batch` rows, one request's own left aside."""
        part: list[Asked] = []
        rows = 0
        for one in group:
            if part and rows + one.request.rows > self.max_batch:
                yield part
                part, rows = [], 0
            part.append(one)
            rows += one.request.rows
        yield part

    def _run(self, group: list[Asked]) -> None:
        """Run a group as one batch; where that raises, each request alone."""
        try:
            self._run_batch(group)
        except Exception as raised:  # noqa: BLE001 - the model may raise anything
            if len(group) > 1:
                for one in group:
                    self._run([one])
                return
            traceback.print_exc()
            _refuse(group[0], 500, f"the model raised {type(raised).__name__}: {raised}")

    def _run_batch(self, group: list[Asked]) -> None:
        outputs = self.runner.run_arrays(self._columns(group))
        if len(group) == 1:
            group[0].header_length, group[0].reply = self.encoder.encode(group[0].request, outputs)
            return
        total = sum(one.request.rows for one in group)
        if any(len(output) != total for output in outputs):
            raise ValueError(f"the model gives {len(outputs[0])} rows for {total}")  # alone, then
        table = self.encoder.rows(outputs)
        start = 0
        for one in group:
            request = one.request
            end = start + request.rows
            if table is not None and end == start + 1 and not (request.binary or request.outputs):
                one.reply = self.encoder.row(request, table[start])
            else:
                parts = [output[start:end] for output in outputs]
                one.header_length, one.reply = self.encoder.encode(request, parts)
            start = end

    def _columns(self, group: list[Asked]) -> list[Any]:
        """Return the inputs of a group, each as one array (B, ...)."""
        requests = [one.request for one in group]
        if all(type(request) is Packed for request in requests):
            return [self.fast.stacked(requests)]
        if len(requests) == 1:
            return list(requests[0].arrays)
        columns = zip(*(request.arrays for request in requests), strict=True)
        return [np.concatenate(column) for column in columns]


def _refuse(one: Asked, status: int, reason: str) -> None:
    one.request = None
    one.status = status
    one.header_length = JSON_BODY
    one.reply = json.dumps({"error": reason}).encode()


def main(argv: list[str]) -> None:
    spec = from_json(ReplicaSpec, json.loads(argv[1]))
    from nbaas.worker.guard import die_with_parent, hold_lifeline

    die_with_parent(spec.parent)
    hold_lifeline(spec.lifeline)
    serve_replica(spec)


def serve_replica(spec: ReplicaSpec) -> None:
    """Prepare the model, say so, and answer gateways until SIGTERM."""
    os.umask(0o077)
    started = time.monotonic()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with contextlib.suppress(FileNotFoundError):
        Path(spec.socket).unlink()
    listener.bind(spec.socket)
    listener.listen(4)
    try:
        runner, max_batch = _prepared(spec)
    except Exception as failed:  # noqa: BLE001 - the user's source may raise anything
        traceback.print_exc()
        _say(spec.ready, _failure(failed))
        raise SystemExit(1) from None
    stop = Stop()
    server = Server(runner, spec, max_batch, stop)
    gc.collect()
    gc.freeze()
    _say(spec.ready, {"ready": True, "max_batch": max_batch, "seconds": time.monotonic() - started})
    while True:
        stop.idle = True
        if stop.asked:
            raise SystemExit(0)
        link, _ = listener.accept()
        stop.idle = False
        with link:
            server.serve(link)


def _prepared(spec: ReplicaSpec) -> tuple[Any, int]:
    """Return a warm runner and its batch size; only the engine that is used is imported."""
    folder, threads = Path(spec.directory), max(1, spec.threads)
    if spec.engine == "onnx":
        from nbaas.deploy.onnx_runner import onnx_runner

        return onnx_runner(folder, threads=threads, max_batch=spec.max_batch)
    from nbaas.deploy.runner import torch_runner

    return torch_runner(
        folder, device=spec.device, threads=threads, max_batch=spec.max_batch, index=spec.index
    )


def _failure(failed: Exception) -> dict[str, Any]:
    if isinstance(failed, NbaasError):
        return failed.to_json()
    return {"kind": "DeployError", "error": f"{type(failed).__name__}: {failed}", "hint": ""}


def _say(fd: int, message: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):
        os.write(fd, json.dumps(message).encode() + b"\n")
        os.close(fd)


if __name__ == "__main__":
    main(sys.argv)
