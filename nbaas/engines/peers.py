"""Which user has the other end of a loopback connection.

The kernel is asked for that one socket (sock_diag(7)).  /proc/net/tcp, which tells the same, lists all
sockets of the host and takes the kernel milliseconds, of which a start of Horovod would spend sixty.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path

Address = tuple[str, int]
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1
HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
ASKED = struct.Struct("=BBBxI")  # family, protocol, extensions, states
ENDS = struct.Struct("!HH16s16s")  # ports and addresses of the socket and of its peer
ANY_INTERFACE = struct.pack("=III", 0, 0xFFFFFFFF, 0xFFFFFFFF)  # and any cookie
OWNER = struct.Struct("=II")  # uid, inode
OWNER_AT = HEADER.size + 4 + ENDS.size + len(ANY_INTERFACE) + 12
ANSWER_TIME = 1.0  # seconds


def owner_of(end: Address, peer: Address) -> int | None:
    """Return the uid of the process that holds the socket at `end`, connected to `peer`, both IPv4.

    None where there is none, or its process has closed it.
    """
    found = None
    with contextlib.suppress(OSError, struct.error):
        found = _by_netlink(end, peer)
    uid, inode = found if found is not None else _by_listing(end, peer)
    # A closed socket is nobody's, for which the kernel writes 0, as if it were root's.
    return uid if inode else None


def _by_netlink(end: Address, peer: Address) -> tuple[int, int] | None:
    """Return uid and inode; None where the kernel does not tell."""
    ends = ENDS.pack(
        end[1], peer[1], *(socket.inet_aton(host).ljust(16, b"\0") for host, _ in (end, peer))
    )
    body = ASKED.pack(socket.AF_INET, socket.IPPROTO_TCP, 0, 0xFFFFFFFF) + ends + ANY_INTERFACE
    head = HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.settimeout(ANSWER_TIME)
        kernel.send(head + body)
        answer = kernel.recv(4096)
    if HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None
    uid, inode = OWNER.unpack_from(answer, OWNER_AT)
    return uid, inode


def _by_listing(end: Address, peer: Address) -> tuple[int, int]:
    """Return uid and inode by /proc/net/tcp; (0, 0) where it has no such socket."""
    local, remote = _hex_address(*end), _hex_address(*peer)
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == local and fields[2] == remote:
            return int(fields[7]), int(fields[9])
    return 0, 0


def _hex_address(host: str, port: int) -> str:
    # As /proc/net/tcp writes it: the address in the machine's byte order.
    number = int.from_bytes(socket.inet_aton(host), "little")
    return f"{number:08X}:{port:04X}"
