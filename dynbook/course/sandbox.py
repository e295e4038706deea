"""A kernel that can do no harm: bubblewrap around it, limits on it, someone watching it.

Inside there is no network, nothing of the machine but the system's programs, the book's environment
and its package, all read-only, and a scratch folder in memory. Outside stays the client that sends
the cells, in another process: what runs inside can neither reach the marks nor another's work.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from ..publish.closure import ROOT

INSTALL = (
    "grading runs strangers' code and needs a sandbox, bubblewrap (Linux): {problem}.\n"
    "    Debian, Ubuntu: sudo apt install bubblewrap\n"
    "Elsewhere grade in a Linux machine or container, or say --no-sandbox: then each submission "
    "can do what you can."
)
SCRATCH = "/tmp/home"


@dataclass(frozen=True)
class Limits:
    """What one submission may take.

    Attributes
    ----------
    cell_seconds, seconds : float
        Wall time of one cell, and of all.
    memory : float
        GiB of all its processes together; files in the scratch folder may take a quarter more.
    processes : int
        Processes at one time.
    output : float
        MB of what all its cells show.
    """

    cell_seconds: float = 60.0
    seconds: float = 600.0
    memory: float = 4.0
    processes: int = 32
    output: float = 5.0


def command(kernel: list[str], sockets: Path, limits: Limits) -> list[str]:
    """The kernel's command, wrapped: `sockets` is the one folder it shares with the outside."""
    wrap = ["bwrap", "--unshare-all", "--die-with-parent", "--new-session", "--cap-drop", "ALL"]
    wrap += ["--clearenv", "--hostname", "sandbox"]
    for folder in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        if os.path.islink(folder):
            wrap += ["--symlink", os.readlink(folder), folder]
        else:
            wrap += ["--ro-bind-try", folder, folder]
    wrap += ["--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    wrap += ["--ro-bind-try", "/etc/alternatives", "/etc/alternatives"]
    wrap += ["--proc", "/proc", "--remount-ro", "/proc"]  # its /proc/sys is the machine's
    wrap += ["--dev", "/dev", "--size", str(int(limits.memory * 2**26)), "--tmpfs", "/dev/shm"]
    wrap += ["--remount-ro", "/dev"]
    wrap += ["--size", str(int(limits.memory * 2**28)), "--tmpfs", "/tmp", "--dir", SCRATCH]
    for path in dict.fromkeys([sys.base_prefix, sys.prefix, str(ROOT / "dynbook")]):
        if not path.startswith("/usr/"):
            wrap += ["--ro-bind", path, path]
    wrap += ["--bind", str(sockets), str(sockets), "--chdir", SCRATCH]
    wrap += ["--remount-ro", "/"]
    for name, value in environment().items():
        wrap += ["--setenv", name, value]
    return [*wrap, "--", *kernel]


def environment() -> dict[str, str]:
    """All that a kernel may know of its surroundings."""
    return {
        "HOME": SCRATCH,
        "IPYTHONDIR": f"{SCRATCH}/.ipython",
        "LANG": "C.UTF-8",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "MPLCONFIGDIR": f"{SCRATCH}/.matplotlib",
        "OMP_NUM_THREADS": "1",
        "PATH": "/usr/bin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONHASHSEED": "0",
        "PYTHONPATH": str(ROOT),
    }


def problem() -> str | None:
    """Why there can be no sandbox here, or None."""
    if not shutil.which("bwrap"):
        return "bwrap is not installed"
    with tempfile.TemporaryDirectory() as folder:
        trial = command(["true"], Path(folder), Limits())
        trial = subprocess.run(trial, capture_output=True, text=True)
    return f"bwrap fails here ({trial.stderr.strip()})" if trial.returncode else None


def set_limits(limits: Limits) -> None:
    """Limits that the system keeps, for this process and those it starts."""
    memory = int(limits.memory * 2**30) + 2**31  # addresses; what is used is watched
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, int(limits.seconds) + 1),
        (resource.RLIMIT_FSIZE, int(limits.memory * 2**28)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 1024),
    ):
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value))


def descendants(pid: int) -> dict[int, int]:
    """Resident bytes of a process and of all below it, by pid."""
    children: dict[int, list[int]] = {}
    size: dict[int, int] = {}
    page = os.sysconf("SC_PAGE_SIZE")
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            except OSError:  # gone meanwhile
                continue
            children.setdefault(int(fields[1]), []).append(int(entry.name))
            size[int(entry.name)] = int(fields[21]) * page
    found, todo = {}, [pid]
    while todo:
        one = todo.pop()
        if one in size and one not in found:
            found[one] = size[one]
            todo += children.get(one, [])
    return found


def kill(pid: int) -> None:
    """End a sandbox: with its first process all others inside end; without one, each."""
    for one in [pid, *descendants(pid)]:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue


def strange(sockets: Path) -> bool:
    """Whether the folder holds anything but a kernel's sockets and its small description."""
    entries = [(entry.name, entry.stat(follow_symlinks=False)) for entry in os.scandir(sockets)]
    return len(entries) > 10 or not all(
        stat.S_ISSOCK(found.st_mode)
        or (name == "kernel.json" and stat.S_ISREG(found.st_mode) and found.st_size < 2**16)
        for name, found in entries
    )


class Watch:
    """Looks at a running sandbox every twentieth second and ends it when it takes too much.

    `reason` says why it did, in words for the report.
    """

    def __init__(self, pid: int, sockets: Path, limits: Limits):
        self.pid, self.sockets, self.limits = pid, sockets, limits
        self.reason: str | None = None
        self.start = time.monotonic()
        self.parent = os.getppid()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def stop(self, reason: str) -> None:
        self.reason = self.reason or reason
        kill(self.pid)

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self.reason and not self._over.wait(0.05):
            try:
                reason = self._too_much()
            except Exception as error:  # what cannot be watched must not run
                reason = f"it could not be watched any more ({error})"
            if reason:
                self.stop(reason)

    def _too_much(self) -> str | None:
        limits, family = self.limits, descendants(self.pid)
        if os.getppid() != self.parent:
            return "who had started it was killed"
        if len(family) > limits.processes:
            return f"it started more than {limits.processes} processes"
        if sum(family.values()) > limits.memory * 2**30:
            return f"it took more than {limits.memory:g} GiB of memory"
        if time.monotonic() - self.start > limits.seconds:
            return f"it ran for more than {limits.seconds:g} s"
        return "it wrote into the folder of its sockets" if strange(self.sockets) else None
