"""The guide says what the chapters say: the map, the routes, the open problems."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from needs import everything_before, needs, taught
from open_problems import problems
from routes import steps_of
from sections import CELL, all_sections, links

from dynbook.publish.pages import soup
from dynbook.targets import ring

ROOT = Path(__file__).resolve().parents[1]
GUIDE = ROOT / "book" / "guide"
SECTIONS = all_sections()
CHAPTERS = sorted({s.number[0] for s in SECTIONS})
NEEDS = needs()


def routes() -> list[list[str]]:
    """The labels of each route of path.md, in order."""
    text = (GUIDE / "path.md").read_text(encoding="utf8")
    bodies = re.findall(r"```\{route\}\n(?::[^\n]*\n)*(.*?)```", text, re.DOTALL)
    return [[n for labels, _ in steps_of(b.splitlines()) for n in labels] for b in bodies]


def section_of(label: str):
    return next(s for s in SECTIONS if s.label == label)


def test_every_section_has_a_label_of_its_own():
    labels = [s.label for s in SECTIONS]
    assert None not in labels, [s.title for s in SECTIONS if s.label is None]
    assert len(set(labels)) == len(labels)


def test_the_map_has_every_section_and_no_other():
    assert set(NEEDS) == {s.label for s in taught(SECTIONS)}


def test_no_section_rests_on_itself_nor_on_a_later_one():
    order = [s.label for s in SECTIONS]
    for label in NEEDS:
        assert all(order.index(b) < order.index(label) for b in everything_before(label, NEEDS))


def test_a_circle_is_told_as_one():
    with pytest.raises(ValueError, match="a rests on itself: a → b → a"):
        everything_before("a", {"a": ["b"], "b": ["a"]})


COMPARED = {  # what a section compares itself with in passing, and can be read without
    "sec-layers": {"sec-step", "sec-double-well"},
    "sec-linear": {"sec-foresee"},
    "sec-ridges": {"sec-noise"},
    "sec-digits": {"sec-foresee", "fig-trust"},
    "sec-learning": {"sec-step", "sec-lazy", "chapter-descent"},
    "sec-sizes": {"sec-edge"},
    "sec-adjoint": {"sec-backward", "sec-leapfrog"},
    "sec-pendulum": {"sec-simulators"},
    "sec-echo": {"sec-noise"},
    "sec-statespace": {"sec-euler", "sec-condition"},
    "sec-filtering": {"sec-pendulum"},
}


@pytest.mark.parametrize("section", taught(SECTIONS), ids=lambda s: s.label)
def test_what_is_cited_from_earlier_pages_comes_before(section):
    """Whatever a section links to in an earlier one is a need, unless it is said not to be."""
    by_number = {s.number: s.label for s in SECTIONS}
    before = everything_before(section.label, NEEDS)
    compared = {
        label
        for number, labels in links(SECTIONS)[section.number].items()
        if number < section.number and by_number[number] not in before
        for label in labels
    }
    assert compared == COMPARED.get(section.label, set())
    assert not any(re.match(r"eq|thm-|def-", label) for label in compared)


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_map_crosses_to_the_chapters_that_one_is_said_to_need(chapter):
    opening = section_of_opening(chapter)
    said = re.search(r"^You need (.*)$", opening.text, re.MULTILINE)[1]
    named = {int(n) for n in re.findall(r"`chapter (\d) <", said)}
    own = {s.label for s in SECTIONS if s.number[0] == chapter}
    crossed = {b for label in own & set(NEEDS) for b in NEEDS[label]} - own
    assert {section_of(label).number[0] for label in crossed} == named
    before = set().union(*(everything_before(label, NEEDS) for label in own & set(NEEDS))) | own
    homes = {name: s for s in SECTIONS for name in s.labels if s.number[1]}
    asked = [homes[name] for name in opening.references if name in homes and name in said]
    assert all(s.label in before for s in asked), [s.label for s in asked]


def section_of_opening(chapter: int):
    return next(s for s in SECTIONS if s.number == (chapter, 0))


@pytest.mark.parametrize("route", routes(), ids=["two hours", "course", "exponents", "Gram"])
def test_a_route_has_what_each_of_its_sections_needs(route):
    assert len(set(route)) == len(route)
    for i, label in enumerate(route):
        missing = everything_before(label, NEEDS) - set(route[:i])
        assert not missing, f"{label} needs {missing}"


def test_the_course_has_all_sections_in_twelve_weeks(book):
    assert set(routes()[1]) == set(NEEDS)
    tables = soup(book / "html" / "book" / "guide" / "path.html").select("table")
    assert len(tables[2].select("tbody tr")) == 12


def test_the_short_route_takes_two_hours(book):
    lines = soup(book / "html" / "book" / "guide" / "path.html").select(".chapter-facts")
    minutes = [int(re.search(r"\d+", line.text)[0]) for line in lines]
    assert len(minutes) == 4 and 90 <= minutes[0] <= 120


def test_the_map_is_drawn_for_every_theme_and_told_in_words(book):
    picture = soup(book / "html" / "book" / "guide" / "path.html").select_one("figure svg")
    names = " ".join(t.get_text() for t in picture.select("text"))
    assert picture["fill"] == "currentColor" and "2.2 before 6.1" in picture["aria-label"]
    assert all(f"{s.number[0]}.{s.number[1]} " in names for s in taught(SECTIONS))
    assert len(picture.select("path")) == sum(map(len, NEEDS.values()))


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_question_at_a_chapters_end_is_a_labelled_open_problem(chapter):
    closing = [s for s in SECTIONS if s.number[0] == chapter][-1]
    asked = re.findall(r"^- (.+)$", CELL.sub("", closing.text), re.MULTILINE)
    assert asked and all(re.fullmatch(r"\(open-[\w-]+\)=", line) for line in asked), asked


def test_all_open_problems_are_on_their_page_in_full(book):
    page = soup(book / "html" / "book" / "guide" / "open-problems.html")
    found = problems(SECTIONS)
    text = "\n".join(s.text for s in SECTIONS)
    labels = re.findall(r"^.*\((open-[^)]+)\)=$", text, re.MULTILINE)
    assert [p.label for p in found] == labels and len(set(labels)) == len(labels)
    links = {a["href"].partition("#")[2] for a in page.select("article li a")}
    assert set(labels) <= links
    assert len(page.select("article section li")) == len(labels)
    assert not any("{glue:" in p.text for p in found)  # a number belongs to its page


SUMMARY = (GUIDE / "summary.md").read_text(encoding="utf8")
STATED = re.compile(r"\{prf:(?!proof)\w+\}[^\n]*\n:label: ([\w-]+)")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_summary_has_every_theorem_and_definition(chapter):
    text = "\n".join(s.text for s in SECTIONS if s.number[0] == chapter)
    stated = STATED.findall(text)
    assert stated and not [name for name in stated if f"{{prf:ref}}`{name}`" not in SUMMARY]


def test_the_summary_has_every_section_that_no_theorem_speaks_for():
    cited = set(re.findall(r"\{(?:ref|eq|prf:ref)\}`(?:[^`<]*<)?([\w-]+)", SUMMARY))
    silent = [s.label for s in taught(SECTIONS) if not cited & (s.labels | {s.label})]
    assert not silent


def test_the_summary_refers_to_what_there_is():
    cited = re.findall(r"\{(?:ref|eq|prf:ref)\}`(?:[^`<]*<)?([\w-]+)", SUMMARY)
    assert {name for s in SECTIONS for name in s.labels}.issuperset(cited)


def test_the_summary_types_no_measured_number():
    assert not re.findall(r"\d\.\d", SUMMARY)


MISPRINTS = (GUIDE / "misprints.md").read_text(encoding="utf8")


def test_every_misprint_has_a_source_and_a_place_in_the_chapters():
    rows = [line.split(" | ") for line in MISPRINTS.splitlines() if line.startswith("| ")]
    rows = [cells for cells in rows if not cells[0].endswith("Source")]
    assert len(rows) > 10 and all(len(cells) == 3 for cells in rows)
    home = {name for s in SECTIONS for name in s.labels}
    for source, _, correct in rows:
        assert "{cite:t}" in source or "lecture notes" in source or "The same notes" in source
        places = re.findall(r"\{(?:ref|eq|prf:ref)\}`([\w-]+)`", correct.partition(" → ")[2])
        assert places and home.issuperset(places)


def test_powers_of_relu_have_the_corrected_spectrum():
    """σ² on an interval: k^−6, where d + p + 2 would say k^−5."""
    x, w = np.polynomial.legendre.leggauss(400)
    layer = np.maximum(x[:, None] - x, 0) ** 2 * np.sqrt(w[:, None] * w)
    values = np.linalg.svd(layer, compute_uv=False)[:20] ** 2
    slope = np.log(values[19] / values[9]) / np.log(20 / 10)
    assert abs(slope + 6) < 0.4 < abs(slope + 5)


def test_a_kink_at_the_end_makes_the_gram_matrix_singular():
    n = 8
    for last, rank in ((1, n - 1), (1 - 2 / n, n)):
        x = np.linspace(-1, 1, 4001)
        neurons = np.maximum(x[:, None] - np.linspace(-1, last, n), 0)
        assert np.linalg.matrix_rank(neurons) == rank
    assert not neurons[0].any()  # no constant in their span


def test_the_printed_kappa_is_zero_where_g_is_negative():
    """f = g″ with g = −(1 − x²)³, and ⟨σ(x − b), f⟩ = g(b): the bound needs an absolute value."""
    x, w = np.polynomial.legendre.leggauss(200)
    f = 6 - 36 * x**2 + 30 * x**4
    b = np.linspace(-1, 1, 101)
    seen = (w * f) @ np.maximum(x[:, None] - b, 0)
    assert abs(seen + (1 - b**2) ** 3).max() < 1e-3
    assert seen.max() < 1e-3 and abs(seen).max() > 0.99


def test_kappa_falls_with_the_frequency_only_at_a_fixed_norm():
    x = np.linspace(-1, 1, 20_001)
    kappas, norms = [], []
    for nu in (20 * np.pi, 40 * np.pi):
        g = (1 - x**2) ** 3 * np.cos(nu * x)
        f = np.gradient(np.gradient(g, x), x)
        kappas.append(abs(g).max())
        norms.append(np.sqrt((f**2).mean() * 2))
    assert kappas[1] / kappas[0] == pytest.approx(1)
    assert norms[1] / norms[0] == pytest.approx(4, rel=0.02)
    # so n (1 − ε)² ‖f‖⁴ / 2A²κ² grows like ν⁴ at ‖f‖ = 1: sixteenfold, and does not fall
    assert (norms[1] / norms[0]) ** 2 == pytest.approx(16, rel=0.04)


def test_a_radial_wave_has_the_steeper_power_of_its_dimension():
    """κ of a radial g in the plane, over ‖Δg‖: ν^−5/2, not ν^−2."""
    kappas = []
    for nu in (40.0, 160.0):
        r = (np.arange(20_000) + 0.5) / 20_000
        f_norm = nu**2 * np.sqrt(2 * np.pi * (r * ((1 - r**2) ** 3 * np.cos(nu * r)) ** 2).mean())
        b = np.linspace(0, 1, 2001)[:, None]
        t, w = np.polynomial.legendre.leggauss(400)
        half = np.sqrt(1 - b**2)
        along = np.sqrt(b**2 + (half * t) ** 2)
        line = (w * half * (1 - along**2) ** 3 * np.cos(nu * along)).sum(1)
        kappas.append(abs(line).max() / f_norm)
    assert np.log(kappas[1] / kappas[0]) / np.log(4) == pytest.approx(-2.5, abs=0.1)


def test_the_ring_meets_its_bounds_with_slope_25():
    """At the printed bounds, ρ ± 0.02, where ρ = 0.1 + 0.02 cos πθ²; a slope of 5 would jump."""
    angle = torch.linspace(-3, 3, 13, dtype=torch.float64)
    rim = 0.1 + 0.02 * torch.cos(torch.pi * angle**2)
    for side, value in ((-0.02, 1.0), (0.02, 0.0)):
        r = rim + side
        at = ring(torch.stack([r * angle.cos(), r * angle.sin()], -1))[:, 0]
        assert torch.allclose(at, torch.full_like(at, value), atol=1e-12)
        assert not np.isclose(5 * -side + 0.5, value)


def test_the_exponent_of_a_wide_layer_has_the_half():
    """Gaussian matrices, φ = id, so G = 1: ½ ln(Nσ²), here away from its zero."""
    n, rng = 400, np.random.default_rng(0)
    sigma = 2 / np.sqrt(n)
    x, grown = np.ones(n) / np.sqrt(n), 0.0
    for _ in range(40):
        x = sigma * rng.normal(size=(n, n)) @ x
        grown, x = grown + np.log(np.linalg.norm(x)), x / np.linalg.norm(x)
    assert grown / 40 == pytest.approx(np.log(n * sigma**2) / 2, abs=0.03)


def test_the_first_cut_makes_the_second_part_steeper():
    """f = exp(−100x²); beyond ±0.1 the map from ±0.9 to ±1 has slope 9, within 1/9."""
    x = np.linspace(0, 1, 100_001)
    slope = 200 * x * np.exp(-100 * x**2)
    within, beyond = slope[x <= 0.1].max() / 9, slope[x >= 0.1].max() * 9
    assert max(within, beyond) > 7 * slope.max()


def test_the_polynomial_form_of_the_kernel_is_equal_and_cancels():
    def ours(b, c):
        m, t = np.maximum(b, c), abs(b - c)
        return (1 - m) ** 3 / 3 + t * (1 - m) ** 2 / 2

    def printed(b, c):  # in s = b + c and t = |b − c|, m = (s + t)/2, multiplied out
        s, t = b + c, abs(b - c)
        third = (8 - 12 * s + 6 * s**2 - s**3) / 24
        return third - t**2 * (2 - s) / 8 + t**3 / 12

    b, c = np.random.default_rng(1).uniform(-1, 1, (2, 100))
    assert np.allclose(ours(b, c), printed(b, c), atol=1e-12)
    near, far = np.float32(0.9999), np.float32(-1)
    exact = ours(np.float64(near), np.float64(far))
    assert abs(ours(near, far) / exact - 1) < 1e-3 < abs(printed(near, far) / exact - 1)
