"""From `--gpus 4`, `--ranks 2` or `--hosts a:2,b:2` to one Slot per rank.

Pure: what a host has comes in as a value.  Rule: what names a host is matched as a whole before it
can reach a command line; nothing that starts with a dash is a host or a user.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from nbaas.errors import PlacementError, UsageError
from nbaas.records import Host, Slot

MAX_RANKS = 4096
MAX_PORT = 65535
HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}", re.ASCII)
USER_NAME = re.compile(r"(?!-)[A-Za-z0-9._-]{1,64}", re.ASCII)
INTERFACE = re.compile(r"(?!-)[A-Za-z0-9._@:-]{1,15}", re.ASCII)
FOLDER = re.compile(r"(?:/|~/|~$)[A-Za-z0-9._+@=,/ -]{0,1000}", re.ASCII)
PYTHON = re.compile(r"(?:/|~/)?(?!-)[A-Za-z0-9._+/-]{1,1000}", re.ASCII)
ENTRY = re.compile(r"(?:([^@]*)@)?(\[[^\]]*\]|[^:\[\]]*)(?::([^:]*))?")
WRITTEN = "hosts are written a:2,b:2 or user@a:2, with a port ssh://a:2222/2, IPv6 [fd00::1]:2"
CLUSTER_KEYS = ("hosts", "python", "workdir", "interface")
HOST_KEYS = ("host", "python", "workdir", "interface", "address")


@dataclass(frozen=True, slots=True)
class HostResources:
    """What one host offers: logical CPU cores and GPU indices with their names."""

    name: str
    cores: int
    gpus: tuple[str, ...] = ()  # model name by index


def place(
    here: HostResources, *, gpus: int | None = None, ranks: int | None = None
) -> tuple[Slot, ...]:
    """Return one slot per rank on `here`; neither given means one rank per GPU, else one on the CPU.

    Raises: UsageError: both flags, or a count below 1.  PlacementError: GPUs that are not here.
    """
    _check_counts(gpus, ranks)
    if gpus is not None:
        return _gpu_slots(here, gpus)
    if ranks is None and here.gpus:
        return _gpu_slots(here, len(here.gpus))
    world_size = ranks or 1
    threads = max(1, here.cores // world_size)
    return tuple(
        Slot(rank=rank, local_rank=rank, world_size=world_size, host=here.name, threads=threads)
        for rank in range(world_size)
    )


def _gpu_slots(here: HostResources, gpus: int) -> tuple[Slot, ...]:
    if gpus > len(here.gpus):
        found = f"{len(here.gpus)} GPUs" if here.gpus else "no GPU"
        raise PlacementError(
            f"--gpus {gpus}: {here.name} has {found} and {here.cores} cores",
            hint=f"--ranks {gpus} runs {gpus} ranks on the CPU"
            if not here.gpus
            else f"--gpus {len(here.gpus)} is the most this host has",
        )
    threads = max(1, here.cores // gpus)
    return tuple(
        Slot(rank=rank, local_rank=rank, world_size=gpus, host=here.name, threads=threads, gpu=rank)
        for rank in range(gpus)
    )


def describe(slots: Sequence[Slot]) -> str:
    """Return '2 ranks on the CPU' or '4 GPUs' for a header line."""
    count = len(slots)
    hosts = dict.fromkeys(slot.host for slot in slots)
    where = f" of {', '.join(hosts)}" if len(hosts) > 1 else ""
    if slots and slots[0].gpu is not None:
        return f"{count} GPU{'s' if count != 1 else ''}{where}"
    cpu = f"the CPUs{where}" if where else "the CPU"
    return f"{count} rank{'s' if count != 1 else ''} on {cpu}"


@dataclass(frozen=True, slots=True)
class HostSlots:
    """A host that was asked for, and how many ranks it takes; None: as many as it has GPUs, or 1."""

    host: Host
    slots: int | None = None


def parse_hosts(text: str) -> tuple[HostSlots, ...]:
    """Return the hosts of `a:2,user@b:2`; raises UsageError naming the part that is none."""
    return _distinct([_entry(part.strip(" ")) for part in text.split(",")])


def cluster_hosts(clusters: Mapping[str, Any], name: str) -> tuple[HostSlots, ...]:
    """Return the hosts of `[clusters.NAME]`; raises UsageError where the table does not fit."""
    where = f"[clusters.{name}] in config.toml"
    if name not in clusters:
        known = ", ".join(sorted(clusters)) or "none yet"
        hint = f'known: {known}; config.toml: [clusters.lab] hosts = ["a:2", "b:2"]'
        raise UsageError(f"--cluster {name!r}: no cluster of this name", hint=hint)
    table = clusters[name]
    if not isinstance(table, Mapping) or not isinstance(table.get("hosts"), list):
        raise UsageError(f"{where} has no list of hosts", hint='hosts = ["a:2", "b:2"]')
    _only(where, table, CLUSTER_KEYS)
    shared = {key: table[key] for key in CLUSTER_KEYS[1:] if key in table}
    return _distinct([_configured(where, entry, shared) for entry in table["hosts"]])


def configured_hosts(clusters: Mapping[str, Any]) -> tuple[HostSlots, ...]:
    """Return the hosts of all clusters, each once, as its first cluster describes it."""
    found: dict[str, HostSlots] = {}
    for name in clusters:
        for entry in cluster_hosts(clusters, name):
            found.setdefault(entry.host.name, entry)
    return tuple(found.values())


def _configured(where: str, entry: object, shared: Mapping[str, Any]) -> HostSlots:
    table = {"host": entry} if isinstance(entry, str) else entry
    if not isinstance(table, Mapping) or not isinstance(table.get("host"), str):
        raise UsageError(f"{where}: {entry!r} is no host", hint=WRITTEN)
    _only(where, table, HOST_KEYS)
    parsed = _entry(table["host"])
    fields = {**shared, **{key: table[key] for key in HOST_KEYS[1:] if key in table}}
    for key, value in fields.items():
        fields[key] = checked_field(f"{where}: {key}", key, value)
    return replace(parsed, host=replace(parsed.host, **fields))


def checked_field(label: str, key: str, value: object) -> str:
    """Return a host's python, workdir, interface or address; raises UsageError where it is none."""
    kinds = {"python": PYTHON, "workdir": FOLDER, "interface": INTERFACE}
    if isinstance(value, str):
        if key == "address" and _is_address(value):
            return value
        if key in kinds and kinds[key].fullmatch(value):
            return value
    raise UsageError(f"{label} = {value!r} does not fit", hint="a plain absolute path, name or IP")


def _only(where: str, table: Mapping[str, Any], known: Sequence[str]) -> None:
    for key in table:
        if key not in known:
            raise UsageError(f"{where}: {key!r} is no key", hint="known: " + ", ".join(known))


def _entry(text: str) -> HostSlots:
    shown = repr(text if len(text) <= 80 else text[:77] + "...")  # noqa: PLR2004 - one line
    rest, port = text, 0
    if text.startswith("ssh://"):
        place, _, slots = text.removeprefix("ssh://").partition("/")
        head, colon, number = place.rpartition(":")
        if colon and not number.endswith("]"):
            place, port = head, _number(number, MAX_PORT, f"{shown}: port")
        rest = f"{place}:{slots}" if slots else place
    found = ENTRY.fullmatch(rest)
    if found is None:
        raise UsageError(f"{shown} is no host", hint=WRITTEN)
    user, host, slots = found.groups()
    bare = host[1:-1] if host.startswith("[") else host
    is_name = bare == host and HOST_NAME.fullmatch(bare) is not None
    if not is_name and not (bare != host and _is_address(bare)):
        raise UsageError(f"{shown} is no host", hint=WRITTEN)
    if user is not None and not USER_NAME.fullmatch(user):
        raise UsageError(f"{shown}: {user!r} is no user", hint=WRITTEN)
    count = None if slots is None else _number(slots, MAX_RANKS, f"{shown}: slots")
    name = f"{host}:{port}" if port else bare
    return HostSlots(Host(name=name, user=user or "", port=port), count)


def _number(text: str, most: int, label: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:9]) <= most or len(text) > 9:  # noqa: PLR2004
        raise UsageError(f"{label} {text!r} is not a number from 1 to {most}", hint=WRITTEN)
    return int(text)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _distinct(entries: Sequence[HostSlots]) -> tuple[HostSlots, ...]:
    names = [entry.host.name for entry in entries]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"{name} is listed twice", hint=f"{name}:2 is two ranks on it")
    if not entries:
        raise UsageError("no host is listed", hint=WRITTEN)
    return tuple(entries)


def place_on(
    hosts: Sequence[tuple[HostSlots, HostResources]],
    *,
    gpus: int | None = None,
    ranks: int | None = None,
) -> tuple[Slot, ...]:
    """Return one slot per rank; a host is filled before the next.

    Neither count given: every slot that is listed.  GPUs are used where all hosts have them.
    Raises: UsageError: a count below 1.  PlacementError: more ranks than slots, GPUs not there.
    """
    _check_counts(gpus, ranks)
    on_gpu = gpus is not None or (ranks is None and _all_have_gpus(hosts))
    offered = [_offered(entry, there, on_gpu=on_gpu, counted=ranks) for entry, there in hosts]
    wanted = gpus or ranks or sum(offered)
    if wanted > sum(offered):
        listed = ", ".join(f"{t.name}:{n}" for (_, t), n in zip(hosts, offered, strict=True))
        kind = "GPUs" if on_gpu else "ranks"
        raise PlacementError(
            f"{wanted} {kind} asked for, {sum(offered)} slots on {listed}",
            hint=f"lower --{kind.lower()} or add a host",
        )
    slots: list[Slot] = []
    for (_, there), most in zip(hosts, offered, strict=True):
        count = min(most, wanted - len(slots))
        threads = max(1, there.cores // max(count, 1))
        for local in range(count):
            gpu = local if on_gpu else None
            slots.append(Slot(len(slots), local, wanted, there.name, threads, gpu))
    return tuple(slots)


def _check_counts(gpus: int | None, ranks: int | None) -> None:
    if gpus is not None and ranks is not None:
        raise UsageError(f"--gpus {gpus} and --ranks {ranks} together", hint="give one of the two")
    wanted = gpus if gpus is not None else ranks
    if wanted is not None and not 1 <= wanted <= MAX_RANKS:
        flag = "--gpus" if gpus is not None else "--ranks"
        raise UsageError(f"{flag} {wanted}: must be 1 or more", hint=f"{flag} 2 starts two ranks")


def _all_have_gpus(hosts: Sequence[tuple[HostSlots, HostResources]]) -> bool:
    bare = [there.name for _, there in hosts if not there.gpus]
    if bare and len(bare) < len(hosts):
        raise PlacementError(
            f"{', '.join(bare)} has no GPU, the other hosts have",
            hint="--ranks N runs on the CPUs of all; or leave it out",
        )
    return not bare


def _offered(entry: HostSlots, there: HostResources, *, on_gpu: bool, counted: int | None) -> int:
    if on_gpu:
        if (entry.slots or 1) > len(there.gpus):
            raise PlacementError(
                f"{there.name}:{entry.slots or 1}: {there.name} has {len(there.gpus)} GPUs",
                hint="--ranks N runs on the CPU",
            )
        return entry.slots or len(there.gpus)
    return entry.slots or (there.cores if counted else 1)
