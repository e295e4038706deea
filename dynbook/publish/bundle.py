"""`make bundle`: the site, the plain notebooks, the small data and the package's wheel in one zip.

The site opens from a file:// address, with no server and no network. The same commit and the same
site give the same bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

from .closure import ROOT

LEFT_OUT = re.compile(r"_static/(locales|scripts/.*\.map|styles/.*\.map)|\.buildinfo|objects\.inv")
READ_ME = """\
Neural networks as dynamical systems, to take away. Version {version}, commit {commit}.

site/index.html    the book: open it in a browser; formulas, sliders and search need no network
notebooks/         the chapters as plain Jupyter notebooks
data/              results of the long experiments, as JSON
{wheel}
                   the package. In an environment with PyTorch and Jupyter:
                     pip install "{wheel}[notebooks]"
                   and then open a notebook. torch 2.4 or newer, Python 3.10 or newer.
LICENSE            text and figures CC BY 4.0, code MIT
"""


def git(*words: str, root: Path = ROOT) -> str:
    """What git says of the clone, "" where there is none."""
    try:
        ask = ["git", "-c", f"safe.directory={root}", "-C", str(root), *words]
        return subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""


def commit_time(root: Path = ROOT) -> int:
    """Seconds since 1970 of the commit, or of the start of 1980 (a zip's first day) without one."""
    return int(git("log", "-1", "--format=%ct", root=root) or 315_532_800)


def wheel(folder: Path, root: Path = ROOT) -> Path:
    """Build the package's wheel with what is installed here; nothing is fetched."""
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or "uv"
    source = folder / "source"  # a build leaves its own folder behind
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(root / name, source / name)
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(root / "dynbook", source / "dynbook", ignore=ignored)
    command = [uv, "build", "-q", "--wheel", "--offline", "--no-build-isolation"]
    command += ["--python", sys.executable, "-o", str(folder), str(source)]
    epoch = {"SOURCE_DATE_EPOCH": str(commit_time(root))}
    if subprocess.run(command, env=os.environ | epoch).returncode:
        raise SystemExit("bundle: the wheel could not be built")
    return next(folder.glob("*.whl"))


def contents(root: Path, built: Path) -> Iterator[tuple[str, bytes]]:
    """Names in the bundle and what is in them."""
    site = root / "_build" / "html"
    for folder, name in (
        (site, "site"),
        (root / "book" / "notebooks", "notebooks"),
        (root / "book" / "data", "data"),
    ):
        for file in sorted(folder.rglob("*")):
            path = file.relative_to(folder).as_posix()
            if file.is_file() and not LEFT_OUT.match(path):
                yield f"{name}/{path}", file.read_bytes()
    yield built.name, built.read_bytes()
    yield "LICENSE", (root / "LICENSE").read_bytes()
    commit = git("rev-parse", "--short", "HEAD", root=root) or "unknown"
    words = {"version": built.name.split("-")[1], "commit": commit, "wheel": built.name}
    yield "README.txt", READ_ME.format(**words).encode()


def bundle(root: Path = ROOT) -> Path:
    """Write `_build/dynbook.zip`; returns it.

    Raises
    ------
    FileNotFoundError
        If the book was not built.
    """
    if not (root / "_build" / "html" / "index.html").exists():
        raise FileNotFoundError(f"no site in {root / '_build' / 'html'}: `make book` comes first")
    target = root / "_build" / "dynbook.zip"
    when = time.gmtime(commit_time(root))[:6]
    with tempfile.TemporaryDirectory() as folder:
        built = wheel(Path(folder), root)
        half = target.with_suffix(".part")
        with zipfile.ZipFile(half, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, content in contents(root, built):
                about = zipfile.ZipInfo(f"dynbook/{name}", when)
                about.compress_type, about.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
                archive.writestr(about, content)
        half.replace(target)
    return target


def main() -> int:
    try:
        made = bundle()
    except FileNotFoundError as problem:
        print(f"bundle: {problem}", file=sys.stderr)
        return 1
    size = made.stat().st_size / 1e6
    print(f"The bundle: {made}, {size:.1f} MB. Unpack it and open site/index.html.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
