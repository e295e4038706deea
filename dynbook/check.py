"""Self-checks: is my answer to this exercise right, and if not, where should I look?

``check("3.2", answer)`` shows the verdict in a notebook or prints it; ``judge`` only returns it,
for grading many answers. An exercise is one function in ``dynbook/exercises/chapter_<n>.py`` that
looks at an answer and objects in words::

    @exercise("3.2")
    def half_turn(answer):
        left, right = numbers(answer, shape=(2,))
        close(left, 0.482, rtol=1e-2, hint="At the edge the two solutions meet: where is f′ = 1?")

It never names the right answer; what it returns, if anything, is said to who has found it.
"""

from __future__ import annotations

import importlib
import linecache
import math
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Result:
    """Verdict on an answer.

    Attributes
    ----------
    ok : bool
        Whether the answer is right.
    message : str
        What to say to who gave it.
    """

    ok: bool
    message: str
    cell: int | None = field(default=None, repr=False, compare=False)  # where it is on show

    def __str__(self) -> str:
        return f"{'✓ Right.' if self.ok else '✗ Not yet.'} {self.message}".strip()

    def _repr_html_(self) -> str:
        color, sign, word = ("#009E73", "✓", "Right.") if self.ok else ("#D55E00", "✗", "Not yet.")
        text = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(self.message, quote=False))
        return (
            f'<div class="check" style="border-left:.3em solid {color};padding:.3em .8em">'
            f'<span aria-hidden="true">{sign}</span> <strong>{word}</strong> {text}</div>'
        )

    def _ipython_display_(self) -> None:
        """Show the verdict, unless :func:`check` has shown it in the same cell."""
        if self.cell is None or self.cell != _cell():
            _show(self)


def check(exercise: str, answer: Any) -> Result:
    """Show whether `answer` solves the exercise, and return the verdict.

    Parameters
    ----------
    exercise : str
        Number of the exercise, as ``"3.2"``.
    answer : number, list, array, tensor or function
        Whatever the exercise asks for; ``...`` stands for no answer yet.

    Raises
    ------
    ValueError
        If there is no such exercise; the message lists those there are.
    TypeError
        If `exercise` is not a text: the number 3.1 is also 3.10.
    """
    verdict = judge(exercise, answer)
    result = Result(verdict.ok, verdict.message, cell=_cell())
    _show(result)
    return result


def judge(exercise: str, answer: Any) -> Result:
    """The verdict of :func:`check`, shown nowhere."""
    examine = _find(exercise)
    if answer is ...:
        return Result(False, "No answer yet: put yours in the place of `...`.")
    try:
        praise = examine(answer)
    except Exception as error:
        place = _place(error, examine)
        first = (str(error).splitlines() or [""])[0]
        said = f"`{type(error).__name__}: {first}`"
        if place:
            return Result(False, f"Your code stopped with {said} {place}.")
        if isinstance(error, AssertionError):
            return Result(False, str(error))
        return Result(False, f"This answer cannot be used; it led to {said}.")
    return Result(True, praise or "")


def exercise(number: str) -> Callable[[Callable], Callable]:
    """Mark the function below as the check of exercise `number`.

    Raises
    ------
    ValueError
        If `number` is not chapter and exercise, as ``"3.2"``.
    """
    if not re.fullmatch(r"[1-9]\d*\.[1-9]\d*", number):
        raise ValueError(f"number must be chapter and exercise, as '3.2', got {number!r}")

    def mark(examine: Callable) -> Callable:
        examine.exercise = number
        return examine

    return mark


# To object with, in the check of an exercise.


def numbers(
    answer: Any,
    *,
    shape: Sequence[int | None] | None = None,
    imaginary: bool = False,
    name: str = "the answer",
) -> np.ndarray:
    """`answer` as an array of finite numbers in double precision, whatever it came as.

    Parameters
    ----------
    shape : sequence, optional
        The shape expected, None for any length; ``()`` for a single number, which may come alone
        in a list.
    imaginary : bool
        Whether the numbers may be complex.
    name : str
        What to call it.

    Raises
    ------
    AssertionError
        If `answer` holds anything but finite numbers, has another shape, or has an imaginary part
        that is not zero and was not asked for; the message is for who gave it.
    """
    array = _array(answer, name)
    if shape is not None and len(shape) == 0 and array.size == 1:
        array = array.reshape(())
    if shape is not None:
        fits = array.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape, array.shape, strict=True)
        )
        if not fits:
            raise AssertionError(
                f"{_sentence(name)} should be {_words(shape)}, but it is {_words(array.shape)}."
            )
    if not np.isfinite(array).all():
        raise AssertionError(f"{_sentence(name)} holds numbers that are not finite.")
    if imaginary:
        return array
    if array.imag.any():
        raise AssertionError(f"{_sentence(name)} should be real, but has an imaginary part.")
    return array.real


def close(
    answer: Any,
    expected: Any,
    *,
    rtol: float = 1e-3,
    atol: float = 0.0,
    hint: str = "",
    name: str = "the answer",
) -> None:
    """Object, without giving `expected` away, unless |answer − expected| ≤ atol + rtol |expected|.

    `answer` must have the shape of `expected`, and be real if that is. The objection says how near
    it is, to a power of ten, and ends with `hint`.

    Raises
    ------
    AssertionError
        As :func:`numbers`, or if the answer is too far off.
    ValueError
        If what is expected is not finite, or a tolerance is negative or not finite: it would
        accept everything or nothing.
    """
    wanted = _array(expected, "expected")
    if not np.isfinite(wanted).all():
        raise ValueError("expected must be finite: this exercise has lost its right answer")
    if not (0 <= rtol < math.inf and 0 <= atol < math.inf):
        raise ValueError(f"rtol and atol must be finite and not negative, got {rtol} and {atol}")
    given = numbers(answer, shape=wanted.shape, imaginary=np.iscomplexobj(wanted), name=name)
    error = np.abs(given - wanted)
    wrong = error > atol + rtol * np.abs(wanted)
    if not wrong.any():
        return
    if given.ndim == 0:
        words = f"{_sentence(name)} is {_distance(error.max(), np.abs(wanted).max())}."
    else:
        words = f"{wrong.sum()} of the {wrong.size} entries of {name} are off."
    raise AssertionError(f"{words} {hint}".strip())


def dtype(answer: Any, expected: str, *, name: str = "the answer") -> None:
    """Object unless `answer` has the dtype `expected`, as ``"float64"``.

    Raises
    ------
    AssertionError
        If it has another; the message is for who gave it.
    """
    got = str(getattr(answer, "dtype", type(answer).__name__)).removeprefix("torch.")
    if got != expected:
        raise AssertionError(f"{_sentence(name)} should be of type {expected}, but is {got}.")


def function(answer: Any, *, name: str = "the answer") -> Callable:
    """`answer` itself, if it is a function.

    Raises
    ------
    AssertionError
        If it is none; the message is for who gave it.
    """
    if not callable(answer):
        raise AssertionError(
            f"{_sentence(name)} should be a function, but is {_kind(answer)}. Give the function "
            "itself, `f` and not `f(x)`."
        )
    return answer


def _array(answer: Any, name: str) -> np.ndarray:
    if hasattr(answer, "detach"):  # a torch tensor, on any device, of any type
        answer = answer.detach().cpu()
        answer = (answer.double() if answer.is_floating_point() else answer).numpy()
    elif isinstance(answer, (list, tuple)):
        parts = [_array(part, name) for part in answer]
        if len({part.shape for part in parts}) > 1:
            raise AssertionError(f"The parts of {name} differ in shape.")
        answer = np.array(parts)
    array = np.asarray(answer)
    if array.dtype.kind not in "biufc":
        raise AssertionError(f"{_sentence(name)} should be numbers, but holds {_kind(answer)}.")
    return array.astype(complex if array.dtype.kind == "c" else float)


def _sentence(name: str) -> str:
    return name[:1].upper() + name[1:]


def _kind(answer: Any) -> str:
    return "nothing (None)" if answer is None else f"an object of type {type(answer).__name__}"


def _words(shape: Sequence[int | None]) -> str:
    if len(shape) == 0:
        return "a single number"
    sizes = " × ".join("any" if n is None else str(n) for n in shape)
    numbers = "number" if sizes == "1" else "numbers"
    return f"{'a list' if len(shape) == 1 else 'an array'} of {sizes} {numbers}"


def _distance(error: float, size: float) -> str:
    for percent in (0.01, 0.1, 1, 10):
        if error <= percent / 100 * size:
            return f"within {percent:g} %, but not near enough"
    return "off by more than 10 %"


def _find(number: str) -> Callable:
    if not isinstance(number, str):
        raise TypeError(f'exercise must be a text, as check("3.2", …), got {number!r}')
    chapter = number.partition(".")[0]
    known = _checks(chapter)
    if number in known:
        return known[number]
    known = known or {n: f for c in _chapters() for n, f in _checks(c).items()}
    raise ValueError(f"there is no exercise {number!r}; there are {', '.join(known) or 'none yet'}")


def _chapters() -> list[str]:
    package = importlib.import_module("dynbook.exercises")
    names = [module.name for module in pkgutil.iter_modules(package.__path__)]
    return sorted((n.removeprefix("chapter_") for n in names if n.startswith("chapter_")), key=int)


def _checks(chapter: str) -> dict[str, Callable]:
    if chapter not in _chapters():
        return {}
    module = importlib.import_module(f"dynbook.exercises.chapter_{chapter}")
    return {f.exercise: f for f in vars(module).values() if hasattr(f, "exercise")}


def _place(error: Exception, examine: Callable) -> str:
    """Where in the learner's own code it happened, if it did: in no library, nor in the check."""
    libraries = (str(Path(__file__).parent), sys.prefix, sys.base_prefix)
    for frame, number in reversed(list(traceback.walk_tb(error.__traceback__))):
        code = frame.f_code
        if code is not examine.__code__ and not code.co_filename.startswith(libraries):
            line = linecache.getline(code.co_filename, number).strip()
            return f"in line {number} of `{code.co_name}`" + (f": `{line}`" if line else "")
    return ""


def _cell() -> int | None:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return None if shell is None else shell.execution_count


def _show(result: Result) -> None:
    if _cell() is None:
        print(result)
    else:
        from IPython.display import display

        display({"text/plain": str(result), "text/html": result._repr_html_()}, raw=True)
