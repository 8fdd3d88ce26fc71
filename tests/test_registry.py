"""mmwood's types in stock configs, each in a fresh process without custom_imports."""

import subprocess
import sys

import pytest

SEGMENTATION = """
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

init_default_scope("mmseg")
cfg = Config(dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor"),
    backbone=dict(type="ResNetV1c", depth=18, stem_channels=8, base_channels=8),
    decode_head=dict(
        type="FCNHead", in_channels=64, in_index=3, channels=8, num_classes=4,
        loss_decode=dict(type="mmwood.SizeBalancedCELoss", limit=3.0)),
    train_cfg=dict(), test_cfg=dict(mode="whole")))
model = MODELS.build(cfg)
print(type(model).__module__, type(model.decode_head.loss_decode).__name__)
"""

CLASSIFICATION = """
import sys

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope, init_default_scope

init_default_scope("mmpretrain")
cfg = Config(dict(
    type="ImageClassifier",
    backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
    head=dict(type="mmwood.CAMHead", num_classes=4, in_channels=64)))
model = MODELS.build(cfg)
print(type(model).__module__, type(model.head).__name__)
assert not any(sys.modules.get(name) for name in ("mmseg", "sklearn"))
assert DefaultScope.get_current_instance().scope_name == "mmpretrain"
"""

EMPTY_SCOPE = """
from mmengine.registry import DATA_SAMPLERS, DATASETS, HOOKS
from mmengine.registry import METRICS, MODELS, TRANSFORMS

print(HOOKS.get("mmwood.PseudoLabelHook").__name__,
      METRICS.get("mmwood.SeedMetric").__name__,
      DATASETS.get("mmwood.ImageLevelDataset").__name__,
      DATA_SAMPLERS.get("mmwood.OoDRatioSampler").__name__,
      TRANSFORMS.get("mmwood.LoadImage").__name__,
      MODELS.get("mmwood.CAMClassifier").__name__)
"""

EVERY_MODEL = """
from importlib import import_module
from pkgutil import walk_packages

import mmwood.models as models
from mmwood.registry import MODELS

for name, package in models.PACKAGES.items():
    assert MODELS.get(name).__module__.startswith(f"mmwood.models.{package}."), name
for module in walk_packages(models.__path__, "mmwood.models."):
    import_module(module.name)
assert set(MODELS.module_dict) == set(models.PACKAGES)
"""

ABSENT = """
from mmengine.registry import MODELS, init_default_scope

init_default_scope("mmengine")
try:
    MODELS.build(dict(type="mmwood.CAMHead", num_classes=4, in_channels=64))
except ImportError as error:
    print(error.name.split(".")[0])
"""

BLOCK = """
import sys
for name in ("mmpretrain", "torchvision", "sklearn"):
    sys.modules[name] = None
"""


def run(code: str) -> str:
    """The last line that a fresh process prints."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().rpartition("\n")[2]


@pytest.mark.slow
def test_loss_in_a_stock_config_without_mmpretrain_and_torchvision():
    pytest.importorskip("mmseg")
    module, name = run(BLOCK + SEGMENTATION).split()
    assert module.startswith("mmseg.")
    assert name == "SizeBalancedCELoss"


@pytest.mark.slow
def test_head_in_a_stock_classification_config():
    pytest.importorskip("mmpretrain")
    module, name = run(CLASSIFICATION).split()
    assert module.startswith("mmpretrain.")
    assert name == "CAMHead"


@pytest.mark.slow
def test_everything_from_no_scope():
    pytest.importorskip("mmpretrain")
    pytest.importorskip("mmseg")
    assert run(EMPTY_SCOPE + EVERY_MODEL) == (
        "PseudoLabelHook SeedMetric ImageLevelDataset OoDRatioSampler LoadImage "
        "CAMClassifier"
    )


@pytest.mark.slow
def test_the_absent_package_is_named():
    assert run(BLOCK + ABSENT) == "mmpretrain"


@pytest.mark.slow
def test_import_is_silent():
    assert run("import mmwood, mmwood.registry") == ""
