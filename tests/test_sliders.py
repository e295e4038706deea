import numpy as np
import pytest
import torch

from dynbook.sliders import parameters


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.1, 0.25, 1 / 3], ("0.1", "0.25", "0.333")),
        ([1.00001, 1.00002], ("1.00001", "1.00002")),
        ([-2, 0, 12], ("−2", "0", "12")),
        ([1e-5, 2.5e-4, 0.01], ("1·10⁻⁵", "2.5·10⁻⁴", "0.01")),
        (["tanh", "ReLU"], ("tanh", "ReLU")),
    ],
)
def test_values_are_shown_with_the_digits_that_tell_them_apart(values, texts):
    assert parameters({"k": values}, {}, {}, {})[0].texts == texts


def test_the_slider_starts_at_the_nearest_value():
    (parameter,) = parameters({"k": torch.logspace(-2, 0, 5)}, {}, {"k": 0.09}, {"k": ".1e"})
    assert parameter.values[parameter.start] == pytest.approx(0.1)
    assert parameter.texts == ("1.0e−02", "3.2e−02", "1.0e−01", "3.2e−01", "1.0e+00")
    texts = {"name": ["tanh", "ReLU"]}
    assert parameters(texts, {}, {"name": "ReLU"}, {})[0].start == 1
    assert parameters({"k": [5, 9]}, {}, {"k": np.int64(8)}, {})[0].start == 1
    assert parameters(texts, {}, {}, {})[0].start == 0


@pytest.mark.parametrize(
    "values", [(1, 2), range(1, 3), np.array([1, 2]), torch.tensor([1, 2]), [np.int8(1), 2],
               (k for k in (1, 2))],
)  # fmt: skip
def test_values_become_python_numbers(values):
    (slider,) = parameters({"k": values}, {"k": "count k"}, {}, {})
    assert slider.values == (1, 2) and {type(v) for v in slider.values} == {int}
    assert (slider.name, slider.label, slider.texts) == ("k", "count k", ("1", "2"))


@pytest.mark.parametrize(
    "values", ["abc", b"abc", {1, 2}, {1: 2}, 0.1, torch.tensor(0.1), None, [], [1, "a"],
               [True, False], np.array([True]), [1, float("nan")], [1, float("inf")], [1j],
               np.ones((2, 2)), [[1], [2]]],
)  # fmt: skip
def test_what_has_no_order_or_is_no_number_is_refused(values):
    with pytest.raises(ValueError, match="eta must be a list of finite numbers or of texts"):
        parameters({"eta": values}, {}, {}, {})


@pytest.mark.parametrize(
    ("values", "start", "words"),
    [
        ([1, 2], float("nan"), "start of k must be a finite number, got nan"),
        ([1, 2], "1", "start of k must be a finite number, got '1'"),
        ([1, 2], True, "start of k must be a finite number, got True"),
        ([1, 2], [1], "start of k must be a finite number"),
        (["a"], "b", r"start of k must be one of \['a'\], got 'b'"),
        (["a"], 0, r"start of k must be one of \['a'\], got 0"),
    ],
)
def test_a_start_is_of_the_kind_of_the_values(values, start, words):
    with pytest.raises(ValueError, match=words):
        parameters({"k": values}, {}, {"k": start}, {})


@pytest.mark.parametrize(
    ("values", "spec"), [([0.5, 1.5], "d"), ([1, 2], "q"), (["a", "b"], ".2f"), ([1, 2], 2)]
)
def test_a_format_suits_the_values(values, spec):
    with pytest.raises(ValueError, match="formats of k must be a format specification"):
        parameters({"k": values}, {}, {}, {"k": spec})


def test_two_values_do_not_look_the_same():
    with pytest.raises(ValueError, match=r"k has values that look the same, 0.11 and 0.12.*'0.1'"):
        parameters({"k": [0.11, 0.12]}, {}, {}, {"k": ".1f"})
    with pytest.raises(ValueError, match=r"look the same, 3 and 3.0 are both shown as '3'"):
        parameters({"k": [3, 4, 3.0]}, {}, {}, {})


@pytest.mark.parametrize("argument", ["labels", "start", "formats"])
def test_a_name_that_is_no_parameter_is_refused(argument):
    given = {"labels": {}, "start": {}, "formats": {}, argument: {"eta": "x"}}
    with pytest.raises(ValueError, match=f"{argument} names eta, but the parameters are k"):
        parameters({"k": [1, 2]}, **given)


def test_a_figure_without_parameters_is_no_figure_with_sliders():
    with pytest.raises(ValueError, match="explore needs a parameter with its values"):
        parameters({}, {}, {}, {})
