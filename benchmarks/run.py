"""Run all benchmarks (`make bench`); write book/data/performance.json, which the book shows.

With a GPU that is book/data/performance-gpu.json; JAX and the growth curves stay on the CPU.

python benchmarks/run.py [ROUNDS]
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import eigenpairs
import ensemble
import field
import gram
import growth
import images
import mmnn
import qr
import rashomon
import spectrum
import tangent
import torch
import training
from ceiling import ceiling
from compare import Case, have_jax, one_thread

from dynbook.results import record


def cases(device: str) -> list[Callable[[], Case]]:
    """The kernels, in the order of the page; each is made when it is its turn."""
    small, tall = (2.5, 2.5), (1.2, 1.2)
    return [
        partial(spectrum.case, 4, batch=4096, targets=small, device=device),
        partial(spectrum.case, 8, batch=2048, length=500, targets=small, device=device),
        partial(spectrum.case, 16, device=device),
        partial(spectrum.case, 32, 8, length=500, targets=tall, device=device),
        partial(field.case, 320, 50, 10, device=device),
        partial(field.case, 320, 100, 20, device=device),
        partial(images.case, device=device),
        partial(gram.interval, device=device),
        partial(gram.disk, device=device),
        partial(eigenpairs.case, device=device),
        partial(ensemble.case, 64, device=device),
        partial(ensemble.case, 256, dtype=torch.float32, device=device),
        partial(tangent.case, device=device),
        partial(tangent.case, k=16, device=device),
        *(partial(rashomon.case, n, device=device) for n in (3, 10, 30)),
        partial(mmnn.case, (666, 36, 6), device=device),
        partial(mmnn.case, (400, 10, 8), batch=1024, steps=40, device=device),
        partial(mmnn.case, (100, 10, 5), members=16, device=device),
        partial(training.case, device=device),
        *(partial(qr.case, n, device=device) for n in (4, 16)),
    ]


def main(rounds: int = 7) -> None:
    one_thread()
    where = "cuda" if torch.cuda.is_available() else "cpu"
    jax = have_jax()
    if not jax:
        print("JAX is not here: its versions are left out (make bench installs it)")
    machine = ceiling(device=where)
    results = []
    for make in cases(where):
        case = make()
        rows = case.compare(rounds)
        results.append(
            {key: getattr(case, key) for key in ("name", "task", "measure", "limit")}
            | {"least": case.least(machine), "rows": rows}
        )
        print(f"\n{case.name}: {case.task}")
        for row in rows:
            goal = f" (wanted: {row['target']:.3g})" if row["target"] else ""
            print(f"  {row['version']:46} {row['ratio']:7.2f} × {row['error']:7.0e}{goal}")
    record(
        "performance" if where == "cpu" else "performance-gpu",
        on=where,
        threads=1,
        rounds=rounds,
        versions={name: found for name in ("torch", "jax", "numpy") if (found := installed(name))},
        ceiling=machine,
        cases=results,
        growth=growth.measure() if where == "cpu" else [],
    )


def installed(name: str) -> str:
    """The version of a package, nothing if it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
