"""The configs that are called published, value by value, beside METHOD.md.

A row is a config, a field, its published value and the words of METHOD.md that give it.
"""

import inspect
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config, ConfigDict
from mmengine.registry import DefaultScope

from mmwood.registry import import_locations

pytest.importorskip("mmseg")
from mmwood.registry import DATASETS, EVALUATOR, HOOKS, METRICS, MODELS, TRANSFORMS

REPOSITORY = Path(__file__).resolve().parents[1]
METHOD = REPOSITORY.parent / "shared/METHOD.md"

CLASSIFIER = "configs/classification/resnet50_voc12aug.py"
WOOD = "configs/wood/resnet50_wood_voc12aug.py"
IRN = "configs/irn/resnet50_irn_voc12aug.py"
ADVCAM = "configs/advcam/resnet50_advcam_voc12aug.py"
SEAM = "configs/seam/wrn38_seam_voc12aug.py"
NETWORK = "configs/segmentation/deeplabv2_r101_voc.py"
PROGRAM = "configs/segmentation/deeplabv2_r101_voc_deeplab-pytorch.py"
SBCE = "configs/sbce/deeplabv2_r101_voc_single-run.py"

LABEL = "train_dataloader.dataset.pipeline.label"
RESIZE = "train_dataloader.dataset.pipeline.resize"
SGD = "optim_wrapper.optimizer"
HEAD = "model.head"
SEEDS = "default_hooks.pseudo_label.threshold"
RULES = "optim_wrapper.paramwise_cfg.custom_keys"
LOSS = "model.decode_head.loss_decode"
IA_IOU = "test_evaluator.metrics.ia_iou"

_CLASSIFIER_RUN = "SGD, poly 0.9, lr 0.1 for the backbone's trained stages"
_IRN_RUN = (
    "SGD lr 0.1 (edge) and 1.0 (displacement), momentum as in section 1, 3 epochs"
)
_SEAM_RUN = "Batch 8, 8 epochs, lr 0.01, weight decay 5e-4, crop 448"
_NETWORK_RUN = "Batch 10, 30,000 iterations, SGD momentum 0.9, lr 2.5e-4"
_WALK = "affinity within R = 5 (paths as above)"
_AFFINITY = "fg = argmax over [0.30, CAM], bg = argmax over [0.05, CAM]"

ROWS = [
    (CLASSIFIER, "model.backbone.depth", 50, "Classifier (IRN's): ResNet-50"),
    (CLASSIFIER, "model.backbone.strides", [1, 2, 2, 1], "so output stride 16"),
    (CLASSIFIER, "model.backbone.norm_eval", True, "batch-norm frozen"),
    (CLASSIFIER, "train_pipeline.1.scale", [320, 320], "long side resized to 320..640"),
    (CLASSIFIER, "train_pipeline.1.ratio_range", [1.0, 2.0], "320..640"),
    (CLASSIFIER, "train_pipeline.3.crop_size", 512, "random crop 512"),
    (CLASSIFIER, f"{SGD}.lr", 0.1, _CLASSIFIER_RUN),
    (CLASSIFIER, f"{SGD}.momentum", 1e-4, "momentum that gave the published numbers"),
    (CLASSIFIER, f"{SGD}.weight_decay", 1e-4, "weight decay 1e-4"),
    (CLASSIFIER, f"{RULES}.head_classifier.lr_mult", 10.0, "ten times that"),
    (CLASSIFIER, "train_dataloader.batch_size", 16, "batch 16, 5 epochs"),
    (CLASSIFIER, "train_cfg.max_epochs", 5, "batch 16, 5 epochs"),
    (CLASSIFIER, "param_scheduler.0.power", 0.9, "poly 0.9"),
    (CLASSIFIER, SEEDS, 0.15, "threshold 0.15 by default"),
    (WOOD, "default_hooks.ood_clusters.clusters", 50, "K-means (K = 50)"),
    (WOOD, "default_hooks.ood_clusters.ood_size", 500, "OoD images to long side 500"),
    (WOOD, f"{HEAD}.nearest", 0.2, "(τ = 20;"),
    (WOOD, f"{HEAD}.per", "image", "per-image set is `nearest='image'`"),
    (WOOD, f"{HEAD}.distance_weight", 0.007, "λ = 0.007, batch 16"),
    (WOOD, f"{HEAD}.normalize", True, "it is the default (`normalize=True`)"),
    (WOOD, f"{HEAD}.alpha", 1.0, "Paper: α = 1."),
    (WOOD, f"{HEAD}.adversarial_step", None, "Both are options, off by default"),
    (WOOD, f"{HEAD}.excluded_classes", (), "Both are options, off by default"),
    (WOOD, f"{HEAD}.margin", None, "off by default"),
    (WOOD, "train_dataloader.batch_size", 32, "batch 16 in-distribution + 16 OoD"),
    (WOOD, "train_cfg.max_epochs", 5, "16 OoD, 5 epochs"),
    (IRN, f"{LABEL}.foreground", 0.30, _AFFINITY),
    (IRN, f"{LABEL}.background", 0.05, _AFFINITY),
    (IRN, f"{LABEL}.refine.method", "crf", "each refined by a dense CRF"),
    (IRN, "model.test_cfg.radius", 5, _WALK),
    (IRN, "model.test_cfg.beta", 10, "raised elementwise to β = 10"),
    (IRN, "model.test_cfg.steps", 256, "256 steps y_j"),
    (IRN, "model.radius", 10, "pair of pixels within radius 10"),
    (IRN, f"{SGD}.lr", 0.1, _IRN_RUN),
    (IRN, f"{SGD}.momentum", 1e-4, _IRN_RUN),
    (IRN, f"{RULES}.displacement.lr_mult", 10.0, _IRN_RUN),
    (IRN, "train_cfg.max_epochs", 3, _IRN_RUN),
    (IRN, "train_dataloader.batch_size", 32, "3 epochs, batch 32, crop 512"),
    (IRN, "train_dataloader.dataset.pipeline.crop.crop_size", [512, 512], "crop 512"),
    (IRN, f"{RESIZE}.ratio_range", [0.5, 1.5], "scale 0.5..1.5"),
    (IRN, SEEDS, 0.25, "argmax with background score 0.25"),
    (ADVCAM, "tta_model.steps", 27, "27 steps of size 0.08"),
    (ADVCAM, "tta_model.step_size", 0.08, "27 steps of size 0.08"),
    (ADVCAM, "tta_model.drift_weight", 7.0, "minus 7 × the L1 drift"),
    (ADVCAM, "tta_model.double_all", False, "keep the doubling for scale 0.5 only"),
    (SEAM, "train_dataloader.batch_size", 8, _SEAM_RUN),
    (SEAM, "train_cfg.max_epochs", 8, _SEAM_RUN),
    (SEAM, f"{SGD}.lr", 0.01, _SEAM_RUN),
    (SEAM, f"{SGD}.weight_decay", 5e-4, _SEAM_RUN),
    (SEAM, "train_pipeline.4.crop_size", 448, _SEAM_RUN),
    (NETWORK, "model.backbone.depth", 101, "DeepLab-v2: ResNet-101"),
    (NETWORK, "model.backbone.strides", [1, 2, 1, 1], "output stride 8"),
    (NETWORK, "model.decode_head.dilations", (6, 12, 18, 24), "rates 6/12/18/24"),
    (NETWORK, "train_dataloader.batch_size", 10, _NETWORK_RUN),
    (NETWORK, "train_cfg.max_iters", 30000, _NETWORK_RUN),
    (NETWORK, f"{SGD}.lr", 2.5e-4, _NETWORK_RUN),
    (NETWORK, f"{SGD}.momentum", 0.9, _NETWORK_RUN),
    (NETWORK, f"{SGD}.weight_decay", 5e-4, "weight decay 5e-4, poly 0.9, crop 321"),
    (NETWORK, "param_scheduler.0.power", 0.9, "weight decay 5e-4, poly 0.9, crop 321"),
    (NETWORK, "train_pipeline.3.crop_size", [321, 321], "crop 321"),
    (NETWORK, "train_pipeline.2.ratio_range", [0.5, 1.5], "scale 0.5..1.5; dense CRF"),
    (
        NETWORK,
        "model.backbone.init_cfg.checkpoint",
        "torchvision://resnet101",
        "ImageNet initialisation (COCO initialisation adds points",
    ),
    (PROGRAM, "train_cfg.max_iters", 20000, "Its VOC schedule is 20,000 iterations"),
    (
        PROGRAM,
        "model.scales",
        [1, 0.75, 0.5],
        "(scales 1, 0.75, 0.5 and their maximum)",
    ),
    (PROGRAM, "model.decode_head.loss_on", "logits", "its loss on the logits' grid"),
    (PROGRAM, "tta_pipeline.1.transforms.0.0.type", "LoadAnnotations", "without flip"),
    (SBCE, "model.decode_head.loss_on", "logits", "shrunk to the logits' grid (41×41)"),
    (SBCE, "model.scales", [1, 0.75, 0.5], "the WACV program has 30,000"),
    (SBCE, f"{LOSS}.form", "program", "can have given the published table"),
    (SBCE, f"{LOSS}.limit", 5.0, "`reference='foreground'`, τ = 5"),
    (SBCE, "train_cfg.max_iters", 30000, "one run of 30,000 iterations"),
    (SBCE, "default_hooks.ewc.switch_at", 15000, "switched at 15,000"),
    (SBCE, f"{IA_IOU}.void", "connects", "`void='connects'` is the only published"),
    (SBCE, f"{IA_IOU}.background", "image", "Background: one instance per image"),
    (SBCE, f"{IA_IOU}.connectivity", 8, "(8-connected) per class"),
    (SBCE, f"{IA_IOU}.size_limits", (32**2, 96**2), "small < 32², medium < 96²"),
    (SBCE, f"{IA_IOU}.whole_pixels", False, "a field, off by default"),
]


def value(cfg: ConfigDict, field: str) -> Any:
    """What a config says, or where it is silent the default of what it names."""
    *path, last = field.split(".")
    owner = cfg
    for step in path:
        owner = cfg
        # A dot of the key itself is written as an underscore.
        step = step if step in cfg or isinstance(cfg, list) else step.replace("_", ".")
        cfg = cfg[int(step) if isinstance(cfg, list) else step]
    if last in cfg:
        return cfg[last]
    silent, cfg = cfg, cfg if "type" in cfg else owner
    registries = MODELS, HOOKS, METRICS, DATASETS, TRANSFORMS, EVALUATOR
    found = (registry.get(cfg["type"]) for registry in registries)
    cls = next(filter(None, found))
    if silent is not cfg:
        return cls.TEST_CFG[last]
    for base in cls.__mro__:
        parameters = inspect.signature(base.__init__).parameters
        if last in parameters:
            return parameters[last].default
    raise KeyError(f"{field}: {cls.__name__} has no such field")


@pytest.mark.parametrize(
    ("config", "field", "published", "words"),
    [pytest.param(*row, id=f"{Path(row[0]).stem}: {row[1]}") for row in ROWS],
)
def test_setting(config, field, published, words):
    import_locations()
    cfg = Config.fromfile(REPOSITORY / config)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        found = value(cfg._cfg_dict, field)
    if isinstance(published, (list, tuple)):
        found, published = list(found), list(published)
    assert found == published, words


def test_the_words_are_in_the_method():
    if not METHOD.is_file():
        pytest.skip("METHOD.md is not beside the project")
    text = METHOD.read_text(encoding="utf-8")
    assert [words for *_, words in ROWS if words not in text] == []
