"""The summary is one sheet of paper."""

from __future__ import annotations

import io

from pypdf import PdfReader


def test_the_summary_prints_on_two_pages_of_a4(viewer):
    tab = viewer.open("book/guide/summary")
    pdf = PdfReader(io.BytesIO(tab.pdf(format="A4", prefer_css_page_size=True)))
    text = "\n".join(page.extract_text() for page in pdf.pages)
    assert len(pdf.pages) <= 2
    assert "Theorem 1.1" in text and "Theorem 7.2" in text
    width, height = (float(x) / 72 * 25.4 for x in pdf.pages[0].mediabox[2:])
    assert abs(width - 210) < 1 and abs(height - 297) < 1
