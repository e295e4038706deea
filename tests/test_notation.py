"""Every symbol that a chapter uses in more than one of its sections is in the table of notation.

A symbol is a letter with its font and without indices, powers, accents and primes: the λ of
`\\hat\\lambda_i`, the L of `\\mathcal L`. What occurs in one section alone is explained there, and
may be anything; so may summation indices, and letters that all of mathematics shares (e, π, O).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "book").glob("[1-9]-*.md"))
TABLES = {  # the tables of notation.md that are a chapter's, besides the one for all
    "1": ["Training as a map"],
    "2": ["Maps, tangents and depth"],
    "3": ["Two-layer networks and their Gram matrices"],
    "4": ["Two-layer networks and their Gram matrices", "Random networks and Rashomon sets"],
    "5": ["Two-layer networks and their Gram matrices", "Composed layers"],
    "6": ["Layers as steps, and energy"],
    "7": ["Driven networks and filters"],
}
SHARED = {"e", "i", "j", "k", "m", "O", "\\pi", "\\mathbb{R}", "\\mathbb{P}", "\\mathbb{N}"}
GREEK = (
    "alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa lambda mu nu xi "
    "pi rho varrho sigma tau phi varphi chi psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi "
    "Omega ell"
).split()
FONTS = "mathcal|mathbb|mathbf|mathscr|mathfrak"
SYMBOL = re.compile(rf"\\({FONTS})\s*\{{?(\w)\}}?|\\({'|'.join(GREEK)})(?![a-zA-Z])|([A-Za-z])")


def formulas(text: str) -> list[str]:
    """What stands between dollars, without code, comments and the page's head."""
    text = re.sub(r"\A---.*?^---$", "", text, flags=re.S | re.M)
    text = re.sub(r"^(```+|:::+)\{code-cell\}.*?^\1\s*$", "", text, flags=re.S | re.M)
    text = re.sub(r"(?<!`)(`+)[^`].*?\1", " ", text, flags=re.S)
    displayed = re.findall(r"\$\$(.+?)\$\$", text, flags=re.S)
    return displayed + re.findall(
        r"(?<!\\)\$([^$]+?)\$", re.sub(r"\$\$.+?\$\$", " ", text, flags=re.S)
    )


def symbols(tex: str) -> set[str]:
    """Symbols of a formula."""
    tex = re.sub(
        r"\\(text|mathrm|operatorname|tag|label|mbox|textrm)\*?\s*(\{[^{}]*\}|\s\w)", " ", tex
    )
    tex = re.sub(r"\\(begin|end)\{[^}]*\}(\{[^}]*\})?", " ", tex)
    group = r"\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\}"
    tex = re.sub(rf"[_^]\s*({group}|\\[A-Za-z]+(?:\s*{group})?|.)", " ", tex)
    found = set()
    for font, letter, greek, plain in SYMBOL.findall(
        re.sub(rf"\\(?!(?:{FONTS}|{'|'.join(GREEK)})(?![a-zA-Z]))[A-Za-z]+", " ", tex)
    ):
        found.add(f"\\{font}{{{letter}}}" if font else f"\\{greek}" if greek else plain)
    return found - SHARED


def sections(text: str) -> list[str]:
    """A chapter's text, cut at its headings of the second level."""
    text = re.sub(r"^(```+)\{code-cell\}.*?^\1\s*$", "", text, flags=re.S | re.M)
    return re.split(r"^## ", text, flags=re.M)


def tables() -> dict[str, set[str]]:
    """The symbols of each table of notation.md, by its heading."""
    text = (ROOT / "book" / "reference" / "notation.md").read_text(encoding="utf8")
    parts = re.split(r"^## (.*)$", text, flags=re.M)[1:]
    known = {}
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        rows = [row for row in body.splitlines() if row.startswith("| ") and "|---" not in row]
        known[heading] = {s for row in rows for tex in formulas(row) for s in symbols(tex)}
    return known


def unlisted(text: str, known: set[str]) -> dict[str, int]:
    """Symbols used in more than one section and in none of the tables: in how many sections."""
    counts: dict[str, int] = {}
    for section in sections(text):
        for symbol in {s for tex in formulas(section) for s in symbols(tex)}:
            counts[symbol] = counts.get(symbol, 0) + 1
    return {s: n for s, n in sorted(counts.items()) if n > 1 and s not in known}


@pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda path: path.stem)
def test_every_symbol_that_returns_is_in_the_table(chapter):
    known = tables()
    listed = known["Everywhere"].union(*(known[name] for name in TABLES[chapter.stem[0]]))
    assert unlisted(chapter.read_text(encoding="utf8"), listed) == {}


def test_every_symbol_of_the_summary_is_in_the_table():
    """There nothing is explained on the spot."""
    known = tables()
    text = (ROOT / "book" / "guide" / "summary.md").read_text(encoding="utf8")
    for chapter, part in enumerate(sections(text)[1:], 1):
        listed = known["Everywhere"].union(*(known[name] for name in TABLES[str(chapter)]))
        used = {s for tex in formulas(part) for s in symbols(tex)}
        assert used and not used - listed, (chapter, used - listed)


@pytest.mark.parametrize(
    "tex, found",
    [
        (r"\hat\lambda_i^{(L)} = \tfrac1L\sum_\ell\ln(R_\ell)_{ii}", {"\\lambda", "L", "R"}),
        (
            r"\mathcal L(\theta) + \mathbb{E}\,x^\top y",
            {"\\mathcal{L}", "\\theta", "\\mathbb{E}", "x", "y"},
        ),
        (r"\int_D u\,\mathrm{d}x, \quad u'\ne\operatorname{diag}v", {"u", "x", "v"}),
        (r"x^{a^{b_c}} + 2^{-52} \text{ for } n", {"x", "n"}),
    ],
)
def test_symbols_are_letters_with_their_fonts(tex, found):
    assert symbols(tex) == found


def test_a_symbol_that_returns_unlisted_is_named_with_its_sections():
    text = (
        "# T\n\n## One\n$\\zeta x$ $w$\n\n## Two\n\n$$ \\zeta^2 $$\n\n```{code-cell}\n# $w$\n```\n"
    )
    assert unlisted(text, {"x"}) == {"\\zeta": 2}
