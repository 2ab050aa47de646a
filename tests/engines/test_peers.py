"""The kernel tells who holds the other end of a connection, and does so for that one socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from nbaas.engines import peers

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A connection on loopback: the client's socket and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        accepted, _ = server.accept()
        with client, accepted:
            yield client, accepted


def places(ends: Ends) -> tuple[peers.Address, peers.Address]:
    return ends[0].getsockname(), ends[1].getsockname()


def test_both_ways_tell_the_user_and_the_inode_of_a_socket(ends: Ends):
    inode = os.fstat(ends[0].fileno()).st_ino
    assert peers._by_listing(*places(ends)) == (os.getuid(), inode)
    assert peers._by_netlink(*places(ends)) in ((os.getuid(), inode), None)
    assert peers.owner_of(*places(ends)) == os.getuid()


def test_no_listing_of_all_sockets_is_read_for_one(ends: Ends):
    if peers._by_netlink(*places(ends)) is None:
        pytest.skip("this kernel does not answer for one socket")
    listing, peers._by_listing = peers._by_listing, None
    try:
        assert peers.owner_of(*places(ends)) == os.getuid()
    finally:
        peers._by_listing = listing


def test_a_socket_that_was_closed_is_nobodys(ends: Ends):
    at = places(ends)
    ends[0].close()
    assert peers.owner_of(*at) is None


def test_a_socket_that_never_was_is_nobodys(ends: Ends):
    client, server = places(ends)
    assert peers.owner_of((client[0], 1), server) is None
