"""The whole suite in one run, the quick to tell first: style, units, the book, the site."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dynbook.publish.book import build

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "book" / "_ext"))  # the Sphinx extensions are tested as modules

STAGES = {
    "style": "test_style.py",
    "the book": "test_book.py",
    "chapters": "test_chapters.py",
    "plain notebooks": "test_notebooks.py",
    "the course": "test_assignments.py",
    "the site in a browser": "site/",
}
ORDER = ["style", "units", *[name for name in STAGES if name != "style"]]


def stage(item: pytest.Item) -> str:
    """The stage that a test belongs to; what is in no other is a unit test."""
    path = item.path.relative_to(ROOT / "tests").as_posix()
    return next((name for name, start in STAGES.items() if path.startswith(start)), "units")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(stage(item)))  # stable: files keep their order


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """One visible line where a stage begins."""
    session = item.session
    if getattr(session, "dynbook_stage", None) != stage(item):
        session.dynbook_stage = stage(item)
        count = sum(stage(i) == stage(item) for i in session.items)
        reporter = session.config.pluginmanager.get_plugin("terminalreporter")
        reporter.write_sep("-", f"{stage(item)}: {count} tests")


@pytest.fixture(
    params=[
        "cpu",
        pytest.param(
            "cuda",
            marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
        ),
    ]
)
def device(request) -> str:
    """Every device that is here."""
    return request.param


@pytest.fixture(scope="session")
def building(pytestconfig) -> tuple[int, str]:
    """The build of this run, its progress shown: exit status, and all it said."""
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print()
        return build()


@pytest.fixture(scope="session")
def book(building) -> Path:
    """The built book, `_build`; tests of it are skipped when test_book.py has seen it fail."""
    if building[0]:
        pytest.skip("the book was not built (see test_book.py)")
    return ROOT / "_build"
