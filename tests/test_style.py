"""The code reads as one hand wrote it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def test_ruff_has_nothing_to_say():
    ruff = Path(sys.executable).with_name("ruff")
    check = [ruff, "check", "-q", "--output-format=concise", ROOT]
    said = subprocess.run(check, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout + said.stderr
