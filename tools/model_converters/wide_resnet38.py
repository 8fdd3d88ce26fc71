#!/usr/bin/env python
"""ImageNet or CAM weights of Wide ResNet-38 for mmwood.WideResNet38.

SRC is the authors' MXNet file (ilsvrc-cls_rna-a1_cls1000_ep-0001.params of
itijyou/ademxapp), which is read without MXNet, or a PyTorch file of PSA or SEAM. DST is
for `init_cfg=dict(type='Pretrained', checkpoint=DST)`. What follows the backbone, such
as the classifiers linear1000 and fc8, is dropped.

Example:
    python tools/model_converters/wide_resnet38.py \
        ilsvrc-cls_rna-a1_cls1000_ep-0001.params weights/wide_resnet38.pth
"""

import math
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import numpy as np

from mmwood.fileio.files import atomic_write
from mmwood.utils.command import run, script_parser

if TYPE_CHECKING:
    from torch import Tensor

# MXNet, src/ndarray/ndarray.cc: NDArray::Save and NDArray::Load. A file is little
# endian and holds the two words LIST_MAGIC and 0, a list of arrays and a list of names,
# each list after its length, a uint64. An array before version 1 starts with its number
# of dimensions instead of a magic word.
LIST_MAGIC = 0x112
V1_MAGIC, V2_MAGIC, V3_MAGIC = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
#: MXNet's type flags (mshadow/base.h) as numpy types.
DTYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
MAX_DIMENSIONS = 32

MXNET_LAYER = re.compile(
    r"(?P<kind>res|bn)(?P<stage>[2-7])(?:a|b(?P<block>\d+))"
    r"_branch(?P<branch>\d\w*?)_(?P<value>weight|gamma|beta|moving_mean|moving_var)"
)
TORCH_LAYER = re.compile(
    r"b(?P<stage>[2-7])(?:_(?P<block>\d+))?"
    r"\.(?P<kind>conv|bn)_branch(?P<branch>\w+)\.(?P<value>\w+)"
)
ENDS = {"conv1a": "stem", "bn7": "norm"}
#: The place of a convolution, and of the normalisation before it, in its block.
PLACES = {"2a": 0, "2b1": 1, "2b2": 2}
VALUES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_var": "running_var",
}
#: Layers behind the backbone: ImageNet's, PSA's and SEAM's.
HEADS = re.compile(r"(linear\d+|fc8|f8_\d|f9)[._]\w+")


def convert_name(name: str) -> str:
    """The name in WideResNet38 of a tensor of the MXNet or PyTorch files.

    ``arg:res4b5_branch2b1_weight`` and ``b4_5.conv_branch2b1.weight`` are both
    ``b4.5.convs.1.weight``. A name of no known layer stays as it is.
    """
    name = re.sub(r"^(arg:|aux:|module\.)", "", name)
    if layer := MXNET_LAYER.fullmatch(name) or TORCH_LAYER.fullmatch(name):
        branch = layer["branch"]
        if branch == "1":
            part = "shortcut"
        else:
            list_name = "norms" if layer["kind"] == "bn" else "convs"
            part = f"{list_name}.{PLACES.get(branch, branch)}"
        value = VALUES.get(layer["value"], layer["value"])
        return f"b{layer['stage']}.{layer['block'] or 0}.{part}.{value}"
    if end := re.fullmatch(r"(conv1a|bn7)[._](\w+)", name):
        return f"{ENDS[end[1]]}.{VALUES.get(end[2], end[2])}"
    return name


def convert(
    source: "dict[str, Tensor]", base_channels: int
) -> "tuple[dict[str, Tensor], list[str]]":
    """The state dict of WideResNet38 from the tensors of a file.

    Args:
        source: The tensors by their names in the file.
        base_channels: The backbone's field.

    Returns:
        The state dict, float32 but for the counters, and the names that were dropped.

    Raises:
        ValueError: A tensor is unknown, appears twice, has another shape than the
            backbone's, or is missing; names the first.
    """
    import torch

    from mmwood.models.backbones import WideResNet38

    with torch.device("meta"):
        expected = WideResNet38(base_channels=base_channels).state_dict()
    found: dict[str, Tensor] = {}
    dropped = []
    for name, tensor in source.items():
        new_name = convert_name(name)
        if HEADS.fullmatch(new_name):
            dropped.append(name)
            continue
        if new_name not in expected:
            raise ValueError(
                f"unexpected tensor {name}: WideResNet38 has no such layer"
            )
        if new_name in found:
            raise ValueError(f"{name}: the file has two tensors for {new_name}")
        if tensor.shape != expected[new_name].shape:
            raise ValueError(
                f"{name} must have shape {tuple(expected[new_name].shape)} of "
                f"{new_name}, but has {tuple(tensor.shape)}"
            )
        found[new_name] = tensor
    state = {}
    for name in expected:
        if name.endswith("num_batches_tracked"):
            # MXNet and old releases of PyTorch do not count.
            state[name] = found.get(name, torch.tensor(0)).long()
        elif name not in found:
            raise ValueError(f"missing tensor: no tensor of the file is {name}")
        else:
            state[name] = found[name].float().contiguous()
    return state, dropped


class _Reader:
    """Reads a file and tells where it ends too early."""

    def __init__(self, file: BinaryIO, path: Path) -> None:
        self.file, self.path = file, path
        self.size = os.fstat(file.fileno()).st_size

    def take(self, count: int) -> bytes:
        start = self.file.tell()
        if start + count > self.size:
            raise ValueError(
                f"{self.path}: truncated: needs {count} bytes at byte {start}, but "
                f"ends at byte {self.size}"
            )
        return self.file.read(count)

    def integers(self, kind: str, count: int = 1) -> tuple[int, ...]:
        layout = f"<{count}{kind}"
        return struct.unpack(layout, self.take(struct.calcsize(layout)))

    def refuse(self, reason: str, start: int) -> NoReturn:
        raise ValueError(f"{self.path}: byte {start}: {reason}")


def read_mxnet_params(path: str | os.PathLike) -> "dict[str, Tensor]":
    """The arrays of an MXNet ``.params`` file by name, without MXNet.

    Raises:
        ValueError: It is no such file, ends too early, or has an array that is not
            dense; names the byte.
    """
    path = Path(path)
    with path.open("rb") as file:
        reader = _Reader(file, path)
        magic, _ = reader.integers("Q", 2)
        if magic != LIST_MAGIC:
            reader.refuse(f"expected MXNet's {LIST_MAGIC:#x}, got {magic:#x}", 0)
        (count,) = reader.integers("Q")
        arrays = [_read_array(reader) for _ in range(count)]
        start = file.tell()
        (num_names,) = reader.integers("Q")
        if num_names != count:
            reader.refuse(f"{num_names} names for {count} arrays", start)
        names = []
        for _ in range(count):
            (length,) = reader.integers("Q")
            names.append(reader.take(length).decode("utf-8", "replace"))
        if file.tell() != reader.size:
            reader.refuse(f"{reader.size - file.tell()} bytes too many", file.tell())
    return dict(zip(names, arrays))


def _read_array(reader: _Reader) -> "Tensor":
    start = reader.file.tell()
    (magic,) = reader.integers("I")
    if magic in (V2_MAGIC, V3_MAGIC):
        (storage,) = reader.integers("i")
        if storage != 0:
            reader.refuse(f"storage type {storage}, expected a dense array (0)", start)
    if magic in (V1_MAGIC, V2_MAGIC, V3_MAGIC):
        (dimensions,) = reader.integers("i")
        kind = "q"
    else:
        dimensions, kind = magic, "I"
    # Versions before 3 have no scalars: no dimension stands for no array.
    if not (0 if magic == V3_MAGIC else 1) <= dimensions <= MAX_DIMENSIONS:
        reader.refuse(f"expected an array, got one of {dimensions} dimensions", start)
    shape = reader.integers(kind, dimensions)
    if any(side < 0 for side in shape):
        reader.refuse(f"expected an array, got one of shape {shape}", start)
    reader.integers("i", 2)  # the device it was on
    (flag,) = reader.integers("i")
    if flag not in range(len(DTYPES)):
        reader.refuse(f"unknown type flag {flag}", start)
    dtype = np.dtype(DTYPES[flag])
    data = reader.take(dtype.itemsize * math.prod(shape))
    from torch import from_numpy

    return from_numpy(np.frombuffer(data, dtype).reshape(shape).copy())


def read_weights(path: str | os.PathLike) -> "dict[str, Tensor]":
    """The named tensors of an MXNet or PyTorch file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is neither kind of file, or damaged.
    """
    import torch

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    with path.open("rb") as file:
        head = file.read(8)
    if path.suffix == ".params" or head == struct.pack("<Q", LIST_MAGIC):
        return read_mxnet_params(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file raises depends on the damage
        raise ValueError(
            f"{path}: expected an MXNet .params file or a PyTorch file of tensors "
            f"alone: {error}"
        ) from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(
        isinstance(tensor, torch.Tensor) for tensor in state.values()
    ):
        raise ValueError(f"{path}: expected a state dict of tensors")
    return state


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("src", metavar="SRC", help="MXNet .params or PyTorch file")
    parser.add_argument("dst", metavar="DST", help="checkpoint to write (.pth)")
    parser.add_argument(
        "--base-channels",
        type=int,
        default=64,
        help="channels of the stem, as the backbone's field (default: 64, published)",
    )
    args = parser.parse_args()

    import torch

    source = read_weights(args.src)
    try:
        state, dropped = convert(source, args.base_channels)
    except ValueError as error:
        raise ValueError(f"{args.src}: {error}") from error
    with atomic_write(args.dst) as temporary:
        torch.save(state, temporary)
    if dropped:
        print(f"dropped, as it is behind the backbone: {', '.join(dropped)}")
    print(f"{args.dst}: {len(state)} tensors of WideResNet38")


if __name__ == "__main__":
    run(main, needs=("mmcv",))
