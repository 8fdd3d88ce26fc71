"""mmwood's types in stock configs, each in a fresh process without custom_imports."""

import subprocess
import sys
import textwrap

import pytest

SEGMENTATION = """
import sys

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
# Imported for nothing, they would cost every start some seconds.
assert not any(sys.modules.get(name) for name in ("mmpretrain", "sklearn"))
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

SILENT = "import mmwood, mmwood.registry"

BLOCK = """
import sys
for name in ("mmpretrain", "torchvision"):
    sys.modules[name] = None
"""


def run(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def test_loss_in_a_stock_segmentation_config():
    pytest.importorskip("mmseg")
    last = run(SEGMENTATION).splitlines()[-1]
    assert last.startswith("mmseg.")
    assert last.endswith(" SizeBalancedCELoss")


def test_loss_without_mmpretrain_and_torchvision():
    pytest.importorskip("mmseg")
    code = BLOCK + SEGMENTATION
    assert run(code).splitlines()[-1].endswith(" SizeBalancedCELoss")


def test_head_in_a_stock_classification_config():
    pytest.importorskip("mmpretrain")
    last = run(CLASSIFICATION).splitlines()[-1]
    assert last.startswith("mmpretrain.")
    assert last.endswith(" CAMHead")


def test_everything_from_no_scope():
    pytest.importorskip("mmpretrain")
    assert run(EMPTY_SCOPE).splitlines()[-1] == (
        "PseudoLabelHook SeedMetric ImageLevelDataset OoDRatioSampler LoadImage "
        "CAMClassifier"
    )


def test_every_model_is_found_by_its_name():
    pytest.importorskip("mmpretrain")
    pytest.importorskip("mmseg")
    run(EVERY_MODEL)


def test_the_absent_package_is_named():
    assert run(BLOCK + ABSENT).splitlines()[-1] == "mmpretrain"


def test_import_is_silent():
    assert run(SILENT) == ""
