"""OpenCV's bilinear resizing of 8-bit images, in operations that a trace keeps."""

from typing import cast

import torch
from torch import Tensor

#: Bits of a weight.
_BITS = 11


def resize_linear(image: Tensor, size: Tensor) -> Tensor:
    r"""Resize as ``cv2.resize`` with ``INTER_LINEAR`` does it of 8 bits, to the bit.

    A row of the result lies at :math:`y = (i + 0.5) H / h - 0.5` of the image, between
    the rows :math:`\lfloor y \rfloor` and :math:`\lfloor y \rfloor + 1`, and a column
    likewise. The weights are whole numbers of :math:`2^{-11}`; after the columns four
    bits are cut off, and sixteen of each row's product before their sum is rounded to a
    level (OpenCV's ``modules/imgproc/src/resize.cpp``). Interpolation of floats gives
    another level in one of eight pixels.

    Args:
        image: Levels, 0 to 255, of any type. Shape: (..., H, W).
        size: (h, w), which a trace may have computed. Shape: (2,) int64.

    Returns:
        Levels, on the device of ``image``. Shape: (..., h, w) int32.
    """
    levels = image.to(torch.int32)
    (left, right), weights = _neighbours(image.shape[-1], size[1], image.device)
    columns = levels.index_select(-1, left) * weights[0]
    columns = columns + levels.index_select(-1, right) * weights[1]
    columns = _shifted(columns, 4)
    (above, below), weights = _neighbours(image.shape[-2], size[0], image.device)
    rows = _shifted(columns.index_select(-2, above) * weights[0][:, None], 16)
    rows = rows + _shifted(columns.index_select(-2, below) * weights[1][:, None], 16)
    return _shifted(rows + 2, 2)


def _neighbours(
    length: int, wanted: Tensor, device: torch.device
) -> tuple[list[Tensor], list[Tensor]]:
    """Both neighbours of each place along an axis, and their weights; all (wanted,)."""
    wanted = wanted.to("cpu")
    # Of one element each: of none, torch's ONNX exporter makes floats of 32 bits.
    scale = 1 / (wanted[None].double() / torch.as_tensor(length)[None].double())
    places = torch.arange(cast(int, wanted), dtype=torch.float64)
    places = ((places + 0.5) * scale - 0.5).float()
    start = places.floor()
    end = places - start
    weights = [(part * 2**_BITS).round().to(torch.int32) for part in (1 - end, end)]
    # Beyond an edge lies a copy of it.
    first, last = start.long().clamp(min=0), torch.as_tensor(length - 1)
    second = (start.long() + 1).clamp(min=0)
    indices = [torch.minimum(first, last), torch.minimum(second, last)]
    return [part.to(device) for part in indices], [part.to(device) for part in weights]


def _shifted(numbers: Tensor, bits: int) -> Tensor:
    """Without their last bits; none is negative."""
    return torch.div(numbers, 2**bits, rounding_mode="trunc")
