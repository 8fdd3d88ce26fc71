#!/usr/bin/env python
"""ImageNet weights of torchvision's and timm's models as checkpoints for a backbone.

They are taken from torch's or timm's cache, or downloaded there.

Examples:
    python tools/model_converters/pretrained.py --out weights resnet50 resnet101
    python tools/model_converters/pretrained.py --out weights timm:efficientnet_b0
"""

import logging
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from mmwood.fileio.files import atomic_write
from mmwood.own_images.backbones import find_backbone, torchvision_weights
from mmwood.utils.command import add_input_channels, run, script_parser
from mmwood.utils.require import require

if TYPE_CHECKING:
    from torch import Tensor


def cache() -> Path:
    """The folder in which torch keeps downloaded weights."""
    from torch.hub import get_dir

    return Path(get_dir(), "checkpoints")


def from_torchvision(name: str) -> "dict[str, Tensor]":
    """The weights of a model of torchvision.

    Raises:
        FileNotFoundError: They are not in the cache and cannot be downloaded.
    """
    from torch.hub import load_state_dict_from_url

    url, size = torchvision_weights(name)
    path = cache() / Path(url).name
    try:
        return load_state_dict_from_url(url, map_location="cpu")
    except (URLError, OSError, RuntimeError) as error:
        raise FileNotFoundError(
            f"the weights of {name} ({size:.0f} MB) cannot be downloaded ({error}): "
            f"put the file {url} to {path} and start again"
        ) from error


def from_timm(name: str) -> "dict[str, Tensor]":
    """The weights of a model of timm, under the names of mmpretrain's TIMMBackbone.

    Raises:
        FileNotFoundError: They are not in a cache and cannot be downloaded.
    """
    timm = require("timm", "demo", name)
    # Its hub says five times that it tries again; the error says it once.
    logging.getLogger("huggingface_hub").setLevel(logging.CRITICAL)
    model = name.removeprefix("timm:")
    path = cache() / f"{model}.safetensors"
    overlay = dict(file=str(path)) if path.is_file() else None
    try:
        found = timm.create_model(
            model, pretrained=True, pretrained_cfg_overlay=overlay
        )
    except Exception as error:
        # timm, its hub and its transport each have errors of their own.
        config = timm.get_pretrained_cfg(model)
        place = (
            f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
        )
        weights = find_backbone(name).weights
        about = weights.text if weights else ""
        why = str(error).splitlines()[0]
        raise FileNotFoundError(
            f"the weights of {name} ({about}) cannot be loaded ({why}): put the file "
            f"{place if config.hf_hub_id else config.url} to {path} and start again"
        ) from error
    return {f"timm_model.{key}": value for key, value in found.state_dict().items()}


def main() -> None:
    parser = script_parser(__doc__)
    parser.add_argument("names", nargs="+", help="resnet50, timm:NAME, ...")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    add_input_channels(parser)
    args = parser.parse_args()

    import torch

    from mmwood.engine.weights import with_input_channels

    for name in args.names:
        weights = find_backbone(name).weights
        if weights is None or not weights.name:
            raise ValueError(f"{name}: its weights have a converter of their own")
        state = from_timm(name) if name.startswith("timm:") else from_torchvision(name)
        state = with_input_channels(state, args.in_channels)
        with atomic_write(args.out / weights.file) as temporary:
            torch.save(dict(state_dict=state), temporary)
        print(f"{args.out / weights.file}: {len(state)} tensors of {name}, ImageNet")


if __name__ == "__main__":
    run(main)
