"""The agent of a host, started by the system's OpenSSH; what ssh says when it cannot, in one line.

Rules: an argument list, never a shell here; a host's name has been matched as a whole before; keys are
checked and never asked about; nothing secret is an argument.  The user's own ssh configuration holds.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from nbaas.errors import HostError
from nbaas.launchers.facts import bare_name, ssh_words
from nbaas.placement import HOST_NAME, PYTHON, USER_NAME
from nbaas.records import Host

AGENT = "nbaas.launchers.agent"
CONNECT_TIMEOUT = 10  # seconds
NOT_FOUND = (126, 127)  # exit codes of a shell that has no such program
PASSED = ("HOME", "PATH", "USER", "LOGNAME", "LANG", "SSH_AUTH_SOCK", "XDG_RUNTIME_DIR", "TMPDIR")
ADDRESS = re.compile(r"[0-9a-f:.]{2,45}", re.IGNORECASE | re.ASCII)


def agent_command(host: Host, *, config: str = "", timeout: float = 10.0) -> tuple[str, ...]:
    """Return the argument list that starts the agent of `host`; `timeout` in seconds of silence."""
    name = bare_name(host)
    if not (HOST_NAME.fullmatch(name) or ADDRESS.fullmatch(name)) or (
        host.user and not USER_NAME.fullmatch(host.user)
    ):
        raise HostError(f"{host.name!r} is no host")
    interval = max(1, int(timeout / 3))
    options = (
        *("-oBatchMode=yes", "-oStrictHostKeyChecking=yes", "-oForwardAgent=no"),
        *("-oForwardX11=no", "-oClearAllForwardings=yes", "-oPermitLocalCommand=no"),
        *(f"-oConnectTimeout={CONNECT_TIMEOUT}", f"-oServerAliveInterval={interval}"),
        *("-oServerAliveCountMax=3", "-oRequestTTY=no", "-T"),
    )
    place = (f"-p{host.port}",) if host.port else ()
    user = (f"-l{host.user}",) if host.user else ()
    file = ("-F", config) if config else ()
    return ("ssh", *file, *options, *place, *user, "--", name, remote_command(host.python))


def remote_command(python: str) -> str:
    """Return the line that the login shell there runs: it is the same for sh, csh and fish."""
    if python:
        return f"exec {_checked(python)} -I -m {AGENT}"
    here = sys.executable
    if not PYTHON.fullmatch(here):
        return f"exec python3 -I -m {AGENT}"
    # Homes and images are often the same on all hosts: then the interpreter is too.
    return f"exec sh -c 'test -x {here} && exec {here} -I -m {AGENT}; exec python3 -I -m {AGENT}'"


def _checked(python: str) -> str:
    if not PYTHON.fullmatch(python):
        raise HostError(f"{python!r} is no path of an interpreter")
    return python


def start_agent(
    command: tuple[str, ...], log: Path, environ: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Return the running ssh; its stderr goes to `log`.  Raises HostError where ssh is not installed."""
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with log.open("ab") as errors:
        try:
            return subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env={name: environ[name] for name in PASSED if name in environ},
                cwd="/",
                bufsize=0,
                # Ctrl-C in a kernel's terminal is not for a job that outlives it.
                start_new_session=True,
            )
        except FileNotFoundError as missing:
            raise HostError(
                "ssh is not installed here", hint="apt-get install openssh-client"
            ) from missing


# What ssh(1) writes, in its own words: pattern, what it means, the way out.
COMPLAINTS = (
    (r"REMOTE HOST IDENTIFICATION HAS CHANGED",
     "its host key has changed: it was installed anew, or something answers in its place",
     "compare the fingerprints; then ssh-keygen -R {name} and ssh {words}"),
    (r"[Nn]o .* host key is known|Host key verification failed",
     "its host key is not known here", "ssh {words} once, and compare the fingerprint"),
    (r"Permission denied|Too many authentication failures",
     "it does not let this user in without a password", "ssh-copy-id {words}; or ssh-add a key"),
    (r"Could not resolve hostname", "no host has this name", "is it right? ~/.ssh/config may name it"),
    (r"Connection refused", "nothing listens at its ssh port", "is sshd running there?"),
    (r"timed out|No route to host|Network is unreachable|Connection reset|closed by remote",
     "it cannot be reached", "ssh {words}"),
    (r"No module named '?nbaas", "its Python has no nbaas",
     "ssh {words} {python} -m pip install nbaas; or python = \"...\" for its cluster in config.toml"),
    (r"Bad configuration option|Bad owner or permissions|Can't open user config file",
     "ssh does not accept its configuration: {last}", "ssh {words}"),
)  # fmt: skip


def explained(host: Host, code: int | None, said: str) -> HostError:
    """Return one line for an agent that did not come: the host, what is wrong, the way out."""
    words, python = ssh_words(host), host.python or "python3"
    lines = [line for line in said.strip().splitlines() if line.strip()]
    last = lines[-1].strip() if lines else ""
    known = {"words": words, "python": python, "name": bare_name(host), "last": last}
    for pattern, meaning, hint in COMPLAINTS:
        if re.search(pattern, said):
            return HostError(f"{host.name}: {meaning.format(**known)}", hint=hint.format(**known))
    if code in NOT_FOUND:
        return HostError(
            f"{host.name}: there is no {python}",
            hint='python = "/path/to/python" for its cluster in config.toml',
        )
    return HostError(
        f"{host.name}: no agent came up" + (f": {last}" if last else f" (ssh ended with {code})"),
        hint=f"ssh {words} {python} -I -m {AGENT} < /dev/null",
    )
