"""MMSegmentation's own configs, as installed, take mmwood's parts by overrides."""

import copy
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytest.importorskip("mmseg")

import mmseg
from mmcv.cnn.bricks import DropPath
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.registry import MODELS

from mmwood.engine.ewc_file import load_task
from mmwood.engine.fisher import set_size_balanced, size_balanced_losses
from mmwood.engine.runner import use_tta
from mmwood.fileio.labels import save_label_png

pytestmark = pytest.mark.slow
CONFIGS = Path(mmseg.__file__).parent / ".mim/configs"
WEIGHT = 50.0
NUMBERS = itertools.count()

RESNET = {
    "model.backbone.stem_channels": 4,
    "model.backbone.base_channels": 4,
    "model.decode_head.in_channels": 128,
    "model.decode_head.channels": 8,
    "model.auxiliary_head.in_channels": 64,
    "model.auxiliary_head.channels": 8,
}
DEEPLABV3PLUS = RESNET | {
    "model.decode_head.c1_in_channels": 16,
    "model.decode_head.c1_channels": 4,
}
UPERNET = RESNET | {"model.decode_head.in_channels": [16, 32, 64, 128]}
HRNET = {
    f"model.backbone.extra.stage{stage}.{key}": value
    for stage, branches in ((2, 2), (3, 3), (4, 4))
    for key, value in (
        ("num_modules", 1),
        ("num_blocks", (1,) * branches),
        ("num_channels", (2, 4, 8, 16)[:branches]),
    )
} | {
    "model.decode_head.0.in_channels": [2, 4, 8, 16],
    "model.decode_head.0.channels": 30,
    "model.decode_head.1.in_channels": [2, 4, 8, 16],
    "model.decode_head.1.channels": 8,
    "model.decode_head.1.ocr_channels": 4,
}
SEGFORMER = {
    "model.backbone.embed_dims": 4,
    "model.backbone.num_layers": [1, 1, 1, 1],
    "model.decode_head.in_channels": [4, 8, 20, 32],
    "model.decode_head.channels": 8,
}
SWIN = {
    "model.backbone.embed_dims": 12,
    "model.backbone.depths": [1, 1, 2, 1],
    "model.decode_head.in_channels": [12, 24, 48, 96],
    "model.decode_head.channels": 8,
    "model.auxiliary_head.in_channels": 48,
    "model.auxiliary_head.channels": 8,
}
CONVNEXT = {
    "model.backbone.arch": dict(
        _delete_=True, depths=[1, 1, 2, 1], channels=[4, 8, 16, 32]
    ),
    "model.decode_head.in_channels": [4, 8, 16, 32],
    "model.decode_head.channels": 8,
    "model.auxiliary_head.in_channels": 16,
    "model.auxiliary_head.channels": 8,
}
SLIDE = {"model.test_cfg": dict(mode="slide", crop_size=(64, 64), stride=(48, 48))}
KNET = {
    key: value
    for key, value in RESNET.items()
    if not key.startswith("model.decode_head")
} | {
    "model.decode_head.kernel_generate_head.in_channels": 128,
    "model.decode_head.kernel_generate_head.channels": 8,
    "model.decode_head.kernel_update_head": {
        str(stage): dict(
            in_channels=8,
            out_channels=8,
            num_heads=2,
            feedforward_channels=16,
            kernel_updator_cfg=dict(in_channels=8, feat_channels=8, out_channels=8),
        )
        for stage in range(3)
    },
}
# Their branches fit together where the sides are multiples of 8. The weights are those
# of the 19 classes of Cityscapes.
PIDNET = SLIDE | {
    "model.backbone.channels": 4,
    "model.backbone.ppm_channels": 4,
    "model.backbone.num_stem_blocks": 1,
    "model.backbone.num_branch_blocks": 1,
    "model.decode_head.in_channels": 16,
    "model.decode_head.channels": 8,
    "model.decode_head.loss_decode": {
        number: dict(class_weight=None) for number in "013"
    },
}
DDRNET = SLIDE | {
    "model.backbone.channels": 4,
    "model.backbone.ppm_channels": 4,
    "model.decode_head.in_channels": 16,
    "model.decode_head.channels": 8,
    # Of a probability below 2, every pixel is hard.
    "model.decode_head.loss_decode": {
        number: dict(class_weight=None, thres=2.0) for number in "01"
    },
}
#: Hard pixels by their probability, and by their loss.
OHEM = dict(type="OHEMPixelSampler", thresh=0.1, min_kept=1000)
LOSS_OHEM = dict(type="OHEMPixelSampler", min_kept=1000)

#: A stock config and what makes its model small. Another config is another line.
STOCK = [
    ("fcn/fcn_r50-d8_4xb4-20k_voc12aug-512x512.py", RESNET),
    ("pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py", RESNET),
    ("deeplabv3plus/deeplabv3plus_r50-d8_4xb4-20k_voc12aug-512x512.py", DEEPLABV3PLUS),
    ("upernet/upernet_r50_4xb4-20k_voc12aug-512x512.py", UPERNET),
    ("ocrnet/ocrnet_hr18_4xb4-20k_voc12aug-512x512.py", HRNET),
    ("segformer/segformer_mit-b0_8xb2-160k_ade20k-512x512.py", SEGFORMER),
    (
        "swin/swin-tiny-patch4-window7-in1k-pre_upernet_8xb2-160k_ade20k-512x512.py",
        SWIN,
    ),
    ("convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py", CONVNEXT),
    (
        "pspnet/pspnet_r50-d8_4xb4-40k_voc12aug-512x512.py",
        RESNET | SLIDE | {"model.decode_head.sampler": OHEM},
    ),
    (
        "segformer/segformer_mit-b0_8xb1-160k_cityscapes-1024x1024.py",
        SEGFORMER | {"model.decode_head.sampler": LOSS_OHEM},
    ),
    # These three compute their loss in training mode only.
    ("knet/knet-s3_r50-d8_fcn_8xb2-adamw-80k_ade20k-512x512.py", KNET),
    ("pidnet/pidnet-s_2xb6-120k_1024x1024-cityscapes.py", PIDNET),
    ("ddrnet/ddrnet_23-slim_in1k-pre_2xb6-120k_cityscapes-1024x1024.py", DDRNET),
]
WITH_TTA = [STOCK[4], STOCK[5]]


def names(stock: list[tuple[str, dict]]) -> list[str]:
    return [Path(path).stem for path, _ in stock]


every_stock_config = pytest.mark.parametrize(
    ("path", "overrides"), STOCK, ids=names(STOCK)
)


@pytest.fixture
def data(voc_folder: Path) -> Path:
    """``voc_folder`` with a second, small component of a class in every image."""
    for path in (voc_folder / "SegmentationClass").glob("*.png"):
        with Image.open(path) as image:
            mask = np.array(image)
        mask[8:14, 26:32] = mask[10, 10]
        save_label_png(mask, path)
    return voc_folder


def entries(
    node: Config | dict | list, prefix: str = ""
) -> Iterator[tuple[str, object]]:
    """The dotted name of every entry of a config, and its value."""
    for key, value in enumerate(node) if isinstance(node, list) else node.items():
        yield f"{prefix}{key}", value
        if isinstance(value, (dict, list)):
            yield from entries(value, f"{prefix}{key}.")


def lacks_background(config: Config) -> bool:
    """Whether label 0 is left out, as in ADE20K: a class is missing then."""
    return any(n.endswith("reduce_zero_label") and v for n, v in entries(config))


def small_stock(path: str, overrides: dict, root: Path) -> Config:
    """A stock config at small size on our data, with nothing of mmwood in it."""
    if not (CONFIGS / path).is_file():
        pytest.skip(f"this installation of mmseg has no {CONFIGS / path}")
    config = Config.fromfile(CONFIGS / path, import_custom_modules=False)
    # Nine tenths of the time would go into formatting the copies in the work dir.
    config = Config(config.to_dict(), format_python_code=False)
    imports = config.get("custom_imports", {}).get("imports", [])
    for module in [imports] if isinstance(imports, str) else imports:
        pytest.importorskip(module)
    zero_left_out = lacks_background(config)
    classes = ["background", "disc", "square", "stripe"][zero_left_out:]
    dataset = dict(
        type="BaseSegDataset",
        data_root=str(root),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        ann_file="ImageSets/Segmentation/train.txt",
        metainfo=dict(classes=classes, palette=[[0, 0, 0]] * len(classes)),
        reduce_zero_label=zero_left_out,
    )
    fixed = dict(
        num_classes=len(classes),
        pretrained=None,
        init_cfg=None,
        num_workers=0,
        persistent_workers=False,
        size=(64, 64),
        crop_size=(64, 64),
        stride=(48, 48),
        scale=(96, 64),
        # The warm-up's, so that the few steps are steps.
        start_factor=1.0,
        lr=0.01,
    )
    small = {}
    for name, value in entries(config):
        above, _, key = name.rpartition(".")
        if key in fixed:
            small[name] = fixed[key]
        elif key == "scale_factor":
            small[name] = 2 * value
        elif key == "data_prefix":
            small.update({f"{above}.{field}": v for field, v in dataset.items()})
        elif value == "SyncBN":
            small[name] = "BN"
        elif value == "CrossEntropyLoss":
            # As our loss does.
            small[f"{above}.avg_non_ignore"] = True
        elif value == "AmpOptimWrapper" and not torch.cuda.is_available():
            small[name] = "OptimWrapper"
            config[above].pop("loss_scale")
    small.update(
        {
            "randomness": dict(seed=0),
            "train_dataloader.batch_size": 2,
            "train_cfg": dict(max_iters=2, val_begin=3, val_interval=3),
            "default_hooks.logger.interval": 1,
            "default_hooks.checkpoint.interval": 2,
            "log_processor.window_size": 1,
        }
    )
    config.merge_from_dict(small)
    config.merge_from_dict(overrides)
    return config


def is_cross_entropy(loss: dict) -> bool:
    """Whether a loss is that of all valid pixels, hard or not."""
    return loss.type == "CrossEntropyLoss" or loss.get("thres", 0) > 1


def with_loss(config: Config, **loss) -> Config:
    """A copy with another loss instead of each cross-entropy, of the same weight."""
    config = copy.deepcopy(config)

    def other(old: dict) -> dict:
        if not is_cross_entropy(old):
            return old
        return dict(loss, loss_weight=old.loss_weight)

    for name, value in list(entries(config.model)):
        if name.endswith("loss_decode"):
            one = isinstance(value, dict)
            new = dict(other(value), _delete_=True) if one else [*map(other, value)]
            config.merge_from_dict({f"model.{name}": new})
    return config


def with_mmwood(config: Config) -> Config:
    """A copy with the loss in every head, EWC, and the metric beside the stock one."""
    no_background = lacks_background(config)
    config = with_loss(
        config,
        type="mmwood.SizeBalancedCELoss",
        # Weights of 1 at least, divided by pixels: never below the plain loss.
        form="text",
        background=None if no_background else 0,
    )
    metrics = [
        dict(type="IoUMetric", iou_metrics=["mIoU"]),
        dict(type="mmwood.IAIoUMetric", background=None if no_background else "image"),
    ]
    ewc = dict(
        type="mmwood.EWCHook",
        mode="switch",
        switch_at=1,
        weight=WEIGHT,
        images=3,
        num_workers=0,
    )
    config.merge_from_dict(
        dict(custom_hooks=[ewc], val_evaluator=metrics, test_evaluator=metrics)
    )
    return config


def build_runner(config: Config, work_dir: Path, **changes) -> Runner:
    config = copy.deepcopy(config)
    config.merge_from_dict(dict(changes, work_dir=str(work_dir)))
    # A second Runner of the same name would log to the first one's folder.
    config.experiment_name = config.visualizer.name = f"stock_{next(NUMBERS)}"
    return Runner.from_cfg(config)


def with_fixed_layers(model: nn.Module) -> nn.Module:
    """Evaluation mode, but for heads and backbones, which some losses need trained."""
    model.train()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.Dropout, nn.Dropout2d, DropPath)):
            module.eval()
    return model


def logged(work_dir: Path) -> dict[str, dict[int, float]]:
    """By key and iteration, the numbers that all runs of a work dir logged."""
    found = {}
    for path in sorted(work_dir.glob("*/vis_data/scalars.json")):
        for row in map(json.loads, path.read_text().splitlines()):
            for key, value in row.items():
                found.setdefault(key, {})[row["step"]] = value
    return found


def slow_penalty(work_dir: Path) -> float:
    """The penalty at the checkpoint after two steps."""
    task = load_task(work_dir / "ewc.safetensors")
    path = work_dir / "iter_2.pth"
    state = torch.load(path, map_location="cpu", weights_only=False)["state_dict"]
    total = 0.0
    for name, fisher in task.fisher.items():
        apart = state[name].double() - task.anchor[name].double()
        total += WEIGHT / 2 * float((fisher * apart**2).sum())
    return total


@every_stock_config
def test_train_resume_and_evaluate(path, overrides, data, tmp_path):
    stock = small_stock(path, overrides, data)
    config = with_mmwood(stock)
    build_runner(config, tmp_path).train()
    runner = build_runner(
        config,
        tmp_path,
        resume=True,
        load_from=str(tmp_path / "iter_2.pth"),
        train_cfg=dict(max_iters=3),
    )
    runner.train()

    # The trained network is a stock one, and task A's losses are stock in each head.
    model = with_fixed_layers(runner.model)
    reference = MODELS.build(stock.model)
    reference.load_state_dict(model.state_dict())
    with_fixed_layers(reference).to(model.data_preprocessor.device)
    dataset = runner.train_dataloader.dataset
    batch = runner.train_dataloader.collate_fn([dataset[i] for i in range(6)])
    batch = model.data_preprocessor(batch, True)
    with torch.no_grad():
        expected = reference(**batch, mode="loss")
        balanced = model(**batch, mode="loss")
        set_size_balanced(model, False)
        plain = model(**batch, mode="loss")
    expected = {k.replace("loss_ce", "loss_sbce"): v for k, v in expected.items()}
    torch.testing.assert_close(plain, expected)
    dicts = (v for _, v in entries(stock.model) if isinstance(v, dict) and "type" in v)
    in_config = sum(map(is_cross_entropy, dicts))
    assert len([*size_balanced_losses(model)]) == in_config > 0
    # mmengine adds up what is named so; K-Net's head uses its loss four times.
    losses = [key for key in expected if "loss" in key]
    sized = [key for key in losses if balanced[key] != plain[key]]
    assert len(sized) == in_config + (3 if path.startswith("knet") else 0)
    assert all(balanced[key] > plain[key] for key in sized)

    log = logged(tmp_path)
    assert log["loss_ewc"] == {2: 0, 3: pytest.approx(slow_penalty(tmp_path), rel=1e-3)}
    assert log["loss_ewc"][3] > 0
    for step in (1, 2, 3):
        parts = [log[key][step] for key in losses]
        parts.append(log["loss_ewc"].get(step, 0))
        assert log["loss"][step] == pytest.approx(sum(parts), rel=1e-5)
    for key in ("mIoU", "IA-mIoU"):
        assert list(log[key]) == [3]
        assert 0 <= log[key][3] <= 100


@pytest.mark.parametrize(("path", "overrides"), WITH_TTA, ids=names(WITH_TTA))
def test_tta(path, overrides, data, tmp_path):
    config = with_mmwood(small_stock(path, overrides, data))
    use_tta(config)
    config.test_dataloader.dataset.indices = 2
    metrics = build_runner(config, tmp_path).test()
    assert {"mIoU", "IA-mIoU"} <= set(metrics)
    assert all(0 <= metrics[key] <= 100 for key in ("mIoU", "IA-mIoU"))


def test_a_binary_head_of_one_channel_is_refused(data, tmp_path):
    path, overrides = STOCK[0]
    one_channel = {
        f"model.{head}.{key}": value
        for head in ("decode_head", "auxiliary_head")
        for key, value in (("num_classes", 2), ("out_channels", 1), ("threshold", 0.3))
    }
    config = with_mmwood(small_stock(path, overrides | one_channel, data))
    with pytest.raises(ValueError, match="out_channels=1"):
        build_runner(config, tmp_path).train()


BARE = """
import sys
for name in ("mmpretrain", "torchvision", "timm"):
    sys.modules[name] = None
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


def test_without_mmpretrain_torchvision_and_timm():
    """The test above for one config."""
    name = f"{test_train_resume_and_evaluate.__name__}[{names(STOCK)[0]}]"
    arguments = ["-q", "-p", "no:cacheprovider", f"{__file__}::{name}"]
    result = subprocess.run(
        [sys.executable, "-c", BARE, *arguments],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    if (CONFIGS / STOCK[0][0]).is_file():
        assert "1 passed" in result.stdout
