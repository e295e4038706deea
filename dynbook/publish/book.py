"""`make book`: build the site strictly, show what matters, say where it is."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from .closure import ROOT

STRICT = ("-W", "--keep-going", "-n", "-q")
ANSI = re.compile(r"\x1b\[[0-9;]*m")
NOISE = ("Running Jupyter-Book", "Source Folder:", "Config Path:", "Output Path:")
END = (
    "Finished generating HTML",
    "The above exception was the direct cause",
    "Building your book, returns",
)


def build(root: Path = ROOT) -> tuple[int, str]:
    """Run `jupyter-book build` as its user would; returns its status and all it said.

    Warnings and progress are shown as they come; jupyter-book's own banners and the traceback of
    its command line are not. After a failure Sphinx reads every page anew, or else the next build
    would pass over the warnings of this one.
    """
    command = [Path(sys.executable).with_name("jupyter-book"), "build", root, *STRICT]
    process = subprocess.Popen(
        list(map(str, command)),
        cwd=root,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    said, show, before = [], True, ""
    try:
        for line in process.stdout:
            said.append(line)
            text = ANSI.sub("", line).strip(" =\n")
            show = show and not text.startswith(END)
            if show and (text or before) and not line.startswith(NOISE):
                print(line if text else "", end="" if text else "\n", flush=True)
                before = text
    finally:
        status = process.wait()
    if status:
        shutil.rmtree(root / "_build" / ".doctrees", ignore_errors=True)
    return status, "".join(said)


def main() -> int:
    try:
        status, _ = build()
    except KeyboardInterrupt:  # the build has it too, and stops its kernels
        print("\nInterrupted. Notebooks that had finished are kept.")
        return 130
    if status:
        print("\nThe book was not built: see above.")
    else:
        print(f"The site: {ROOT / '_build' / 'html' / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
