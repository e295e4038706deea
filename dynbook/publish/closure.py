"""What a page's outputs depend on besides its own cells: the code and data they reach."""

from __future__ import annotations

import ast
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "dynbook"


def plain_python(cell: str) -> str:
    """A cell without its IPython lines (magics, shell escapes, help), so that `ast` can read it."""
    lines = cell.split("\n")
    if lines[0].startswith("%%"):
        return ""
    return "\n".join("" if x.lstrip()[:1] in {"%", "!", "?"} else x for x in lines)


def module_file(name: str, root: Path = ROOT) -> Path | None:
    """The file of a module of the package, or None for a name that is no module of it."""
    path = root.joinpath(*name.split("."))
    for file in (path / "__init__.py", path.with_suffix(".py")):
        if file.is_file():
            return file
    return None


def reached_names(tree: ast.AST, package: str = "") -> Iterator[str]:
    """Dotted names under `dynbook` that a piece of code mentions; some may be no modules.

    `package` is the package that holds the code, for relative imports. A self-check
    `check("3.2", …)` reads `dynbook.exercises.chapter_3` when it runs, so it counts as an import.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(above if node.level else []), *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Attribute):
            yield ast.unparse(node)
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "id", getattr(node.func, "attr", ""))
            number = node.args[0]
            if called == "check" and isinstance(number, ast.Constant):
                yield f"{PACKAGE}.exercises.chapter_{str(number.value).partition('.')[0]}"


@lru_cache
def _read_module(
    file: Path, package: str, _version: tuple
) -> tuple[frozenset[str], frozenset[str]]:
    return _names_and_strings(file.read_text(encoding="utf8"), package)


def _names_and_strings(code: str, package: str) -> tuple[frozenset[str], frozenset[str]]:
    tree = ast.parse(code)
    names = {n for n in reached_names(tree, package) if n.split(".")[0] == PACKAGE}
    constants = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant))
    return frozenset(names), frozenset(c for c in constants if isinstance(c, str))


def closure(cells: Iterable[str], root: Path = ROOT) -> list[Path]:
    """Files that the cells depend on: modules of the package, transitively, and data they name.

    Parameters
    ----------
    cells : iterable of str
        Sources of a page's code cells.
    root : Path
        The repository; modules lie under `root/dynbook`, data beside them or under
        `root/book/data`. A data file counts when its name occurs in a string of a cell or of a
        module reached, or when such a string is its name without the suffix.

    Raises
    ------
    SyntaxError
        If a cell or a module is no Python.
    """
    code = "\n".join(plain_python(cell) for cell in cells)
    names, strings = _names_and_strings(code, "")
    todo, files, said = set(names), {}, set(strings)
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        parents = name.rpartition(".")[0]
        if parents and parents not in seen:
            todo.add(parents)  # importing a.b.c runs a/__init__ and a.b/__init__ too
        if name in seen:
            continue
        seen.add(name)
        file = module_file(name, root)
        if file is None:
            continue
        package = name if file.name == "__init__.py" else name.rpartition(".")[0]
        stat = file.stat()
        more, strings = _read_module(file, package, (stat.st_mtime_ns, stat.st_size))
        files[name] = file
        said |= strings
        todo |= more - seen
    text = "\n".join(said)
    named = (f for f in data_files(root) if f.name in text or f.stem in said)
    return sorted({*files.values(), *named})


def data_files(root: Path) -> Iterator[Path]:
    """Everything that code may open by its name: the book's data, and the package's other files."""
    yield from (f for f in (root / "book" / "data").rglob("*") if f.is_file())
    for f in (root / PACKAGE).rglob("*"):
        if f.is_file() and f.suffix not in {".py", ".pyc"}:
            yield f


def closure_key(cells: Iterable[str], root: Path = ROOT) -> str:
    """Fingerprint of a page's closure, of the pinned environment and of the scale asked for."""
    scale = os.environ.get("DYNBOOK_SCALE", "laptop")
    h = hashlib.sha256(f"{sys.version_info[:2]} {scale}".encode())
    for file in [root / "requirements.txt", *closure(cells, root)]:
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        h.update(f"{file.relative_to(root).as_posix()} {content}\n".encode())
    return h.hexdigest()[:16]
