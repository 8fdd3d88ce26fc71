"""How the values of an image become the channels of 8 bits that a network sees."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: The values that are black and white in images of more than 8 bits a channel: between
#: them 0 to 255 is linear, what is beyond is black and white, too. A pixel without a
#: number (NaN) is black. Images of 8 bits stay as they are.
Levels = tuple[float, float]


@dataclass(frozen=True)
class Decoding:
    """The one rule by which all stages read images; see :func:`check_decoding`.

    Attributes:
        levels: :data:`Levels`, of all bands or of each. None divides 16 bits by 256.
        bands: The numbers of the bands that a network sees, from 1, in its order.
            People see the first three as red, green and blue, of fewer the first in
            grey. None is the picture that a file holds for people.
    """

    levels: Levels | tuple[Levels, ...] | None = None
    bands: tuple[int, ...] | None = None

    @property
    def channels(self) -> int:
        """How many channels a network sees."""
        return 3 if self.bands is None else len(self.bands)

    def to_bytes(self, values: np.ndarray) -> np.ndarray:
        """Values of any depth with 8 bits.

        Shape:
            - values: (H, W) or (H, W, channels); output: the same, uint8

        Raises:
            ValueError: There are no levels, and nobody knows what is white.
        """
        if values.dtype == np.uint8:
            return values
        if self.levels is None:
            return _of_sixteen(values)
        # A pair, or a row for each band.
        low, high = np.asarray(self.levels, dtype=np.float32).T
        scaled = values.astype(np.float32)
        scaled -= low
        scaled *= 255 / (high - low)
        np.nan_to_num(scaled, copy=False, nan=0)
        return np.rint(scaled.clip(0, 255, out=scaled)).astype(np.uint8)

    def __str__(self) -> str:
        parts = [
            f"{name} {value}" for name, value in vars(self).items() if value is not None
        ]
        return ", ".join(parts)


#: As people see it, and 16 bits divided by 256.
PICTURE = Decoding()


def check_decoding(
    levels: Sequence | None = None,
    bands: Sequence[int] | None = None,
    prefix: str = "",
) -> Decoding:
    """A decoding of what a config or a person says.

    Args:
        levels: The values that are black and white; with ``bands`` a pair for each is
            possible, too, or their numbers one behind the other.
        bands: Numbers of bands.
        prefix: What stands before a field's name in errors, such as '--'.

    Raises:
        ValueError: ``levels`` are not two numbers, the lower one first, or not as many
            pairs as there are bands; ``bands`` are no numbers from 1, or one is named
            twice.

    Example:
        >>> check_decoding((0, 4095), (4, 3, 2, 8)).channels
        4
    """
    if bands is not None:
        whole = all(isinstance(band, int) and band >= 1 for band in bands)
        if not bands or not whole or len(set(bands)) < len(bands):
            raise ValueError(
                f"{prefix}bands: numbers of bands from 1, each once, got {list(bands)}"
            )
    chosen = None if bands is None else tuple(bands)
    if levels is None:
        return Decoding(None, chosen)
    pairs = np.asarray(levels, dtype=float).reshape(-1)
    wanted = (2,) if bands is None else (2, 2 * len(bands))
    if pairs.size not in wanted or not all(
        -np.inf < low < high < np.inf for low, high in pairs.reshape(-1, 2)
    ):
        each = "" if bands is None else ", or two for each band"
        raise ValueError(
            f"{prefix}levels: the values that are black and white, the lower one "
            f"first{each}, got {list(levels)}"
        )
    numbers = map(_number, pairs.tolist())
    found = tuple(zip(numbers, numbers))
    return Decoding(found[0] if len(found) == 1 else found, chosen)


def shown_channels(channels: np.ndarray) -> np.ndarray:
    """What people see of what a network sees.

    Shape:
        - channels: (H, W, n); output: (H, W, 3), red, green and blue
    """
    if channels.shape[2] >= 3:
        return channels[..., :3]
    return np.repeat(channels[..., :1], 3, axis=2)


def _of_sixteen(values: np.ndarray) -> np.ndarray:
    refuse_unknown_white(values.dtype)
    most = int(values.max())
    # Twelve bits in a file of sixteen, for instance.
    if 0 < most < 4096:
        raise ValueError(
            f"has 16 bits, but no value above {most}: divided by 256 it would be "
            "black. Say which values are black and white (--levels 0 "
            f"{(1 << most.bit_length()) - 1}, or levels of mmwood.LoadImage), or save "
            "it with 8 bits"
        )
    return (values >> 8).astype(np.uint8)


def refuse_unknown_white(dtype: np.dtype | str) -> None:
    """Refuse values that are not of 8 or 16 bits, which no rule scales without levels.

    Raises:
        ValueError: They are not.
    """
    dtype = np.dtype(dtype)
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return
    kind = "floats" if dtype.kind == "f" else f"integers of {8 * dtype.itemsize} bits"
    if dtype == np.int16:
        kind = "integers of 16 bits with a sign"
    raise ValueError(
        f"holds {kind}, of which nobody knows what is white: say which values are "
        "black and white (--levels LOW HIGH, or levels of mmwood.LoadImage), or save "
        "it with 8 or 16 bits"
    )


def _number(value: float) -> float:
    return int(value) if value == int(value) else value
