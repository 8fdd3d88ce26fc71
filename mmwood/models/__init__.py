"""Registered models, each imported when a config or a program names it.

Losses need mmengine alone, backbones mmcv also, decode heads and segmentors mmseg, the
classifiers and their heads mmpretrain, which imports torchvision. Naming a loss takes
none of these packages, and naming a classifier does not wait seconds for mmseg.
"""

from importlib import import_module

#: Class -> the package below this one that registers it.
PACKAGES = {
    "AdvCAM": "classifiers",
    "CAMClassifier": "classifiers",
    "CAMHead": "heads",
    "DeepLabV2Head": "decode_heads",
    "FineGrainedBackgroundLoss": "losses",
    "IRN": "relation_networks",
    "MapConsistencyLoss": "losses",
    "MultiScaleCAM": "classifiers",
    "MultiScaleEncoderDecoder": "segmentors",
    "PatchTokenContrastLoss": "losses",
    "SEAM": "classifiers",
    "SegTTAModel": "segmentors",
    "SizeBalancedCELoss": "losses",
    "TimmNetwork": "classifiers",
    "TokenContrastLoss": "losses",
    "WOoDHead": "heads",
    "WideResNet38": "backbones",
}

__all__ = list(PACKAGES)


def __getattr__(name: str) -> type:
    if name not in PACKAGES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{PACKAGES[name]}"), name)
