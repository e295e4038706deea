"""Which functions of the package made a picture: those that its cell reaches, by any way.

A cell draws what earlier cells computed. So from the names in it we go back: to the statement that
last gave a variable its value, to the body of a function that was defined on the page, and on from
the names in these, until all that is left are imports from `dynbook`. What was computed beforehand,
`recorded("x")`, leads to the statement of the page that did so, `record("x", …)`.
"""

from __future__ import annotations

import ast
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from dynbook.publish.closure import plain_python

DRAWING = {"check", "explore", "figures", "player", "results", "sliders", "svg"}
SHIPPED = "dynbook.results.recorded"  # what an experiment that ran elsewhere left


def simple(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements without blocks: `for x in y: …` is `x = y` and what follows."""
    for s in body:
        if isinstance(s, ast.For):
            yield ast.copy_location(ast.Assign([s.target], s.iter), s)
        for item in s.items if isinstance(s, ast.With) else ():
            bare = ast.Expr(item.context_expr)
            named = item.optional_vars and ast.Assign([item.optional_vars], item.context_expr)
            yield ast.copy_location(named or bare, s)
        if isinstance(s, (ast.If, ast.While)):
            yield ast.copy_location(ast.Expr(s.test), s)
        if isinstance(s, (ast.For, ast.With, ast.If, ast.While, ast.Try)):
            handlers = [t for h in getattr(s, "handlers", ()) for t in h.body]
            more = getattr(s, "orelse", []) + getattr(s, "finalbody", [])
            yield from simple([*s.body, *handlers, *more])
        else:
            yield s


def globals_read(statement: ast.stmt) -> set[str]:
    """Names of the page that a statement, or a function in it, reads: no parameter, no local."""

    def walk(table: symtable.SymbolTable) -> Iterator[str]:
        top = table.get_type() == "module"
        for symbol in table.get_symbols():
            if symbol.is_referenced() and (top or symbol.is_global()):
                yield symbol.get_name()
        for child in table.get_children():
            yield from walk(child)

    return set(walk(symtable.symtable(ast.unparse(statement), "page", "exec")))


def names_set(statement: ast.stmt) -> set[str]:
    """Names of the page that a statement gives a new value."""
    table = symtable.symtable(ast.unparse(statement), "page", "exec")
    given = (symtable.Symbol.is_assigned, symtable.Symbol.is_imported, symtable.Symbol.is_namespace)
    return {s.get_name() for s in table.get_symbols() if any(is_given(s) for is_given in given)}


def names_changed(statement: ast.stmt) -> set[str]:
    """Names whose value a statement changes in place: `a[i] = …`, `a.b = …`, `a.append(…)`."""
    places = [
        node
        for node in ast.walk(statement)
        if isinstance(node, (ast.Subscript, ast.Attribute)) and not isinstance(node.ctx, ast.Load)
    ]
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        places.append(statement.value.func)
    return {name for place in places if (name := base(place))}


def base(node: ast.expr) -> str | None:
    """The name that `a[i].b` hangs on; None for a name alone."""
    inner = node
    while isinstance(inner, (ast.Subscript, ast.Attribute)):
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) and inner is not node else None


def in_order(names: set[str], statement: ast.stmt) -> list[str]:
    """Names in the order in which they stand in a statement."""
    found = [n for n in ast.walk(statement) if isinstance(n, ast.Name) and n.id in names]
    found.sort(key=lambda n: (n.lineno, n.col_offset))
    return list(dict.fromkeys(n.id for n in found))


def experiments(statement: ast.stmt, call: str) -> list[str]:
    """What `record` or `recorded` is called for: "x" of `recorded("x")`, as a name of its own."""
    return [
        f"experiment {node.args[0].value}"
        for node in ast.walk(statement)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == call
        and node.args
        and isinstance(node.args[0], ast.Constant)
    ]


def home(dotted: str) -> str:
    """Where a thing of the package is documented: in the module that defines it."""
    module, _, name = dotted.rpartition(".")
    made = getattr(import_module(module), name, None)
    where = getattr(made, "__module__", None) or module
    same = where.startswith("dynbook.") and getattr(import_module(where), name, None) is made
    return f"{where}.{name}" if same else dotted


def imports(statement: ast.stmt) -> dict[str, str]:
    """What a statement imports from the package: local name → dotted name."""
    if isinstance(statement, ast.ImportFrom) and (statement.module or "").startswith("dynbook"):
        return {a.asname or a.name: home(f"{statement.module}.{a.name}") for a in statement.names}
    return {}


@dataclass(frozen=True)
class Statement:
    """What tracing needs to know of a statement; a `later` one reads its names when called."""

    reads: list[str]
    sets: set[str]
    changes: set[str]
    imports: dict[str, str]
    later: bool


@cache
def statements(cell: str) -> list[Statement]:
    """The simple statements of a cell."""
    return [
        Statement(
            in_order(globals_read(s), s) + experiments(s, "recorded"),
            names_set(s) | set(experiments(s, "record")),
            names_changed(s),
            imports(s),
            isinstance(s, (ast.FunctionDef, ast.ClassDef)),
        )
        for s in simple(ast.parse(plain_python(cell)).body)
    ]


def origins(page: Sequence[Statement], name: str, before: int) -> list[int]:
    """Statements that made a name's value: the last to set it, and those that changed it since."""
    found = []
    for at in range(before - 1, -1, -1):
        if name in page[at].sets:
            return [*found, at]
        if name in page[at].changes:
            found.append(at)
    return found


def functions(cells: Sequence[str], index: int) -> list[str]:
    """Dotted names under `dynbook` that made what cell `index` shows, the nearest first.

    Parameters
    ----------
    cells : sequence of str
        Sources of a page's code cells.
    index : int
        The cell that draws.
    """
    page = [statement for cell in cells[: index + 1] for statement in statements(cell)]
    made: dict[str, None] = {}
    todo = [(at, len(page)) for at in range(len(page))][-len(statements(cells[index])) :]
    seen = set(todo)
    while todo:
        at, used = todo.pop(0)  # a statement, and where the function that it defines is called
        before = used if page[at].later else at
        for name in page[at].reads:
            for origin in origins(page, name, before):
                if dotted := page[origin].imports.get(name):
                    made[dotted] = None
                if (step := (origin, before if page[origin].later else 0)) not in seen:
                    seen.add(step)
                    todo.append(step)
    return [name for name in made if name == SHIPPED or name.split(".")[1] not in DRAWING]
