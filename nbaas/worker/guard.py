"""What ends a process when the one that answers for it is gone; standard library, Linux and macOS.

Rule: called before anything that may take long.  Two layers live here: PR_SET_PDEATHSIG for a child
of the supervisor, and the lifeline, a pipe whose only write end the supervisor holds.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1
F_SETSIG = 10  # Linux: which signal a file descriptor sends; the fcntl module does not name it
EXIT_ORPHANED = 70


def die_with_parent(parent: int) -> None:
    """Have the kernel SIGKILL this process when `parent` dies; ends it where that has happened."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died before the call; then nobody is left to send the signal.
    if os.getppid() != parent:
        os._exit(EXIT_ORPHANED)


def hold_lifeline(fd: int) -> None:
    """End this process as soon as no one holds the write end of the pipe `fd` any more."""
    os.set_inheritable(fd, False)  # noqa: FBT003 - positional only
    if sys.platform == "linux":
        # The kernel itself sends SIGKILL at the hang-up: no thread, so code that keeps the GIL
        # in a C loop dies as well.
        fcntl.fcntl(fd, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(fd, F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_ASYNC)
    # Elsewhere, and for a hang-up that came before the lines above.
    threading.Thread(target=_wait_for_hangup, args=(fd,), name="lifeline", daemon=True).start()


def _wait_for_hangup(fd: int) -> None:
    while os.read(fd, 1):
        pass
    os._exit(EXIT_ORPHANED)
