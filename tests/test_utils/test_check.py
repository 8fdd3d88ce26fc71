"""Checks of arguments."""

import re

import numpy as np
import pytest
import torch

from mmwood.utils.check import at_least, check_shapes, fraction, one_of


def test_shapes_that_fit():
    sizes = check_shapes(
        cam=(torch.zeros(2, 3, 5, 4), "... C h w"), edge=(np.zeros((5, 4)), "h w")
    )
    assert sizes == dict(C=3, h=5, w=4)
    assert check_shapes(pair=(torch.zeros(2, 7), "2 N")) == dict(N=7)


@pytest.mark.slow
def test_compiled_in_one_graph():
    def product(x):
        check_shapes(x=(x, "B D"), weight=(weight, "2 D"))
        return x @ weight.T

    weight = torch.ones(2, 3)
    compiled = torch.compile(product, backend="eager", fullgraph=True)
    assert compiled(torch.ones(4, 3)).tolist() == [[3, 3]] * 4


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            dict(a=((2, 3), "B C"), b=((4,), "B")),
            "expected a (B, C) and b (B,), got (2, 3) and (4,)",
        ),
        (dict(a=((2, 3), "C")), "expected a (C,), got (2, 3)"),
        (dict(a=((3, 5), "2 N")), "expected a (2, N), got (3, 5)"),
        (dict(a=((3,), "... h w")), "expected a (..., h, w), got (3,)"),
        (dict(a=((3, 4), "h h")), "expected a (h, h), got (3, 4)"),
    ],
)
def test_shapes_that_do_not_fit(shapes, message):
    arrays = {
        name: (torch.zeros(shape), axes) for name, (shape, axes) in shapes.items()
    }
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        check_shapes(**arrays)


def test_one_of():
    one_of("check", "none", ("none", "header"))
    with pytest.raises(ValueError, match=r"^void must be 'a', 'b' or 3, but is 'c'$"):
        one_of("void", "c", ("a", "b", 3))
    with pytest.raises(ValueError, match=r"^void must be 'a', but is None$"):
        one_of("void", None, ("a",))


@pytest.mark.parametrize("value", [-1, float("nan"), 0.999, True, "2", [2]])
def test_below_the_limit(value):
    at_least("beta", 1, 1)
    with pytest.raises(ValueError, match=r"^beta must be at least 1, but is"):
        at_least("beta", value, 1)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan"), float("inf")])
def test_outside_of_a_range(value):
    at_least("threshold", 0, 0, below=1)
    message = "^threshold must be at least 0 and below 1, but is"
    with pytest.raises(ValueError, match=message):
        at_least("threshold", value, 0, below=1)


@pytest.mark.parametrize("value", [2.0, 2.5, True, float("nan"), "2"])
def test_no_integer(value):
    at_least("steps", np.int64(2), 0, integer=True)
    message = "^steps must be an integer of at least 0, but is"
    with pytest.raises(ValueError, match=message):
        at_least("steps", value, 0, integer=True)


@pytest.mark.parametrize("value", [0, -0.1, 1.01, float("nan"), True, None])
def test_no_fraction(value):
    with pytest.raises(ValueError, match=r"^alpha must be "):
        fraction("alpha", value)


def test_a_fraction():
    for value in (1e-9, 0.5, 1, 1.0):
        fraction("alpha", value)
