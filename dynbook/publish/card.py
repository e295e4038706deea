"""The picture that a link to the book shows elsewhere: an orbit diagram, 1200 × 630."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WIDTH, HEIGHT = 1200, 630
PAPER, INK, POINT = (12, 20, 36), (240, 244, 250), (240, 140, 60)


def orbits(columns: int, rows: int) -> np.ndarray:
    """How often x′ = x + ηx(1 − x²) visits each cell; η grows with the columns, x with the rows.

    Gradient descent on the double well of chapter 1: two fixed points, cycles, chaos, one band.
    """
    rates = np.linspace(0.85, 2.0, columns)
    x = np.stack([np.full(columns, start) for start in (-0.6, -0.59, 0.59, 0.6)])
    counts, column = np.zeros((rows, columns)), np.broadcast_to(np.arange(columns), x.shape)
    for step in range(1100):
        x = x + rates * x * (1 - x**2)
        if step >= 400:
            row = np.clip((1.5 - x) / 3 * rows, 0, rows - 1).astype(int)
            np.add.at(counts, (row, column), 1)
    return counts


def draw_card(path: Path, title: str) -> None:
    """Write the picture as PNG, with the title of the book over it."""
    from matplotlib import font_manager
    from PIL import Image, ImageDraw, ImageFont

    share = np.minimum(1, orbits(WIDTH, HEIGHT - 150) / 60) ** 0.5
    ground = np.tile(np.array(PAPER, dtype=float), (HEIGHT, WIDTH, 1))
    ground[150:] += share[..., None] * (np.array(POINT) - PAPER)
    image = Image.fromarray(ground.round().astype(np.uint8))
    font = font_manager.findfont("DejaVu Sans")
    size = 56
    while size > 20 and ImageFont.truetype(font, size).getlength(title) > WIDTH - 120:
        size -= 2
    ink = ImageDraw.Draw(image)
    ink.text((60, 44), title, font=ImageFont.truetype(font, size), fill=INK)
    words = "Lecture notes that run: every figure drawn, every number computed"
    ink.text((60, 112), words, font=ImageFont.truetype(font, 26), fill=(170, 184, 204))
    path.parent.mkdir(parents=True, exist_ok=True)
    image.quantize(32).save(path, optimize=True)
