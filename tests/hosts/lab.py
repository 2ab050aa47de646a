"""Hosts made of namespaces: own network, processes, mounts and sshd; none sees another's files.

Rule: everything is on a bridge of its own and goes away with the fixture; nothing is sent elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
TOOLS = ("ip", "ssh", "ssh-keygen", "unshare", "nsenter")


def missing() -> str:
    """Return why hosts cannot be made here, '' where they can."""
    if os.getuid() != 0:
        return "needs root to make network namespaces"
    lacking = [tool for tool in TOOLS if shutil.which(tool) is None]
    if not os.access(SSHD, os.X_OK):
        lacking.append("sshd")
    if lacking:
        return f"missing: {', '.join(lacking)} (apt-get install iproute2 openssh-server)"
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], check=False)
    return "" if probe.returncode == 0 else "namespaces are not allowed here"


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


@dataclass
class LabHost:
    """One host; its files are below `home`, and nothing else of the test is visible there."""

    name: str
    address: str
    home: Path
    namespace: str
    veth: str
    key: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The host's first process, as this machine sees it."""
        assert self.process is not None
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return int(children.split()[0])

    def run(self, *command: str) -> str:
        """Run a program on the host, past its sshd."""
        inside = ("nsenter", "-t", str(self.pid), "--mount", "--pid", "--net", "--uts")
        return run(*inside, "env", f"HOME={self.home}", *command)

    def processes(self) -> list[tuple[int, str]]:
        """Return (pid on this machine, command line) of all that runs on the host."""
        found = []
        ours = Path(f"/proc/{self.pid}/ns/pid").readlink()
        for entry in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == ours:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if line:
                        found.append((int(entry.name), line))
        return found

    def of_jobs(self) -> list[tuple[int, str]]:
        """Return those that a job has started: agents and ranks, but not the warm zygote."""
        return [
            (pid, line)
            for pid, line in self.processes()
            if "nbaas.launchers.agent" in line or "nbaas.worker" in line or _tagged(pid)
        ]

    def cut(self) -> None:
        run("ip", "link", "set", self.veth, "down")

    def join(self) -> None:
        run("ip", "link", "set", self.veth, "up")


def _tagged(pid: int) -> bool:
    with contextlib.suppress(OSError):
        for item in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = item.partition(b"=")
            if name == b"NBAAS_JOB" and value.strip(b"-"):
                return True
    return False


@dataclass
class Lab:
    """Two hosts, `a` and `b`, and the ssh configuration that reaches them."""

    root: Path
    bridge: str
    address: str
    hosts: dict[str, LabHost] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        return self.root / "ssh" / "config"

    @property
    def known_hosts(self) -> Path:
        return self.root / "ssh" / "known_hosts"

    @property
    def here(self) -> Path:
        """The one folder that this machine has and no host sees."""
        return self.root / "here"

    @property
    def notebooks(self) -> Path:
        """Where the notebook lies, on this machine alone."""
        return self.here / "notebooks"

    def __getitem__(self, name: str) -> LabHost:
        return self.hosts[name]


@contextlib.contextmanager
def lab_of(root: Path, names: tuple[str, ...] = ("a", "b")) -> Iterator[Lab]:
    """Make the hosts, wait until each can be logged into, and take all away again."""
    tag = f"{os.getpid() % 100000}"
    network = next(n for n in range(10, 250) if f" 10.213.{n}." not in run("ip", "-4", "addr"))
    lab = Lab(root, f"nb{tag}", f"10.213.{network}.1")
    (root / "ssh").mkdir(parents=True)
    lab.notebooks.mkdir(parents=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    try:
        run("ip", "link", "add", lab.bridge, "type", "bridge")
        run("ip", "addr", "add", f"{lab.address}/24", "dev", lab.bridge)
        run("ip", "link", "set", lab.bridge, "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(root / "ssh" / "id"))
        for number, name in enumerate(names):
            _connect(lab, name, number, f"10.213.{network}.{11 + number}", tag)
        _write_client_files(lab)
        for host in lab.hosts.values():
            _boot(lab, host)
        yield lab
    finally:
        for host in lab.hosts.values():
            if host.process is not None:
                host.process.kill()
                host.process.wait()
            run("ip", "netns", "del", host.namespace, check=False)
        run("ip", "link", "del", lab.bridge, check=False)


def _connect(lab: Lab, name: str, number: int, address: str, tag: str) -> None:
    host = LabHost(
        name=name,
        address=address,
        home=lab.root / name,
        namespace=f"nb{tag}{name}",
        veth=f"nb{tag}v{number}",
        key=lab.root / "ssh" / f"{name}_key",
    )
    lab.hosts[name] = host
    (host.home / "run").mkdir(parents=True, mode=0o700)
    run("ip", "netns", "add", host.namespace)
    peer = f"nb{tag}p{number}"
    run("ip", "link", "add", host.veth, "type", "veth", "peer", "name", peer)
    run("ip", "link", "set", peer, "netns", host.namespace, "name", f"net{name}")
    run("ip", "link", "set", host.veth, "master", lab.bridge, "up")
    inside = ("ip", "-n", host.namespace)
    run(*inside, "addr", "add", f"{address}/24", "dev", f"net{name}")
    run(*inside, "link", "set", f"net{name}", "up")
    run(*inside, "link", "set", "lo", "up")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(host.key))


def _write_client_files(lab: Lab) -> None:
    ssh = lab.root / "ssh"
    (ssh / "authorized").write_text((ssh / "id.pub").read_text())
    lab.known_hosts.write_text("".join(known_line(host) for host in lab.hosts.values()))
    lab.config.write_text(
        "".join(f"Host {host.name}\n  HostName {host.address}\n" for host in lab.hosts.values())
        + f"Host *\n  User root\n  IdentityFile {ssh / 'id'}\n  IdentitiesOnly yes\n"
        f"  UserKnownHostsFile {lab.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
    )


def known_line(host: LabHost) -> str:
    kind, key = host.key.with_suffix(".pub").read_text().split()[:2]
    return f"{host.address} {kind} {key}\n"


def _boot(lab: Lab, host: LabHost) -> None:
    ssh = lab.root / "ssh"
    config = ssh / f"{host.name}_sshd"
    config.write_text(
        f"ListenAddress {host.address}\nHostKey {host.key}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {ssh / 'authorized'}\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nUseDNS no\n"
        f"SetEnv HOME={host.home} XDG_RUNTIME_DIR={host.home / 'run'} NBAAS_ZYGOTE_IDLE=60\n"
    )
    others = [lab.here, *(other.home for other in lab.hosts.values() if other is not host)]
    hidden = " && ".join(f"mount -t tmpfs none {folder}" for folder in others)
    # First its own address: Horovod makes its process sets where a host's own name stands for.
    names = ssh / f"{host.name}_hosts"
    names.write_text(f"127.0.0.1 localhost\n{host.address} {host.name}\n")
    named = f"hostname {host.name} && mount --bind {names} /etc/hosts"
    script = f"{named} && {hidden} && exec {SSHD} -D -e -f {config}"
    log = (ssh / f"{host.name}.log").open("wb")
    host.process = subprocess.Popen(
        ["ip", "netns", "exec", host.namespace, "unshare", "--mount", "--uts", "--pid", "--fork",
         "--kill-child", "--mount-proc", "sh", "-c", script],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    deadline = time.monotonic() + 20
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host.address, 22), 1):
            return
        assert time.monotonic() < deadline, (ssh / f"{host.name}.log").read_text()
        time.sleep(0.02)
