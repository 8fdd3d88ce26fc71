"""The segmentation configs at small size, through the commands."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

pytest.importorskip("mmseg")

from mmengine.config import Config, DictAction
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import HOOKS, METRICS, MODELS, init_default_scope

from mmwood.fileio.labels import save_label_png

CONFIGS = Path(__file__).parents[1] / "configs"
SBCE = CONFIGS / "sbce/README.md"


def data_options(root, loader: str) -> list[str]:
    data = f"{loader}.dataset"
    return [
        f"{data}.ann_file={root}/ImageSets/Segmentation/train.txt",
        f"{data}.data_root={root}",
        f"{data}.data_prefix.img_path=JPEGImages",
        f"{data}.data_prefix.seg_map_path=SegmentationClass",
        f"{loader}.num_workers=0",
        f"{loader}.persistent_workers=False",
    ]


#: The network with an eighth of its channels.
NARROW = [
    "model.backbone.depth=50",
    "model.backbone.stem_channels=8",
    "model.backbone.base_channels=8",
    "model.decode_head.in_channels=256",
]


@pytest.mark.slow
def test_task_a_task_b_and_test(voc_folder, run_tool, tmp_path):
    small = [
        *data_options(voc_folder, "train_dataloader"),
        "train_dataloader.batch_size=2",
        "train_dataloader.dataset.pipeline.2.scale=(64,64)",
        "train_dataloader.dataset.pipeline.3.crop_size=(48,48)",
        "model.data_preprocessor.size=(48,48)",
        *("model.backbone.init_cfg=None", *NARROW),
        "train_cfg.max_iters=2",
        "default_hooks.logger.interval=1",
        "default_hooks.ewc.num_workers=0",
    ]
    config = CONFIGS / "sbce/deeplabv2_r101_voc_task-a.py"
    options = ("--no-validate", "--cfg-options", *small)
    text = run_tool(
        *("train.py", config, "--work-dir", "a", *options, "default_hooks.ewc.images=3")
    )
    assert "decode.loss_ce" in text
    # The program's rates: ten times for the head's weights, twenty for its biases.
    assert "decode_head.aspp.3.weight:lr=0.0025" in text
    assert "decode_head.aspp.3.bias:lr=0.005" in text
    assert "decode_head.aspp.3.bias:weight_decay=0.0" in text
    with safe_open(tmp_path / "a/ewc.safetensors", "pt") as file:
        names = set(file.keys())
    # Batch normalisation is fixed, so it is not held.
    assert not any(".bn" in name for name in names)
    assert any("backbone.layer4.2.conv3.weight" in name for name in names)

    text = run_tool(
        *("train.py", CONFIGS / "sbce/deeplabv2_r101_voc_task-b.py"),
        *("--work-dir", "b", *options, "load_from=a/iter_2.pth"),
        "default_hooks.ewc.file=a/ewc.safetensors",
    )
    assert "decode.loss_sbce" in text
    # At A's end the penalty is nothing, and after a step it is something.
    penalties = [
        float(line.split("loss_ewc: ")[1].split()[0])
        for line in text.splitlines()
        if "loss_ewc: " in line
    ]
    assert penalties[0] == 0 < max(penalties[1:])
    weights = [
        torch.load(tmp_path / run / "iter_2.pth", weights_only=False)["state_dict"]
        for run in "ab"
    ]
    stem = "backbone.bn1.running_mean"
    assert torch.equal(weights[0][stem], weights[1][stem])

    # Windows, scales, flips and the dense CRF.
    options = [*NARROW, "model.test_cfg.mode=slide"]
    options += [f"model.test_cfg.{key}=(33,33)" for key in ("crop_size", "stride")]
    options.append("tta_model.crf.iterations=1")
    run_tool(
        *("test.py", CONFIGS / "wood/deeplabv2_r101_voc.py", "b/iter_2.pth", "--tta"),
        *("--out", "metrics.json", "--cfg-options", *options),
        *data_options(voc_folder, "test_dataloader"),
        "test_evaluator.metrics.ia_iou.instance_dir=None",
    )
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {"mIoU", "IA-mIoU", "IA_S", "IA_M"} <= set(metrics)
    (report,) = (tmp_path / "work_dirs").rglob("ia_iou.json")
    assert json.loads(report.read_text())["iou"]["small"] is not None


DEEPLAB_PYTORCH = CONFIGS / "segmentation/deeplabv2_r101_voc_deeplab-pytorch.py"


@pytest.mark.slow
def test_deeplab_pytorchs_augmentation(tmp_path):
    """Five sizes; the mean around the image at its right or, flipped, at its left."""
    height, width = 100, 120
    picture, mask = tmp_path / "image.png", tmp_path / "mask.png"
    Image.new("RGB", (width, height), (255, 255, 255)).save(picture)
    save_label_png(np.ones((height, width), np.uint8), mask)
    cfg = Config.fromfile(DEEPLAB_PYTORCH)
    init_default_scope("mmseg")
    pipeline = Compose(cfg.train_dataloader.dataset.pipeline)
    preprocess = MODELS.build(cfg.model.data_preprocessor)
    np.random.seed(0)
    found = set()
    for _ in range(60):
        files = dict(img_path=picture, seg_map_path=mask, seg_fields=[])
        item = pipeline(dict(files, reduce_zero_label=False))
        data = preprocess(pseudo_collate([item]), training=True)
        (image,) = data["inputs"]
        (label,) = data["data_samples"][0].gt_sem_seg.data
        assert image.shape == (3, 321, 321)
        assert set(label.unique().tolist()) == {1, 255}
        torch.testing.assert_close(
            image[:, label == 255].abs().max(), torch.tensor(0.0)
        )
        assert (image[:, label == 1] > 2).all()
        rows, columns = (label == 1).nonzero(as_tuple=True)
        size = rows.max() + 1, columns.max() - columns.min() + 1
        assert rows.min() == 0
        assert len(rows) == size[0] * size[1]
        assert columns.min() in (0, 321 - size[1])
        found.add((size[0] / height, size[1] / width, columns.min() == 0))
    scales = (0.5, 0.75, 1.0, 1.25, 1.5)
    assert {tuple(map(float, f)) for f in found} == {
        (scale, scale, left) for scale in scales for left in (0.0, 1.0)
    }


@pytest.mark.slow
def test_deeplab_pytorchs_protocol_on_mini_voc(mini_voc, run_tool, tmp_path):
    names = (mini_voc / "ImageSets/Segmentation/train.txt").read_text().split()
    (tmp_path / "list.txt").write_text("\n".join(names[:4]))
    options = [
        "model.backbone.init_cfg=None",
        "model.backbone.depth=18",
        "model.backbone.stem_channels=8",
        "model.backbone.base_channels=8",
        "model.decode_head.in_channels=64",
        "train_dataloader.batch_size=2",
        "train_cfg.max_iters=2",
        "default_hooks.logger.interval=1",
        "test_evaluator.metrics.ia_iou.instance_dir=None",
    ]
    for loader in ("train_dataloader", "test_dataloader"):
        options += data_options(mini_voc, loader)
        options.append(f"{loader}.dataset.ann_file={tmp_path / 'list.txt'}")
    text = run_tool(
        *("train.py", DEEPLAB_PYTORCH, "--work-dir", "run", "--no-validate"),
        *("--cfg-options", *options),
    )
    for term in ("scale_1", "scale_0.75", "scale_0.5", "max"):
        assert f"decode.{term}.loss_ce: " in text
    # At a network of no knowledge each of the four is about log 21.
    (loss,) = re.findall(r"\[1/2\].*? loss: ([\d.]+)", text)
    assert float(loss) == pytest.approx(4 * np.log(21), rel=0.3)
    scores = []
    for tta in ((), ("--tta",)):
        run_tool(
            *("test.py", DEEPLAB_PYTORCH, "run/iter_2.pth", *tta),
            *("--out", "metrics.json", "--cfg-options", *options),
        )
        scores.append(json.loads((tmp_path / "metrics.json").read_text())["mIoU"])
    # Its one view is the image itself.
    assert scores[0] == pytest.approx(scores[1], abs=0.01)


def python_blocks(path: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.S)


@pytest.mark.parametrize(
    "option",
    re.findall(r"\| `((?:default_hooks|model)\.\S+)` \|", SBCE.read_text()),
)
def test_readme_overrides(option):
    """Each is of a field that there is, in task A or in task B."""
    name, value = option.split("=")
    task = "a" if name.endswith("images") else "b"
    cfg = Config.fromfile(CONFIGS / f"sbce/deeplabv2_r101_voc_task-{task}.py")
    cfg.merge_from_dict({name: DictAction._parse_iterable(value)})
    init_default_scope("mmseg")
    MODELS.build(cfg.model.decode_head.loss_decode)
    HOOKS.build(cfg.default_hooks.ewc)


@pytest.mark.slow
def test_readme_over_a_stock_config(tmp_path):
    """configs/sbce/README.md's config builds: every field is one that there is."""
    stock = Path(find_spec("mmseg").origin).parent / ".mim"
    if not stock.is_dir():
        pytest.skip("this installation of mmseg holds no configs")
    (block,) = python_blocks(SBCE)
    path = tmp_path / "my_config.py"
    path.write_text(block.replace('"mmsegmentation/', f'"{stock}/'))
    cfg = Config.fromfile(path)
    cfg.model.pretrained = None
    cfg.model.backbone.norm_cfg = cfg.model.decode_head.norm_cfg = dict(type="BN")
    init_default_scope("mmseg")
    model = MODELS.build(cfg.model)
    for head in (model.decode_head, model.auxiliary_head):
        assert type(head.loss_decode).__name__ == "SizeBalancedCELoss"
    assert model.auxiliary_head.loss_decode.loss_weight == 0.4
    HOOKS.build(cfg.default_hooks.ewc)
    assert [METRICS.build(m).__class__.__name__ for m in cfg.val_evaluator] == [
        "IoUMetric",
        "IAIoUMetric",
    ]
    # The switch comes before the end of the stock schedule.
    assert cfg.default_hooks.ewc.switch_at < cfg.train_cfg.max_iters
