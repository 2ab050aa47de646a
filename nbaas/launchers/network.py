"""Which network a host's ranks talk over: the interface of an address, the address of an interface."""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

from nbaas.errors import HostError

SIOCGIFADDR = 0x8915
LOOPBACK = "lo"


def address_of(interface: str) -> str:
    """Return the IPv4 address of an interface, '' where it has none."""
    request = struct.pack("256s", interface.encode()[:15])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError:
            return ""
    return socket.inet_ntoa(answer[20:24])


def interface_of(address: str) -> str:
    """Return the interface that has `address`, '' where this host has it not."""
    for _, name in socket.if_nameindex():
        if address_of(name) == address:
            return name
    with contextlib.suppress(OSError, ValueError):
        wanted = ipaddress.IPv6Address(address).exploded.replace(":", "")
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            fields = line.split()
            if fields[0] == wanted:
                return fields[-1]
    return ""


def route_to(address: str) -> str:
    """Return this host's own address on the way to `address`; nothing is sent."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def is_own(address: str) -> bool:
    """Return whether `address` is one of this host's: loopback, or of an interface."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def names_this_host(name: str) -> bool:
    """Return whether `name` is this machine: its own name, localhost, or one of its addresses."""
    own = socket.gethostname()
    if name.lower() in ("localhost", own.lower(), own.partition(".")[0].lower()):
        return True
    try:
        return is_own(str(ipaddress.ip_address(name)))
    except ValueError:
        return False


def chosen_network(address: str, interface: str, found: str) -> tuple[str, str]:
    """Return (address, interface) for ranks: what was configured, else of the address `found`.

    Raises HostError where this host has not what was configured.
    """
    if interface and not address:
        address = address_of(interface)
        if not address:
            raise HostError(f"interface {interface!r} has no IPv4 address", hint=_known())
    address = address or found
    interface = interface or interface_of(address)
    if not interface:
        raise HostError(f"no interface has the address {address!r}", hint=_known())
    return address, interface


def _known() -> str:
    names = [name for _, name in socket.if_nameindex() if name != LOOPBACK]
    return "interfaces: " + ", ".join(f"{name} {address_of(name)}".strip() for name in names)
