"""Make the book's own environment, .venv, from requirements.txt; with nothing to do, take no time.

Run as a script by any Python from 3.10 on (`python3 dynbook/publish/environment.py`): it needs only
the standard library. torch is the CPU build on Linux unless TORCH_BACKEND says otherwise (auto,
cu130, …).
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv"
BIN = VENV / ("Scripts" if os.name == "nt" else "bin")
STAMP = VENV / "made-from"
NO_VENV = (
    "this Python cannot make virtual environments (ensurepip is missing). "
    "On Debian or Ubuntu: apt install python3-venv. Elsewhere: install uv. Then run this again."
)


def pin(package: str) -> str:
    """The exact requirement `package==version` of requirements.txt."""
    lock = (ROOT / "requirements.txt").read_text()
    found = re.search(rf"^{re.escape(package)}==[^\s;]+", lock, re.MULTILINE)
    if not found:
        raise SystemExit(f"requirements.txt does not pin {package}; run `make lock`")
    return found.group()


def wanted() -> str:
    """A fingerprint of everything the environment is made from."""
    h = hashlib.sha256(repr((str(ROOT), os.environ.get("TORCH_BACKEND", ""))).encode())
    for name in ("requirements.txt", "pyproject.toml"):
        h.update((ROOT / name).read_bytes())
    return h.hexdigest()


def folder_with_torch(version: str) -> str | None:
    """A local find-links folder (uv's, or pip's by variable or configuration) with the wheel."""
    links = os.environ.get("UV_FIND_LINKS") or os.environ.get("PIP_FIND_LINKS")
    if not links:
        ask = [sys.executable, "-m", "pip", "config", "get", "global.find-links"]
        links = subprocess.run(ask, capture_output=True, text=True).stdout
    tag = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for folder in re.split(r"[\s,]+", links.strip()):
        for wheel in Path(folder).glob(f"torch-{version}*-{tag}-*.whl") if folder else ():
            if platform.machine().lower() in wheel.name.lower():
                return folder
    return None


def torch_options() -> list[str]:
    """How uv is told which build of torch to take."""
    backend = os.environ.get("TORCH_BACKEND")
    folder = None if backend else folder_with_torch(pin("torch").partition("==")[2])
    if folder:
        return ["--find-links", folder]
    if not backend and platform.system() != "Linux":
        return []  # the only build there is
    return ["--torch-backend", backend or "cpu"]


def make() -> None:
    """Create or update .venv so that it holds requirements.txt and this package, editable."""
    if sys.version_info < (3, 10):  # noqa: UP036  (this runs before anything is installed)
        raise SystemExit(
            f"the book needs Python 3.10 or newer; this is {platform.python_version()}"
        )
    if STAMP.exists() and STAMP.read_text() == wanted():
        return
    start = time.monotonic()
    print("environment: making .venv from requirements.txt", flush=True)
    clean = ("PYTHONPATH", "PYTHONHOME", "CONDA_PREFIX")
    env = {k: v for k, v in os.environ.items() if k not in clean} | {"VIRTUAL_ENV": str(VENV)}

    def run(*command: str | Path) -> None:
        if subprocess.run([str(c) for c in command], env=env, cwd=ROOT).returncode:
            raise SystemExit("environment: stopped at `" + " ".join(map(str, command)) + "`")

    uv = shutil.which("uv", path=str(BIN)) or shutil.which("uv")
    python = shutil.which("python", path=str(BIN))
    if not python or subprocess.run([python, "-c", ""]).returncode:  # none yet, or its base is gone
        shutil.rmtree(VENV, ignore_errors=True)
        if uv:
            run(uv, "venv", "-q", "--python", sys.executable, VENV)
        elif subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True).returncode:
            shutil.rmtree(VENV, ignore_errors=True)
            raise SystemExit(f"environment: {NO_VENV}")
    if not uv:
        run(BIN / "python", "-m", "pip", "install", "-q", pin("uv"))
        uv = BIN / "uv"
    run(uv, "pip", "install", "-q", *torch_options(), "-r", "requirements.txt")
    run(uv, "pip", "install", "-q", "--no-deps", "--no-build-isolation", "-e", ".")
    run(BIN / "python", "-c", "import matplotlib.font_manager")  # lists the fonts, once
    STAMP.write_text(wanted())
    print(f"environment: ready in {time.monotonic() - start:.0f} s", flush=True)


def make_extra(name: str, lock: Path) -> Path:
    """Create or update an environment beside .venv, as `name`, from a lock; returns its Python."""
    venv = ROOT / name
    python = venv / BIN.name / "python"
    stamp, wants = venv / "made-from", hashlib.sha256(f"{venv}".encode() + lock.read_bytes())
    if stamp.exists() and stamp.read_text() == wants.hexdigest():
        return python
    print(f"environment: making {name} from {lock.relative_to(ROOT)}", flush=True)
    uv = shutil.which("uv", path=str(BIN)) or "uv"
    for command in (
        [uv, "venv", "-q", "--clear", "--python", sys.executable, venv],
        [uv, "pip", "install", "-q", "--python", python, "-r", lock],
    ):
        if subprocess.run(list(map(str, command))).returncode:
            raise SystemExit("environment: stopped at `" + " ".join(map(str, command)) + "`")
    stamp.write_text(wants.hexdigest())
    return python


if __name__ == "__main__":
    make()
