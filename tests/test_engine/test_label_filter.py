"""The label filter from files to files, against its steps one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip("mmpretrain")

from mmwood.engine.dense_features import DenseFeatures, load_backbone, whole_images
from mmwood.engine.label_filter import FilterSettings, LabelFilter
from mmwood.fileio.files import write_json
from mmwood.fileio.images import read_rgb
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.functional.debias import biased_mask, debiased_centers, region_centers

CLASSES = ["disc", "square", "stripe"]
MANIFEST = dict(format=PSEUDO_LABELS, classes=CLASSES, complete=True)


@pytest.fixture
def labels(voc_folder: Path, tmp_path: Path) -> LabelFolder:
    """Masks that are too large, void and removed pixels among them."""
    folder = LabelFolder(tmp_path / "labels", "LABELS")
    for path in sorted((voc_folder / "SegmentationClass").glob("*.png")):
        label = read_label_png(path).copy()
        label[20:28, 4:22] = label[10, 10]
        label[-1, :3] = 254
        save_label_png(label, folder.label(path.stem))
    write_json(folder.manifest_path, MANIFEST)
    return folder


@pytest.fixture
def cfg(small_config: Path, load):
    """The classifier of conftest.py, whose stride is 8."""
    return load(small_config)


@pytest.fixture
def checkpoint(cfg, tmp_path: Path) -> str:
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    path = tmp_path / "weights.pth"
    torch.save(dict(state_dict=model.state_dict()), path)
    return str(path)


@pytest.fixture
def network(cfg, checkpoint) -> DenseFeatures:
    model = load_backbone(cfg, checkpoint)
    return DenseFeatures(model, ["layer1", "layer4"], multiple=16)


@pytest.fixture
def make(cfg, labels, network, tmp_path):
    """A filter with another output, features or settings."""

    def run(out="out", features=None, batch_size=2, overwrite=False, **settings):
        return LabelFilter(
            whole_images(cfg.test_dataloader.dataset),
            labels,
            LabelFolder(tmp_path / out, "--out"),
            network,
            FilterSettings(**settings),
            features and LabelFolder(tmp_path / features, "--features"),
            batch_size=batch_size,
            overwrite=overwrite,
        )

    return run


def slow_features(model, path: Path) -> np.ndarray:
    """Of one image: levels of unit length, joined on the finer grid."""
    image = torch.from_numpy(np.array(read_rgb(path)).transpose(2, 0, 1).copy())
    size = [max(1, round(side / 16)) * 16 for side in image.shape[1:]]
    shrinks = any(new < old for new, old in zip(size, image.shape[1:]))
    if size != [*image.shape[1:]]:
        image = torch.nn.functional.interpolate(
            image[None].float(), size, mode="bilinear", antialias=shrinks
        )[0]
    image = (image[None].float() - 127.5) / 127.5
    with torch.no_grad():
        x = model.backbone.maxpool(
            model.backbone.relu(model.backbone.norm1(model.backbone.conv1(image)))
        )
        fine = model.backbone.layer1(x)
        x = model.backbone.layer3(model.backbone.layer2(fine))
        coarse = model.backbone.layer4(x)
    fine, coarse = (v / v.norm(dim=1, keepdim=True) for v in (fine, coarse))
    coarse = torch.nn.functional.interpolate(coarse, fine.shape[2:], mode="bilinear")
    return torch.cat([fine, coarse], dim=1)[0].half().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("rule", ["nearest", "otsu"])
def test_labels_are_filtered_as_written(make, labels, network, voc_folder, rule):
    label_filter = make(rule=rule, batch_size=1)
    summary = label_filter.run()
    names = [f"image_{number}" for number in range(6)]
    features, before = [], []
    for name in names:
        path = voc_folder / f"JPEGImages/{name}.jpg"
        features.append(slow_features(network.model, path))
        before.append(read_label_png(labels.label(name)))
    regions = [
        region_centers(f, y, ignore=(254, 255)) for f, y in zip(features, before)
    ]
    centers = debiased_centers(regions, 3, nearest=0.05)
    pixels = removed = 0
    for number, (f, y) in enumerate(zip(features, before)):
        tags = sorted(set(np.unique(y).tolist()) - {0, 254, 255})
        mask = biased_mask(
            *(f, y, [tag - 1 for tag in tags], centers, rule),
            number=number,
            ignore=(254, 255),
        )
        found = read_label_png(label_filter.out.label(names[number]))
        # Features of another implementation may differ in the last bit.
        assert (found != np.where(mask, 254, y)).mean() < 0.002
        assert ((found == y) | ((found == 254) & (y > 0) & (y < 254))).all()
        pixels += np.isin(y, (1, 2, 3)).sum()
        removed += ((found == 254) & (y != 254)).sum()
    assert 0.05 < removed / pixels < 0.95
    assert (summary.made, summary.were_there) == (6, 0)
    assert summary.pixels.sum() == pixels
    assert summary.removed.sum() == removed
    manifest = label_filter.out.manifest()
    assert manifest["complete"]
    assert manifest["biased"] == 254
    assert manifest["filter"]["alpha"] == 0.4
    assert sum(part["removed"] for part in manifest["removed"].values()) == removed
    with pytest.raises(ValueError, match="labels but no score maps"):
        label_filter.out.require_scores(CLASSES)


@pytest.mark.slow
def test_a_run_that_was_ended_continues(make, tmp_path, hashes):
    make().run()
    whole = hashes(tmp_path / "out")
    assert {Path(name).parts[0] for name in whole} == {
        *("manifest.json", "labels", "centers")
    }
    for name in ("labels/image_1.png", "labels/image_4.png", "centers/image_2.npz"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out/labels/image_0.png").write_bytes(b"half")
    drawn = []
    summary = make().run(lambda index, before, after: drawn.append(index))
    assert (summary.made, summary.were_there) == (3, 3)
    assert sorted(drawn) == [*range(6)]
    assert hashes(tmp_path / "out") == whole
    # Kept features change nothing, and are found by another run.
    make("kept", "features").run()
    assert hashes(tmp_path / "kept") == whole
    features = hashes(tmp_path / "features")
    assert len(features) == 7
    first = tmp_path / "features/features/image_0.npz"
    time = first.stat().st_mtime_ns
    make("other", "features", rule="otsu").run()
    assert hashes(tmp_path / "features") == features
    assert first.stat().st_mtime_ns == time
    first.write_bytes(b"half")
    with pytest.raises(ValueError, match=r"image_0\.npz does not hold features"):
        make("third", "features").run()


@pytest.mark.slow
def test_other_labels_are_refused_or_replaced(make, labels, tmp_path, network):
    make().run()
    with pytest.raises(ValueError, match=r"--out: .* another filter\.alpha \(0\.4 in"):
        make(alpha=0.5)
    make(alpha=0.5, overwrite=True).run()
    write_json(labels.manifest_path, dict(MANIFEST, threshold=0.2))
    with pytest.raises(ValueError, match="another labels_sha256"):
        make(alpha=0.5)
    network.scale = 2.0
    make("twice", "features").run()
    network.scale = 1.0
    with pytest.raises(ValueError, match=r"--features: .* scale \(2\.0 instead of 1"):
        make("once", "features").run()


@pytest.mark.slow
def test_faults(make, labels, cfg, network, tmp_path, checkpoint):
    with pytest.raises(ValueError, match=r"--out: .* holds the labels that are to be"):
        make("labels")
    write_json(labels.manifest_path, dict(MANIFEST, complete=False))
    with pytest.raises(ValueError, match=r"LABELS: .* is not complete"):
        make()
    write_json(labels.manifest_path, dict(MANIFEST, classes=CLASSES[::-1]))
    with pytest.raises(ValueError, match=r"LABELS: .* another classes"):
        make()
    write_json(labels.manifest_path, MANIFEST)
    save_label_png(np.full((33, 47), 9, np.uint8), labels.label("image_1"))
    with pytest.raises(ValueError, match=r"label map .*image_1\.png holds \[9\]"):
        make().run()
    save_label_png(np.zeros((3, 4), np.uint8), labels.label("image_1"))
    with pytest.raises(ValueError, match=r"image_1.png has \(H, W\) = \(3, 4\), its i"):
        make().run()
    network.multiple = 12
    with pytest.raises(ValueError, match="--multiple is 12, but the grid of an image"):
        make("seven").run()
    with pytest.raises(ValueError, match="--modules: the backbone ResNet has no modul"):
        DenseFeatures(network.model, ["layer9"])
    with pytest.raises(ValueError, match="--checkpoint: name the weights of the backb"):
        load_backbone(cfg)
    state = torch.load(checkpoint)["state_dict"]
    del state["backbone.layer4.1.conv2.weight"]
    torch.save(dict(state_dict=state), tmp_path / "less.pth")
    with pytest.raises(ValueError, match=r"--checkpoint: .*less\.pth holds no backbon"):
        load_backbone(cfg, str(tmp_path / "less.pth"))
    dataset = dict(cfg.test_dataloader.dataset, label_source="none")
    with pytest.raises(ValueError, match="gives images without tags"):
        LabelFilter(
            whole_images(dataset),
            labels,
            LabelFolder(tmp_path / "none"),
            network,
            FilterSettings(),
        )


@pytest.mark.slow
def test_254_classes_leave_no_room(make, cfg, labels):
    names = [*CLASSES, *(f"class_{number}" for number in range(251))]
    cfg.test_dataloader.dataset.classes = names
    write_json(labels.manifest_path, dict(MANIFEST, classes=names))
    with pytest.raises(ValueError, match="254 classes: a label map has room for 253"):
        make()


def test_features_of_a_transformer(cfg, tmp_path):
    """DINOv2's kind: a patch of 14, and the position embedding of another size."""
    backbone = dict(
        type="VisionTransformer",
        arch=dict(embed_dims=8, num_layers=2, num_heads=2, feedforward_channels=16),
        img_size=28,
        patch_size=14,
        out_type="featmap",
    )
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    cfg.model = dict(
        type="ImageClassifier",
        data_preprocessor=cfg.model.data_preprocessor,
        backbone=backbone,
    )
    weights = tmp_path / "vit.pth"
    torch.save(MODELS.build(backbone).state_dict(), weights)
    cfg.model.backbone.init_cfg = dict(type="Pretrained", checkpoint=str(weights))
    model = load_backbone(cfg)
    for name, value in torch.load(weights).items():
        torch.testing.assert_close(model.backbone.state_dict()[name], value)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (30, w, 3), dtype=np.uint8) for w in (41, 58, 41)]
    found = DenseFeatures(model, multiple=14)(images)
    assert [f.shape for f in found] == [(8, 2, 3), (8, 2, 4), (8, 2, 3)]
    assert {f.dtype for f in found} == {np.dtype(np.float16)}
    twice = DenseFeatures(model, multiple=14, scale=2.0)(images[:1])
    assert twice[0].shape == (8, 4, 6)
    model.backbone.out_type = "cls_token"
    with pytest.raises(ValueError, match="out_type='featmap'"):
        DenseFeatures(model, multiple=14)(images[:1])


def test_what_describes_features(network):
    description = network.description()
    assert json.loads(json.dumps(description)) == description
    with torch.no_grad():
        network.model.backbone.conv1.weight += 1
    assert network.description()["weights_sha256"] != description["weights_sha256"]
