"""The guide says what the chapters say: the map, the routes, the open problems."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from needs import everything_before, needs, taught
from open_problems import problems
from routes import steps_of
from sections import CELL, all_sections, links

from dynbook.publish.pages import soup

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


@pytest.mark.parametrize("section", taught(SECTIONS), ids=lambda s: s.label)
def test_what_is_cited_from_earlier_pages_comes_before(section):
    """An equation, a theorem or a definition of an earlier section is a need."""
    by_number = {s.number: s.label for s in SECTIONS}
    before = everything_before(section.label, NEEDS)
    for number, labels in links(SECTIONS)[section.number].items():
        hard = {name for name in labels if re.match(r"eq|thm-|def-", name)}
        if hard and number < section.number:
            assert by_number[number] in before, f"{section.label} cites {hard} of {number}"


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_map_crosses_to_the_chapters_that_one_is_said_to_need(chapter):
    opening = section_of_opening(chapter)
    said = re.search(r"^You need (.*)$", opening.text, re.MULTILINE)[1]
    named = {int(n) for n in re.findall(r"`chapter (\d) <", said)}
    own = {s.label for s in SECTIONS if s.number[0] == chapter}
    crossed = {b for label in own & set(NEEDS) for b in NEEDS[label]} - own
    assert {section_of(label).number[0] for label in crossed} == named


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
    assert picture["fill"] == "currentColor" and "2.1 before 6.1" in picture["aria-label"]
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
