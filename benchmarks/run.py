"""Run all benchmarks (`make bench`); write results.json, and the table of README.md.

python benchmarks/run.py [ROUNDS]
"""

from __future__ import annotations

import json
import re
import sys
from datetime import date
from functools import partial
from pathlib import Path

import field
import mmnn
import qr
import rashomon
import spectrum
import torch
import training
from compare import have_jax, one_thread

from dynbook.results import commit, device

HERE = Path(__file__).resolve().parent


def main(rounds: int = 7) -> None:
    one_thread()
    where = "cuda" if torch.cuda.is_available() else "cpu"
    if not have_jax():
        print("JAX is not here: its versions are left out (make bench installs it)")
    cases = [
        partial(spectrum.case, device=where),
        field.case,
        partial(training.case, device=where),
        partial(rashomon.case, device=where),
        partial(mmnn.case, device=where),
        partial(mmnn.case, (100, 5, 10), 1024, steps=100, device=where),
        partial(mmnn.case, (100, 10, 5), members=16, device=where),
        *(partial(qr.case, n, device=where) for n in (4, 8, 16)),
    ]
    results = {
        "device": device(),
        "threads": 1,
        "date": date.today().isoformat(),
        "commit": commit(),
        "rounds": rounds,
        "cases": {},
    }
    for make in cases:
        case = make()
        rows = case.compare(rounds)
        results["cases"][case.name] = {"task": case.task, "measure": case.measure, "rows": rows}
        print(f"\n{case.name}: {case.task}")
        for row in rows:
            print(f"  {row['version']:38} {row['ratio']:7.2f} ×   error {row['error']:.0e}")
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    readme = HERE / "README.md"
    text = re.sub(r"(?s)(<!-- results -->\n).*", r"\1" + table(results), readme.read_text())
    readme.write_text(text)


def table(results: dict) -> str:
    """The results in Markdown."""
    lines = [
        f"\n{results['device']}, one thread, {results['date']}, commit {results['commit']}; "
        f"medians of {results['rounds']} rounds, with the least and the largest ratio."
    ]
    for name, case in results["cases"].items():
        lines += [
            f"\n**{name}**: {case['task']}.\n",
            f"| version | time, s | time / dynbook's | error of {case['measure']} |",
            "|---|---|---|---|",
        ]
        for row in case["rows"]:
            scaled = "" if row["share"] == 1 else f" (from {row['share']:.2g} of the work)"
            lines.append(
                f"| {row['version']}{scaled} | {row['seconds']:.3g} | {row['ratio']:.2f} "
                f"({row['low']:.2f} to {row['high']:.2f}) | {row['error']:.0e} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
