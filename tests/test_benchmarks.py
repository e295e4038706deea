"""The versions that the benchmarks compare compute the same thing: here, at a tiny size."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import ceiling
import compare
import eigenpairs
import ensemble
import field
import gram
import growth
import images
import mmnn
import qr
import rashomon
import run
import spectrum
import tangent
import training

from dynbook import results

ROOT = Path(__file__).resolve().parents[1]

TINY = {
    "spectrum": lambda: spectrum.case(n=3, length=6, batch=4, few=2),
    "leading exponents": lambda: spectrum.case(n=4, k=2, length=6, batch=4, few=2),
    "field": lambda: field.case(n=6, width=5, depth=3, few=7, some=20),
    "images": lambda: images.case(inputs=9, width=5, depth=3, k=2, points=3),
    "interval": lambda: gram.interval(n=30),
    "disk": lambda: gram.disk(n=12, points=20_000),
    "eigenpairs": lambda: eigenpairs.case(n=60, k=4),
    "ensemble": lambda: ensemble.case(members=3, width=4, points=9, steps=5, whole=10),
    "training": lambda: training.case(members=3, length=10, few=2),
    "tangent": lambda: tangent.case(width=3, points=9),
    "leading tangents": lambda: tangent.case(width=5, points=9, k=2),
    "rashomon": lambda: rashomon.case(count=30, few=10),
    "mmnn": lambda: mmnn.case((9, 3, 2), batch=50, members=3, steps=8, few=2),
    "qr": lambda: qr.case(n=3, batch=5),
}
QUADRATURE = {"rashomon": 1e-3, "disk": 1e-3}  # of a kink
SINGLE = ("field", "images", "mmnn")


@pytest.fixture
def without_jax(monkeypatch):
    for module in (spectrum, field, images, gram, eigenpairs, ensemble, training, tangent, rashomon,
                   mmnn):  # fmt: skip
        monkeypatch.setattr(module, "have_jax", lambda: False)


@pytest.mark.parametrize("name", TINY)
def test_versions_agree(name, without_jax):
    case = TINY[name]()
    errors = case.errors()
    assert len(errors) >= 2 and not any("JAX" in version for version in errors)
    exact = 1e-5 if name in SINGLE else 1e-12
    assert max(errors.values()) < QUADRATURE.get(name, exact)
    assert next(iter(errors.values())) < exact
    here = [version for version in case.targets if "JAX" not in version]
    assert set(here) <= set(errors) and (case.limit or not case.targets)
    assert case.flops + case.traffic > 0


def test_times_are_extrapolated_and_ratios_taken_in_each_round(monkeypatch):
    """A clock that ticks once a look: every version takes one second, the second half the work."""
    ticks = iter(range(100))
    monkeypatch.setattr(compare, "clock", lambda: next(ticks))
    versions = {"ours": lambda: compare.np.ones(2), "half": lambda: compare.np.zeros(1)}
    case = compare.Case(
        "A", "work", versions, compare.np.ones(2), "x", {"half": 0.5}, {"half": 3}, "time", 6, 10
    )
    rows = case.compare(3)
    assert [row["ratio"] for row in rows] == [1, 2] and [row["error"] for row in rows] == [0, 1]
    assert [row["target"] for row in rows] == [None, 3]
    assert case.least({"float64": 3, "bandwidth": 4}) == 2.5
    assert case.least({"float64": 2, "bandwidth": 5}) == 3


def test_the_ceiling_is_two_size_cubed_over_the_least_time(monkeypatch):
    """Of ten products that take 1, 2, … seconds the first counts."""
    looks = iter([t for k in range(1, 80) for t in (100 * k, 100 * k + 1 + k % 10)])
    monkeypatch.setattr(ceiling, "clock", lambda: next(looks))
    found = ceiling.ceiling(size=4, megabytes=1)
    assert found == {"float32": 128.0, "float64": 128.0, "bandwidth": 2.0 * 2**20}


def test_powers_are_fitted():
    sizes = [2, 4, 8, 16]
    assert growth.power(sizes, [3 * size**1.5 for size in sizes]) == pytest.approx((1.5, 0))
    off = [size**1.5 * math.exp(e) for size, e in zip(sizes, (0.1, -0.1, -0.1, 0.1), strict=True)]
    slope, error = growth.power(sizes, off)
    assert slope == pytest.approx(1.5)
    assert error == pytest.approx(math.sqrt(0.04 / 2 / 5) / math.log(2))


def test_every_curve_can_be_measured():
    rows = growth.measure(scale=0.02, rounds=1)
    assert {row["grows"] for row in rows} == {"n", "N", "L", "batch", "members"}
    for row in rows:
        assert len({*row["sizes"]}) == len(row["seconds"]) == 4 and min(row["seconds"]) > 0


def test_what_is_recorded_is_what_the_page_reads(monkeypatch, tmp_path, without_jax):
    shipped = results.recorded("performance")
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    monkeypatch.setattr(run, "have_jax", lambda: False)
    monkeypatch.setattr(run, "one_thread", lambda: None)
    monkeypatch.setattr(run, "ceiling", lambda device: {"float64": 1e9, "bandwidth": 1e9})
    monkeypatch.setattr(run, "cases", lambda device: [TINY["qr"], TINY["spectrum"]])
    monkeypatch.setattr(growth, "measure", lambda: [])
    run.main(1)
    written = results.recorded("performance")
    assert set(written) == set(shipped)
    assert set(written["cases"][0]) == set(shipped["cases"][0])
    assert set(written["cases"][0]["rows"][0]) == set(shipped["cases"][0]["rows"][0])


def test_the_package_takes_little_longer_to_import_than_torch():
    """CPU time in fresh interpreters, the least of three: torch, then all modules that compute."""
    shown = {"figures", "explore", "sliders", "player", "svg", "check"}
    computing = [p.stem for p in (ROOT / "dynbook").glob("*.py") if p.stem not in shown]
    package = ", ".join(f"dynbook.{name}" for name in computing if name != "__init__")
    code = "import time, torch; a = time.process_time(); "
    code += f"import {package}; print(time.process_time() / a)"

    def ratio() -> float:
        command = [sys.executable, "-c", code]
        return float(subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout)

    assert min(ratio() for _ in range(3)) < 1.2
