"""Checks of arguments, one line each; it imports nothing of mmwood."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any


def check_shapes(**arrays: tuple[Any, str]) -> dict[str, int]:
    """Check the shapes of tensors or arrays that belong together.

    Args:
        **arrays: By name: a tensor or array, and its axes, separated by spaces. A
            number is the axis's size; axes of one name have one size, in all arrays; a
            first ``...`` stands for any axes before.

    Returns:
        The size of every named axis.

    Raises:
        ValueError: A shape is another; it names all arrays, what was expected and what
            was given.

    Example:
        >>> check_shapes(features=(torch.zeros(2, 8, 5, 4), "B D h w"),
        ...              weight=(torch.zeros(3, 8), "C D"))
        {'B': 2, 'D': 8, 'h': 5, 'w': 4, 'C': 3}
    """
    sizes: dict[str, int] = {}
    for array, axes in arrays.values():
        shape, names = tuple(array.shape), axes.split()
        if names[:1] == ["..."]:
            names = names[1:]
            shape = shape[max(0, len(shape) - len(names)) :]
        fits = len(shape) == len(names)
        # Plainly: setdefault would break the graphs of torch.compile.
        for name, size in zip(names, shape):
            if not name.isdecimal() and name not in sizes:
                sizes[name] = size
            fits = fits and size == (int(name) if name.isdecimal() else sizes[name])
        if not fits:
            expected = [f"{n} {_written(a.split())}" for n, (_, a) in arrays.items()]
            given = [str(tuple(array.shape)) for array, _ in arrays.values()]
            raise ValueError(
                f"expected {' and '.join(expected)}, got {' and '.join(given)}"
            )
    return sizes


def one_of(name: str, value: Any, choices: Collection[Any]) -> None:
    """Check that a field has one of the values that it can have.

    Raises:
        ValueError: It has another one; names the field and its values.
    """
    if value not in choices:
        *others, last = map(repr, choices)
        listed = f"{', '.join(others)} or {last}" if others else last
        raise ValueError(f"{name} must be {listed}, but is {value!r}")


def at_least(
    name: str,
    value: float,
    minimum: float,
    *,
    below: float = math.inf,
    integer: bool = False,
) -> None:
    """Check that a number is in a range, and no NaN.

    Args:
        name: The field's name.
        value: The number.
        minimum: The lower limit, itself allowed.
        below: The upper limit, itself not allowed, but for infinity.
        integer: Whether it must be of an integer type, too; 2.0 is not.

    Raises:
        ValueError: It is outside, or no such number; True and False are none.
    """
    kinds = Integral if integer else Real
    number = isinstance(value, kinds) and not isinstance(value, bool)
    if not number or not (minimum <= value and (value < below or below == math.inf)):
        kind = "an integer of at least" if integer else "at least"
        limit = "" if below == math.inf else f" and below {below}"
        raise ValueError(f"{name} must be {kind} {minimum}{limit}, but is {value!r}")


def fraction(name: str, value: float) -> None:
    """Check that a number is above 0 and at most 1.

    Raises:
        ValueError: It is outside, or no number; True and False are none.
    """
    at_least(name, value, 0)
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be a fraction in (0, 1], but is {value!r}")


def _written(axes: list[str]) -> str:
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
