"""Frames between the gateway and a replica, over a Unix socket; no pickle, no JSON.

Request:  `u32 length of what follows, u64 id, u8 flags, i32 header length, body`.
Answer:   `u32 length of what follows, u64 id, u16 status, u16 batch, i32 header length, body`.
The header length is that of the JSON before binary tensors, -1 where the whole body is JSON.
A stream is answered by frames of status ITEM and one of another status; MORE lets it send so many
items further (the header length), CANCEL closes it; both carry the id of the request they are about.
Pure: parsing takes bytes and gives records.
"""

from __future__ import annotations

import struct

REQUEST = struct.Struct("<IQBi")
ANSWER = struct.Struct("<IQHHi")
LENGTH = 4  # bytes of the length itself
REQUEST_REST = REQUEST.size - LENGTH
ANSWER_REST = ANSWER.size - LENGTH

PLAIN = 1  # a body of the plain form, not Open Inference
GZIP = 2
DEFLATE = 4
EXPLAIN = 8  # why the model answers as it does, instead of the answer
STREAM = 16  # one answer for each item that the model yields
MORE = 32
CANCEL = 64

ITEM = 206  # status of a frame after which another comes
WINDOW = 4  # items that a stream may be ahead of its client


def request_head(identity: int, flags: int, header_length: int, body_length: int) -> bytes:
    return REQUEST.pack(REQUEST_REST + body_length, identity, flags, header_length)


def answer(identity: int, status: int, batch: int, header_length: int, body: bytes) -> bytes:
    head = ANSWER.pack(ANSWER_REST + len(body), identity, status, batch, header_length)
    return head + body
