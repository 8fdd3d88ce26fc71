"""Mining by models of each kind and in stores of each kind, by the real command."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmwood.fileio.candidates import read_manifest

pytestmark = pytest.mark.slow

# As MMSegmentation's configs are, loading of masks included.
SEGMENTOR = """
default_scope = "mmseg"
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor", mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375], bgr_to_rgb=True, pad_val=0, seg_pad_val=255,
        size=(64, 64)),
    backbone=dict(
        type="ResNetV1c", depth=18, stem_channels=8, base_channels=8, num_stages=4,
        out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1),
        norm_cfg=dict(type="SyncBN", requires_grad=True)),
    decode_head=dict(
        type="FCNHead", in_channels=64, in_index=3, channels=8, num_convs=1,
        num_classes=3, norm_cfg=dict(type="SyncBN", requires_grad=True),
        loss_decode=dict(type="CrossEntropyLoss")),
    train_cfg=dict(), test_cfg=dict(mode="whole"))
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(64, 48), keep_ratio=True),
    dict(type="LoadAnnotations"),
    dict(type="PackSegInputs")]
test_dataloader = dict(
    batch_size=1, num_workers=0,
    dataset=dict(type="PascalVOCDataset", data_root="none", pipeline=test_pipeline))
test_evaluator = dict(type="IoUMetric", iou_metrics=["mIoU"])
test_cfg = dict(type="TestLoop")
default_hooks = dict(
    logger=dict(type="LoggerHook"), visualization=dict(type="SegVisualizationHook"))
visualizer = dict(type="SegLocalVisualizer", vis_backends=[])
"""
DETECTOR = """
import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from mmpretrain.registry import MODELS

@MODELS.register_module()
class Boxes(BaseModel):
    # Two boxes of disc and one of stripe; their scores are an image's colours.
    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor)
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, data_samples, mode):
        assert mode == "predict"
        for image, sample in zip(inputs, data_samples):
            colours = image.float().mean(dim=(1, 2)) / 255 * self.weight
            sample.pred_instances = InstanceData(
                scores=colours, labels=torch.tensor([0, 0, 2]),
                bboxes=torch.zeros(3, 4))
        return data_samples
"""
DETECTOR_CONFIG = """
default_scope = "mmpretrain"
custom_imports = dict(imports=["boxes"])
model = dict(type="Boxes")
test_dataloader = dict(batch_size=1, num_workers=0, dataset=dict(
    metainfo=dict(classes=("disc", "square", "stripe")),
    pipeline=[dict(type="LoadImageFromFile"), dict(type="PackInputs")]))
test_evaluator = []
test_cfg = dict()
"""


def make_images(folder: Path, count: int = 8) -> list[Path]:
    rng = np.random.default_rng(0)
    folder.mkdir()
    for number in range(count):
        shape = (40 + number % 3, 50, 3)
        low, high = sorted(rng.integers(0, 256, 2))
        pixels = rng.integers(low, high + 1, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def segmentor(tmp_path, monkeypatch):
    """Config, checkpoint and images of a small network of MMSegmentation's."""
    pytest.importorskip("mmseg")
    monkeypatch.chdir(tmp_path)
    Path("seg.py").write_text(SEGMENTOR)
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile("seg.py").model)
    model.decode_head.conv_seg.weight.data.normal_(std=2)
    meta = dict(dataset_meta=dict(classes=("background", "disc", "square")))
    torch.save(dict(state_dict=model.state_dict(), meta=meta), "seg.pth")
    return "seg.py", "seg.pth", make_images(tmp_path / "images")


def rows(path: str) -> dict[tuple[str, str], float]:
    return {
        (Path(row.image).name, row.class_name): row.probability
        for _, row in read_manifest(path)
    }


def run_arguments(folder: str, candidates: object = "images") -> tuple[object, ...]:
    return (
        *("--candidates", candidates, "--work-dir", folder),
        *("--out", f"{folder}/ood.csv", "--num-workers", "0"),
    )


@torch.no_grad()
def maps(config: str, checkpoint: str, path: Path) -> torch.Tensor:
    """Logits of one image at its size, by MMSegmentation's own inference."""
    from mmseg.apis import inference_model, init_model

    cfg = Config.fromfile(config)
    cfg.test_pipeline = cfg.test_pipeline
    for part in (cfg.model.backbone, cfg.model.decode_head):
        part.norm_cfg.type = "BN"
    model = init_model(cfg, checkpoint, device="cpu")
    return inference_model(model, str(path)).seg_logits.data.double()


def test_segmentation_networks(segmentor, run_tool):
    config, checkpoint, images = segmentor
    logits = [maps(config, checkpoint, path) for path in images]
    run = ("mine_ood.py", config, checkpoint)
    peaks, areas = {}, {}
    for path, z in zip(images, logits):
        for c, name in ((1, "disc"), (2, "square")):
            peaks[path.name, name] = float(z.softmax(0)[c].max())
            areas[path.name, name] = float((z.argmax(0) == c).double().mean())
    run_tool(*run, *run_arguments("peak"), "--threshold", 0)
    assert rows("peak/ood.csv") == pytest.approx(peaks, abs=2e-5)
    run_tool(*run, *run_arguments("area"), "--score", "area", "--threshold", 0)
    assert rows("area/ood.csv") == pytest.approx(areas, abs=2e-5)
    # Results of one rule are no results of the other.
    again = (*run_arguments("area"), "--threshold", 0, "--score", "peak")
    text = run_tool(*run, *again, fails=True)
    assert "another score ('area' instead of 'peak')" in text
    text = run_tool(*run, *run_arguments("default"), "--score", "area")
    assert rows("default/ood.csv") == pytest.approx(
        {key: area for key, area in areas.items() if area >= 0.01}, abs=2e-5
    )
    text = run_tool(*run, *run_arguments("sky"), "--background", "sky", fails=True)
    assert text.splitlines()[-1].startswith("--background must be 'background', 'disc'")
    text = run_tool(*run, *run_arguments("mixed"), "--batch-size", "2", fails=True)
    assert "use --batch-size 1" in text


def test_what_is_found_in_stores(segmentor, run_tool):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("fsspec")
    config, checkpoint, images = segmentor
    images[3].write_bytes(b"no image")
    contents = [path.read_bytes() for path in images]
    Path("shards").mkdir()
    for shard in (0, 1):
        with tarfile.open(f"shards/{shard}.tar", "w") as archive:
            for path, content in [*zip(images, contents)][shard::2]:
                member = tarfile.TarInfo(f"../{path.name}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    table = arrow.table(dict(picture=contents))
    parquet.write_table(table, "images.parquet", row_group_size=3)
    address = Path("images").resolve().as_uri()
    run = ("mine_ood.py", config, checkpoint)
    run_tool(*run, *run_arguments("plain"), "--threshold", 0)
    expected = rows("plain/ood.csv")
    # Some are found, and some are not.
    least = sum(sorted(expected.values())[9:11]) / 2
    expected = {key: p for key, p in expected.items() if p >= least}
    run = (*run, "--threshold", least)
    for folder, source, options, bad in (
        ("tar", "shards/*.tar", (), "tar:shards/1.tar#"),
        ("parquet", "images.parquet", ("--column", "picture"), "parquet:images.par"),
        ("address", address, ("--num-workers", "2"), f"{address}/3.png"),
    ):
        run_tool(*run, *run_arguments(folder, source), *options)
        found = [row for _, row in read_manifest(f"{folder}/ood.csv")]
        assert {
            (int(Path(row.image).stem), row.class_name): row.probability
            for row in found
        } == {(int(Path(name).stem), c): p for (name, c), p in expected.items()}
        # Files of their bytes, and of no image that was not found.
        written = {str(path) for path in Path(folder, "found").rglob("*.*")}
        assert written == {row.image for row in found}
        for row in found:
            number = int(Path(row.image).stem)
            assert Path(row.image).read_bytes() == contents[number]
            assert Path(row.image).suffix == ".png"
        unreadable = Path(folder, "unreadable.txt").read_text()
        assert unreadable.startswith(bad)
        assert unreadable.endswith("\tnot an image that Pillow reads\n")
    assert Path("tar/found/1/1.png").is_file()
    # Finished images are not read again, and nothing of another's is overwritten.
    once = Path("tar/ood.csv").read_bytes()
    run_tool(*run, *run_arguments("tar", "shards/*.tar"))
    assert Path("tar/ood.csv").read_bytes() == once
    text = run_tool(*run, *run_arguments("tar", "shards/0.tar"), fails=True)
    assert "--candidates: shards/0.tar gives other images" in text
    name = min(row.image for row in found).rpartition("/")[2]
    other = Path("taken/found", str(int(name[0]) % 2), name)
    other.parent.mkdir(parents=True)
    other.write_bytes(b"mine")
    text = run_tool(*run, *run_arguments("taken", "shards"), fails=True)
    assert (
        f"{other} is there, and is not the image tar:shards/" in text.splitlines()[-1]
    )
    assert other.read_bytes() == b"mine"
    # Review and export take the manifest as any other.
    run_tool(
        "review_ood.py", "tar/ood.csv", "--auto", "--max-probability", 1, "--keep-rest"
    )
    run_tool("export_ood.py", "tar/ood.csv", "--format", "list", "--out", "negatives")


def test_detectors(run_tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    images = make_images(tmp_path / "images")
    Path("boxes.py").write_text(DETECTOR)
    Path("boxes_config.py").write_text(DETECTOR_CONFIG)
    torch.save(dict(state_dict=dict(weight=torch.ones(()))), "boxes.pth")
    run = ("mine_ood.py", "boxes_config.py", "boxes.pth", "--size", "own")
    run_tool(*run, *run_arguments("work"), "--threshold", 0)
    expected = {}
    for path in images:
        red, green, blue = np.array(Image.open(path)).mean(axis=(0, 1)) / 255
        expected |= {
            (path.name, "disc"): max(blue, green),
            (path.name, "square"): 0,
            (path.name, "stripe"): red,
        }
    assert rows("work/ood.csv") == pytest.approx(expected, abs=2e-5)
    text = run_tool(*run, *run_arguments("refused"), "--score", "peak", fails=True)
    assert text.splitlines()[-1] == (
        "--score and --background are for segmentation networks, and the model is a "
        "Boxes"
    )


def test_networks_of_timm(run_tool, tmp_path, monkeypatch):
    timm = pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    images = make_images(tmp_path / "images")
    Path("names.txt").write_text("disc\nsquare\nstripe\n")
    torch.manual_seed(0)
    model = timm.create_model("test_efficientnet", num_classes=3).eval()
    model.classifier.weight.data.normal_(std=3)
    torch.save(dict(state_dict=model.state_dict()), "model.pth")
    data = timm.data.resolve_model_data_config(model, use_test_size=True)
    transform = timm.data.create_transform(**data, is_training=False)
    with torch.no_grad():
        batch = [transform(Image.open(path).convert("RGB")) for path in images]
        logits = model(torch.stack(batch)).double()
    run = ("mine_ood.py", "--timm", "test_efficientnet", "model.pth")
    named = ("--classes", "names.txt", "--threshold", 0)
    for activation, p in (
        ("softmax", logits.softmax(1)),
        ("sigmoid", logits.sigmoid()),
    ):
        run_tool(*run, *named, *run_arguments(activation), "--activation", activation)
        expected = {
            (path.name, name): float(p[number, c])
            for number, path in enumerate(images)
            for c, name in enumerate(("disc", "square", "stripe"))
        }
        assert rows(f"{activation}/ood.csv") == pytest.approx(expected, abs=1e-3)

    Path("two.txt").write_text("disc\nsquare\n")
    other = timm.create_model("test_resnet", num_classes=3)
    torch.save(other.state_dict(), "other.pth")
    torch.save([1, 2], "list.pth")
    Path("text.pth").write_text("no weights")
    for name, checkpoint, classes, message in (
        (
            "test_eff",
            "model.pth",
            "names.txt",
            "timm has no network 'test_eff'; similar",
        ),
        ("test_efficientnet", "none.pth", "names.txt", "checkpoint: there is no file"),
        (
            "test_efficientnet",
            "text.pth",
            "names.txt",
            "checkpoint: text.pth is no che",
        ),
        (
            "test_efficientnet",
            "list.pth",
            "names.txt",
            "checkpoint list.pth holds no w",
        ),
        ("test_efficientnet", "other.pth", "names.txt", "checkpoint other.pth "),
        (
            *("test_efficientnet", "model.pth", "two.txt"),
            "checkpoint model.pth is for 3 classes, and 2 are named",
        ),
        ("test_efficientnet", "model.pth", "none.txt", "--classes: there is no file"),
    ):
        arguments = ("--timm", name, checkpoint, "--classes", classes)
        text = run_tool("mine_ood.py", *arguments, *run_arguments("no"), fails=True)
        assert "Traceback" not in text
        assert text.splitlines()[-1].startswith(message)
    assert not Path("no/mining").exists()
