"""The versions that the benchmarks compare compute the same thing: here, at a tiny size."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "benchmarks"))

import compare
import field
import mmnn
import qr
import rashomon
import run
import spectrum
import training

TINY = {
    "spectrum": lambda: spectrum.case(n=3, length=6, batch=4, few=2),
    "field": lambda: field.case(n=6, width=5, depth=3, few=7, some=20),
    "training": lambda: training.case(members=3, length=10, few=2),
    "rashomon": lambda: rashomon.case(count=30, few=10),
    "mmnn": lambda: mmnn.case((9, 3, 2), batch=50, members=3, steps=8, few=2),
    "qr": lambda: qr.case(n=3, batch=5),
}


@pytest.mark.parametrize("name", TINY)
def test_versions_agree(name, monkeypatch):
    for module in (spectrum, field, mmnn, rashomon, training):
        monkeypatch.setattr(module, "have_jax", lambda: False)
    case = TINY[name]()
    errors = case.errors()
    assert len(errors) >= 3 and not any("JAX" in version for version in errors)
    plain = 1e-3 if name == "rashomon" else 1e-13  # quadrature of a kink
    single = name in ("field", "mmnn")
    assert max(errors.values()) < (1e-5 if single else plain)
    assert errors["dynbook"] < (1e-5 if single else 1e-12)


def test_times_are_extrapolated_and_put_in_a_table(monkeypatch):
    """A clock that ticks once a look: every version takes one second, the second half the work."""
    ticks = iter(range(100))
    monkeypatch.setattr(compare, "clock", lambda: next(ticks))
    versions = {"ours": lambda: compare.np.ones(2), "half": lambda: compare.np.zeros(1)}
    case = compare.Case("A", "work", versions, compare.np.ones(2), "x", {"half": 0.5})
    rows = case.compare(3)
    assert [row["ratio"] for row in rows] == [1, 2] and [row["error"] for row in rows] == [0, 1]
    table = run.table(
        {"device": "D", "date": "today", "commit": "c", "rounds": 3}
        | {"cases": {"A": {"task": "work", "measure": "x", "rows": rows}}}
    )
    assert "| half (from 0.5 of the work) | 2 | 2.00 (2.00 to 2.00) | 1e+00 |" in table
