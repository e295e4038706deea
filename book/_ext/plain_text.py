"""A resolved tree as words alone, for search results and descriptions: no TeX, no code."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx import addnodes

UNSAID = "…"  # in place of a formula that has no short form in plain characters
SILENT = (
    nodes.raw,
    nodes.math_block,
    nodes.literal_block,
    nodes.doctest_block,
    nodes.image,
    nodes.comment,
    nodes.target,
    nodes.Invisible,
    nodes.footnote_reference,
    nodes.docinfo,
    addnodes.index,
    addnodes.toctree,
    addnodes.desc_signature,
)
LETTERS = (
    "alpha α beta β gamma γ delta δ epsilon ε varepsilon ε zeta ζ eta η theta θ kappa κ lambda λ "
    "mu μ nu ν xi ξ pi π rho ρ sigma σ tau τ phi φ varphi φ chi χ psi ψ omega ω Gamma Γ Delta Δ "
    "Theta Θ Lambda Λ Xi Ξ Pi Π Sigma Σ Phi Φ Psi Ψ Omega Ω ell ℓ infty ∞ to → le ≤ ge ≥ ne ≠ "
    "approx ≈ sim ∼ times × cdot · pm ± in ∈ subset ⊂ dots … ldots … cdots … sin sin cos cos "
    "tanh tanh ln ln log log exp exp max max min min det det nabla ∇ partial ∂ top ⊤ ll ≪ gg ≫"
).split()
SYMBOLS = dict(zip(LETTERS[::2], LETTERS[1::2], strict=True))
LOWER = dict(zip("0123456789+-n", "₀₁₂₃₄₅₆₇₈₉₊₋ₙ", strict=True))
UPPER = dict(zip("0123456789+-nT", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿᵀ", strict=True))


def plain_formula(tex: str) -> str:
    """A short formula in plain characters, `\\lambda_1` as λ₁; else `UNSAID`."""
    tex = re.sub(r"\\(mathrm|mathbf|mathcal|text|operatorname)\{(\w+)\}", r"\2", tex)
    tex = re.sub(r"\\(?:[,;! ]|quad|displaystyle|bigl|bigr|left|right)(?![a-zA-Z])", " ", tex)
    tex = re.sub(r"\\([A-Za-z]+) ?", lambda m: SYMBOLS.get(m[1], m[0]), tex)
    for mark, table in (("_", LOWER), ("^", UPPER)):

        def shifted(m: re.Match, table=table) -> str:
            word = (m[1] or m[2]).replace("−", "-")
            return "".join(table[c] for c in word) if set(word) <= set(table) else m[0]

        tex = re.sub(re.escape(mark) + r"(?:\{([^{}]+)\}|(\w))", shifted, tex)
    tex = " ".join(tex.split())
    return UNSAID if re.search(r"[\\{}_^&]", tex) or len(tex) > 30 else tex


def plain_text(node: nodes.Node, without: tuple[type, ...] = ()) -> str:
    """All that a tree says in words; what is of a class in `without` is passed over."""

    def said(node: nodes.Node) -> str:
        if isinstance(node, nodes.Text):
            return node.astext()
        if isinstance(node, nodes.math):
            return plain_formula(node.astext())
        if isinstance(node, SILENT + without) or "chapter-facts" in node.get("classes", ()):
            return ""
        text = "".join(said(child) for child in node.children)
        return text if isinstance(node, nodes.Inline) else f"{text} "

    return " ".join(said(node).split())
