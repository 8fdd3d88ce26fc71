"""The config of a classifier that is named by its name in timm and a checkpoint."""

import math
import os
from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from mmwood.engine.runner import refuse_damaged_file
from mmwood.models.classifiers.timm_network import Activation, timm_with
from mmwood.utils.locations import read_config


def timm_config(
    name: str,
    checkpoint: str | os.PathLike,
    classes: Sequence[str],
    activation: Activation = "softmax",
) -> Config:
    """A config whose test predicts as timm evaluates the network.

    Size, crop, interpolation, mean and standard deviation are those of timm's
    ``pretrained_cfg``.

    Args:
        name: Of the network, such as 'efficientnet_lite0'.
        checkpoint: See :class:`mmwood.TimmNetwork`.
        classes: Their names, in the order of the network's outputs.
        activation: See :class:`mmwood.TimmNetwork`.

    Raises:
        ImportError: timm is not installed.
        ValueError: timm has no such network; the checkpoint is cut off; timm crops for
            the network in a way that is not done here.
    """
    timm = timm_with(name)
    if not os.fspath(checkpoint).endswith(".safetensors"):
        refuse_damaged_file(checkpoint, "checkpoint")
    known = timm.models.get_pretrained_cfg(name)
    # Where timm knows nothing of a network, it takes what most of them take.
    data = timm.data.resolve_data_config(
        {}, known.to_dict() if known else {"crop_mode": "center"}, use_test_size=True
    )
    cfg = read_config("configs/_base_/default_runtime.py")
    cfg.model = dict(
        type="mmwood.TimmNetwork",
        model_name=name,
        checkpoint=os.fspath(checkpoint),
        num_classes=len(classes),
        activation=activation,
        data_preprocessor=dict(
            mean=[255 * value for value in data["mean"]],
            std=[255 * value for value in data["std"]],
            to_rgb=True,
        ),
    )
    cfg.test_dataloader = dict(
        batch_size=32,
        num_workers=4,
        dataset=dict(classes=list(classes), pipeline=_pipeline(name, data)),
    )
    cfg.test_cfg = dict()
    return cfg


def _pipeline(name: str, data: dict[str, Any]) -> list[dict[str, Any]]:
    channels, height, width = data["input_size"]
    how = dict(backend="pillow", interpolation=data["interpolation"])
    if data["crop_mode"] == "squash":
        size = [dict(type="Resize", scale=(width, height), **how)]
    elif data["crop_mode"] == "center" and channels == 3 and height == width:
        edge = math.floor(height / data["crop_pct"])
        size = [
            dict(type="ResizeEdge", scale=edge, edge="short", **how),
            dict(type="CenterCrop", crop_size=height),
        ]
    else:
        raise ValueError(
            f"--timm {name} takes inputs of {data['input_size']} by the crop "
            f"{data['crop_mode']!r}: mine with a config and MMPretrain's TimmClassifier"
        )
    return [dict(type="mmwood.LoadImage"), *size, dict(type="PackInputs")]
