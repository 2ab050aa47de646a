"""Our key-value store, spoken to over real sockets."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nbaas.engines.horovod import horovod_places
from nbaas.engines.keyvalue import ask as keyvalue_ask
from nbaas.engines.rendezvous import KeyValueServer, same_user
from nbaas.records import Slot


@pytest.fixture
def server():
    with KeyValueServer() as running:
        yield running


def ask(server, method, target, body=b""):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request(method, target, body)
    response = connection.getresponse()
    return response.status, response.read()


def test_what_is_put_is_got(server):
    value = bytes(range(256))
    assert ask(server, "GET", "/global/0") == (404, b"")
    assert ask(server, "PUT", "/global/0", value) == (200, b"")
    assert ask(server, "GET", "/global/0") == (200, value)
    assert ask(server, "GET", "/local/0") == (404, b"")


def test_a_rank_that_has_connected_takes_nothing_from_the_others(server):
    ask(server, "PUT", "/global/0", b"address")
    assert ask(server, "DELETE", "/global/0") == (200, b"")
    assert ask(server, "GET", "/global/0") == (200, b"address")


def test_a_scope_lists_its_keys(server):
    for key in ("0", "2"):
        ask(server, "PUT", f"/here/{key}", b"1")
    ask(server, "PUT", "/other/1", b"1")
    assert ask(server, "GET", "/here/") == (200, b"0,2")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"PUT /a/b HTTP/1.1\r\nContent-Length: -4\r\n\r\n",
        b"PUT /a/b HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"GET /a/b/c HTTP/1.1\r\n\r\n",
        b"POST /a/b HTTP/1.1\r\n\r\n",
        b"\x00\xff" * 100 + b"\r\n\r\n",
    ],
)
def test_nonsense_is_a_bad_request(server, request_bytes):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        client.sendall(request_bytes)
        assert client.recv(100).startswith(b"HTTP/1.1 400 ")
    assert ask(server, "GET", "/here/")[0] == 200


def test_only_loopback_is_bound(server):
    port = f":{server.port:04X}"
    table = Path("/proc/net/tcp").read_text().splitlines()
    bound = [line.split()[1] for line in table if line.split()[1].endswith(port)]
    assert bound[0] == f"0100007F{port}"


def test_our_own_processes_are_recognised(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        assert same_user(client.getsockname(), server.port)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become somebody else")
def test_another_user_is_refused(server):
    program = (
        "import encodings.idna, os, socket, sys; os.setuid(65534)\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])), timeout=10)\n"
        "s.sendall(b'GET /global/0 HTTP/1.1\\r\\n\\r\\n'); print(s.recv(100).split()[1].decode())"
    )
    command = [sys.executable, "-c", program, str(server.port)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert shown.stdout.strip() == "403"


def test_on_the_network_only_who_knows_the_secret_is_answered():
    with pytest.raises(ValueError, match="needs a secret"):
        KeyValueServer("127.0.0.2")
    with KeyValueServer("127.0.0.2", secret="s3cret") as server:
        where = server.address

        def status(token: str, method: str = "GET", target: str = "/global/0") -> int:
            connection = http.client.HTTPConnection(where, timeout=10)
            connection.request(method, f"{token}{target}", b"v" if method == "PUT" else b"")
            return connection.getresponse().status

        assert status("/s3cret.1:80", "PUT") == 200
        assert status("/s3cret.1:80") == 200
        assert status("/s3cret.2:80") == 404  # another start of the gang sees nothing of the first
        for wrong in ("", "/", "/s3cre.1:80", "/s3cret2:80", "/.1:80"):
            assert status(wrong) == 403, wrong
        assert keyvalue_ask(f"{where}/s3cret.1", 80, "GET", "/global/0") == b"v"


@pytest.mark.ranks
@pytest.mark.parametrize("engine", ["horovod", "ddp"])
def test_ranks_of_several_hosts_meet_by_the_secret(engine, gang):
    ends = gang(engine, 2, "collectives_rank", secret="s3cret")
    assert [end.code for end in ends] == [0, 0], ends


def test_ranks_of_two_hosts_get_horovods_places():
    slots = [
        Slot(rank=0, local_rank=0, world_size=3, host="a"),
        Slot(rank=1, local_rank=1, world_size=3, host="a"),
        Slot(rank=2, local_rank=0, world_size=3, host="b"),
    ]
    places = horovod_places(slots)
    names = ("LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE", "HOSTNAME")
    assert [[place[f"HOROVOD_{name}"] for name in names] for place in places] == [
        ["2", "0", "2", "a"],
        ["2", "0", "1", "a"],
        ["1", "1", "2", "b"],
    ]
