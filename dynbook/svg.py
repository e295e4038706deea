"""From the SVG that matplotlib writes to the SVG that a page wants."""

from __future__ import annotations

import base64
import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from functools import cache

from PIL import Image

#: The colour of text and axes: drawn as this, shown in the text colour of the page.
INK = "#010203"

_SVG, _XLINK = "http://www.w3.org/2000/svg", "{http://www.w3.org/1999/xlink}href"
_GEOMETRY = ("d", "x", "y", "width", "height", "points", "cx", "cy", "r")


def themed(drawn: bytes, alt: str, prefix: str) -> str:
    """The SVG that matplotlib wrote, for a page: one element a line, its ink `currentColor`.

    Ids start with `prefix` and those that nothing refers to are gone, so are metadata and style
    sheet; the picture fills its column and is named `alt`; embedded pixels are WebP.
    """
    ET.register_namespace("", _SVG)
    root = ET.fromstring(drawn)
    _, _, width, height = root.attrib["viewBox"].split()
    root.attrib = {
        "viewBox": f"0 0 {_short(width)} {_short(height)}",
        "role": "img",
        "aria-label": alt,
        "style": "display:block;width:100%;height:auto",
        "stroke-linejoin": "round",
        "stroke-linecap": "butt",
    }
    names = _names(re.findall(r"[\"(]#([^\")]+)", drawn.decode()), prefix)
    _prune(root)
    _style_once(root)
    for node in root.iter():
        if node is not root:
            node.attrib = dict(_attributes(node, names))
    _flatten(root)
    ET.indent(root, space="")
    return ET.tostring(root, encoding="unicode")


def _prune(node: ET.Element) -> None:
    """Drop the metadata, and the style sheet that would reach every element of the page."""
    for child in list(node):
        if child.tag in (f"{{{_SVG}}}metadata", f"{{{_SVG}}}style"):
            node.remove(child)
        else:
            _prune(child)


def _flatten(node: ET.Element) -> None:
    """Put the content of bare groups in their place."""
    children = []
    for child in node:
        _flatten(child)
        bare = child.tag == f"{{{_SVG}}}g" and not child.attrib
        children += list(child) if bare else [child]
    node[:] = children


def _names(used: list[str], prefix: str) -> dict[str, str]:
    """Short names for the ids that something refers to, the same in every frame of a slider."""
    short = {name: name.replace("DejaVu", "")[:8] for name in used}
    taken = list(short.values())
    return {
        name: f"{prefix}-{brief if taken.count(brief) == 1 else name}"
        for name, brief in short.items()
    }


def _style_once(root: ET.Element) -> None:
    """Let a marker, and not each of its many copies, carry the style that all of them share."""
    styles: dict[str, set[str]] = {}
    copies = [node for node in root.iter(f"{{{_SVG}}}use") if "style" in node.attrib]
    for node in copies:
        styles.setdefault(node.attrib[_XLINK][1:], set()).add(node.attrib["style"])
    for node in root.iter():
        if len(shared := styles.get(node.get("id"), ())) == 1:
            node.attrib["style"] = node.get("style", "") + ";" + next(iter(shared))
    for node in copies:
        if len(styles[node.attrib[_XLINK][1:]]) == 1:
            del node.attrib["style"]


def _attributes(node: ET.Element, names: dict[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in node.attrib.items():
        if name == "id":
            if value in names:
                yield name, names[value]
        elif name == _XLINK and value.startswith("#"):
            yield "href", f"#{names[value[1:]]}"
        elif name == _XLINK:
            yield "href", _webp(value)
        elif name == "d":
            yield name, _path(value)
        elif name in _GEOMETRY:
            yield name, _short(value)
        elif name == "transform":
            moved = re.fullmatch(r"translate\((-?[\d.]+) 0\)", value)
            if moved and node.tag == f"{{{_SVG}}}use":  # a letter in its line
                yield "x", _short(moved[1], 0)
            else:
                yield name, re.sub(r"translate\([^)]*\)", lambda m: _short(m[0]), value)
        else:
            value = re.sub(r"url\(#([^)]+)\)", lambda m: f"url(#{names[m[1]]})", value)
            value = value.replace(INK, "currentColor")
            yield name, re.sub(r"([:;])\s+", r"\1", value)


def _short(text: str, digits: int = 1) -> str:
    """Every number to `digits` decimals: a tenth of a point is finer than a screen shows."""
    return re.sub(r"-?\d+\.\d+", lambda m: _number(float(m[0]), digits), text)


def _number(x: float, digits: int) -> str:
    """`x` to `digits` decimals without the zeros that SVG does not need: 0.50 is .5."""
    text = f"{x:.{digits}f}"
    text = text.rstrip("0").rstrip(".") if digits else text
    return "0" if text in ("-0", "0") else re.sub(r"^(-?)0\.", r"\1.", text)


def _path(d: str) -> str:
    """A path in few characters: lines and curves by their steps, no needless spaces."""
    digits = 2 if re.search("[CQ]", d) else 1  # a marker is small
    out, last, x, y = [], "", 0.0, 0.0
    for command, text in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        numbers = [round(float(n), digits) for n in text.split()]
        if command in "LQC":
            shown = [n - (x, y)[i % 2] for i, n in enumerate(numbers)]
            name = "" if last == command else command.lower()
        else:
            shown, name = numbers, command
        steps = " ".join(_number(n, digits) for n in shown)
        out.append(f"{name or ' '}{steps}".replace(" -", "-"))
        if numbers:
            x, y = numbers[-2:]
        last = command
    return "".join(out)


@cache
def _webp(png: str) -> str:
    """An embedded PNG as an embedded WebP, lossless where that is the smaller."""
    image = Image.open(io.BytesIO(base64.b64decode(png.partition(",")[2])))
    files = []
    for options in ({"lossless": True}, {"quality": 90}):
        file = io.BytesIO()
        image.save(file, "webp", **options)
        files.append(file.getvalue())
    return "data:image/webp;base64," + base64.b64encode(min(files, key=len)).decode()
