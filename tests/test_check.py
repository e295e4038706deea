import functools
import sys
import types
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

import dynbook.exercises
from dynbook.check import Result, check, close, dtype, exercise, function, judge, numbers

GOLDEN = (1 + 5**0.5) / 2


@pytest.fixture(autouse=True)
def chapters(monkeypatch):
    """Two chapters of exercises that are in no book."""

    def chapter(number, checks):
        name = f"dynbook.exercises.chapter_{number}"
        module = types.ModuleType(name)
        for i, examine in enumerate(checks, 1):
            setattr(module, f"check_{i}", exercise(f"{number}.{i}")(examine))
        monkeypatch.setitem(sys.modules, name, module)

    def golden(answer):
        close(answer, GOLDEN, rtol=1e-3, hint="It solves x² = x + 1.")
        return "The most irrational number."

    def squares(answer):
        close(answer, np.arange(4) ** 2, hint="Square each entry.")

    def doubling(answer):
        f = function(answer)
        x = torch.linspace(0, 1, 5, dtype=torch.float64)
        dtype(f(x), "float64")
        close(f(x), (2 * x) % 1, atol=1e-12, hint="Take the fractional part.")

    def mute(answer):
        assert answer == 3

    chapter(91, [golden, squares, doubling])
    chapter(92, [mute])
    found = [types.SimpleNamespace(name=f"chapter_{n}") for n in (92, 91)]
    monkeypatch.setattr("pkgutil.iter_modules", lambda path: found)
    assert dynbook.exercises.__path__


@pytest.mark.parametrize(
    "answer",
    [1.618, np.float32(GOLDEN), np.array(GOLDEN), [GOLDEN], torch.tensor([[GOLDEN]]), GOLDEN + 0j,
     torch.tensor(GOLDEN, requires_grad=True),
     torch.tensor(GOLDEN).bfloat16().double() * 0 + GOLDEN],
)  # fmt: skip
def test_a_number_is_right_whatever_it_comes_as(answer):
    assert judge("91.1", answer) == Result(True, "The most irrational number.")


@pytest.mark.parametrize(
    "answer",
    [[0, 1, 4, 9], (0, 1.0, torch.tensor(4), np.int8(9)), np.arange(4) ** 2,
     torch.arange(4).bfloat16() ** 2],
)  # fmt: skip
def test_a_list_is_right_whatever_it_comes_as(answer):
    assert judge("91.2", answer).ok


@pytest.mark.parametrize(
    ("name", "answer", "message"),
    [
        ("91.1", 1.7, "The answer is within 10 %, but not near enough. It solves x² = x + 1."),
        ("91.1", 1.62, "The answer is within 1 %, but not near enough. It solves x² = x + 1."),
        ("91.1", -3, "The answer is off by more than 10 %. It solves x² = x + 1."),
        ("91.1", float("nan"), "The answer holds numbers that are not finite."),
        ("91.1", "1.618", "The answer should be numbers, but holds an object of type str."),
        ("91.1", None, "The answer should be numbers, but holds nothing (None)."),
        ("91.1", [1, 2], "The answer should be a single number, but it is a list of 2 numbers."),
        ("91.1", [], "The answer should be a single number, but it is a list of 0 numbers."),
        ("91.1", GOLDEN + 5j, "The answer should be real, but has an imaginary part."),
        ("91.2", [True, True, False, True], "3 of the 4 entries of the answer are off."),
        ("91.2", torch.tensor([0, 1, 4, -247], dtype=torch.int16), "1 of the 4 entries"),
        ("91.2", [4], "The answer should be a list of 4 numbers, but it is a list of 1 number."),
        ("91.1", ..., "No answer yet: put yours in the place of `...`."),
        ("91.2", [0, 1, 4, 8], "1 of the 4 entries of the answer are off. Square each entry."),
        ("91.2", 3, "The answer should be a list of 4 numbers, but it is a single number."),
        ("91.2", [[0, 1], [4]], "The parts of the answer differ in shape."),
        ("91.2", np.eye(2), "The answer should be a list of 4 numbers, "
                            "but it is an array of 2 × 2 numbers."),
        ("91.3", 2.0, "The answer should be a function, but is an object of type float. "
                      "Give the function itself, `f` and not `f(x)`."),
        ("91.3", lambda x: x.float(), "The answer should be of type float64, but is float32."),
        ("91.3", lambda x: 2 * x, "1 of the 5 entries of the answer are off. "
                                  "Take the fractional part."),
        ("92.1", 4, ""),
    ],
)  # fmt: skip
def test_a_wrong_answer_meets_an_objection_in_words(name, answer, message):
    if name == "91.3" and message.startswith("1 of"):
        message = message.replace("1 of", "3 of")  # 2·½, 2·¾ and 2·1 leave [0, 1)
    verdict = judge(name, answer)
    assert not verdict.ok
    assert verdict.message.startswith(message)


@pytest.mark.parametrize("answer", [0, 1.6, 1.7, 2, -1e9, [GOLDEN] * 2, "x", None])
def test_the_right_answer_is_never_given_away(answer):
    verdict = judge("91.1", answer)
    assert not verdict.ok
    assert "1.61" not in verdict.message + verdict._repr_html_()


def broken(x):
    return x / (x - x).nosuch


class Recursive:
    def __call__(self, x):
        return self(x)


@pytest.mark.parametrize("answer", [broken, functools.partial(broken)])
def test_an_error_in_the_learners_function_is_shown_with_its_line(answer):
    verdict = judge("91.3", answer)
    assert not verdict.ok
    assert "AttributeError: 'Tensor' object has no attribute 'nosuch'" in verdict.message
    line = broken.__code__.co_firstlineno + 1
    assert f"in line {line} of `broken`: `return x / (x - x).nosuch`" in verdict.message


def test_an_error_deep_in_a_library_is_shown_at_the_learners_line():
    verdict = judge("91.3", lambda x: torch.linalg.inv(torch.zeros(2, 2)))
    assert "LinAlgError" in verdict.message and "torch.linalg.inv(torch.zeros" in verdict.message


def test_an_endless_recursion_and_a_failing_assert_of_the_learner_are_theirs():
    assert "Your code stopped with `RecursionError" in judge("91.3", Recursive()).message

    def asserting(x):
        raise AssertionError("mine")

    verdict = judge("91.3", asserting)
    assert verdict.message.startswith("Your code stopped with `AssertionError: mine` in line")


def test_an_unknown_exercise_lists_those_there_are():
    with pytest.raises(ValueError, match=r"no exercise '91\.9'; there are 91\.1, 91\.2, 91\.3"):
        judge("91.9", 1)
    with pytest.raises(ValueError, match=r"there are 91\.1, 91\.2, 91\.3, 92\.1"):
        judge("7.1", 1)
    with pytest.raises(TypeError, match=r'must be a text, as check\("3\.2"'):
        judge(91.1, 1)


@pytest.mark.parametrize("number", ["3", "3.", "03.1", "3.1a", "three"])
def test_an_exercise_has_a_chapter_and_a_number(number):
    with pytest.raises(ValueError, match="number must be chapter and exercise"):
        exercise(number)


def test_in_a_script_the_verdict_is_printed_and_returned(capsys):
    assert check("91.1", GOLDEN).ok
    assert capsys.readouterr().out == "✓ Right. The most irrational number.\n"
    check("91.1", 2)
    assert capsys.readouterr().out.startswith("✗ Not yet. The answer is off by more than 10 %.")


def test_in_a_notebook_a_verdict_is_shown_once_and_again_when_asked_for(monkeypatch):
    shown, cell = [], iter([7, 7, 7, 8, 8, 8])
    monkeypatch.setattr("dynbook.check._cell", lambda: next(cell))
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    result = check("91.1", GOLDEN)  # asks for the cell twice
    result._ipython_display_()  # the last expression of cell 7
    assert [data["text/plain"] for data in shown] == ["✓ Right. The most irrational number."]
    result._ipython_display_()  # in cell 8
    assert shown[1:] == shown[:1]


def test_in_a_script_a_verdict_may_be_shown_again(capsys):
    judge("92.1", 3)._ipython_display_()
    assert capsys.readouterr().out == "✓ Right.\n"
    assert judge("92.1", 3) == Result(True, "")


@pytest.mark.parametrize(("ok", "word", "sign"), [(True, "Right.", "✓"), (False, "Not yet.", "✗")])
def test_the_verdict_is_a_word_and_a_sign_and_its_text_is_escaped(ok, word, sign):
    html = ET.fromstring(Result(ok, "Is `x < y` & so on?")._repr_html_())
    assert " ".join("".join(html.itertext()).split()) == f"{sign} {word} Is x < y & so on?"
    assert html.find("code").text == "x < y"
    assert html.find("span").attrib["aria-hidden"] == "true"


def test_a_judgement_leaves_nothing_behind():
    first = [judge("91.1", a) for a in (GOLDEN, 2, None)]
    assert [judge("91.1", a) for a in (GOLDEN, 2, None)] == first


@pytest.mark.parametrize("shape", [(2, None), (None, 3), (None, None)])
def test_a_shape_may_leave_lengths_open(shape):
    assert numbers(np.ones((2, 3)), shape=shape).shape == (2, 3)
    with pytest.raises(AssertionError, match=r"an array of .* numbers, but it is a list of 3"):
        numbers([1, 2, 3], shape=shape)


def test_a_name_keeps_its_capitals():
    with pytest.raises(AssertionError, match=r"^The ReLU sum is off by more than 10 %"):
        close(1, 2, name="the ReLU sum")


def test_small_integers_do_not_overflow_into_a_right_answer():
    with pytest.raises(AssertionError, match="off by more than 10 %"):
        close(np.int8(-128), np.int8(127), rtol=0, atol=1)  # −128 − 127 is 1 in eight bits


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (9e-5, "within 0.01 %"), (9e-4, "within 0.1 %"), (9e-3, "within 1 %"),
        (0.09, "within 10 %"), (0.11, "off by more than 10 %"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1.0, -2e-7])
def test_the_distance_is_told_to_a_power_of_ten(error, words, size):
    with pytest.raises(AssertionError, match=f"is {words}"):
        close(size * (1 + error), size, rtol=1e-9)


def test_a_complex_answer_is_welcome_where_one_is_expected():
    close([1j, 1], [1j, 1])
    with pytest.raises(AssertionError, match="1 of the 2 entries"):
        close([1j, 1], [-1j, 1])
    assert numbers([1j, 1], imaginary=True).tolist() == [1j, 1]
    assert numbers([1 + 0j]).dtype == np.float64


@pytest.mark.parametrize("expected", [np.nan, np.inf, [1, np.nan]])
def test_an_exercise_that_has_lost_its_answer_accepts_nothing(expected):
    with pytest.raises(ValueError, match="expected must be finite"):
        close(np.ones(np.shape(expected)), expected)


@pytest.mark.parametrize("tolerance", [np.nan, np.inf, -1e-3])
@pytest.mark.parametrize("name", ["rtol", "atol"])
def test_a_tolerance_is_finite_and_not_negative(name, tolerance):
    with pytest.raises(ValueError, match="rtol and atol must be finite and not negative"):
        close(1, 1, **{name: tolerance})
