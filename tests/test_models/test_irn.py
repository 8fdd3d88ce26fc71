"""IRN: its network, its losses on one and two processes, its walk and its faults."""

import copy
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmpretrain.structures import DataSample
from PIL import Image
from pycocotools.coco import COCO

from mmwood.fileio.label_folder import LabelFolder, load_score_maps, save_score_maps
from mmwood.functional.affinity import random_walk
from mmwood.registry import DATASETS, MODELS

MODEL = dict(
    type="mmwood.IRN",
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
    backbone=dict(
        type="ResNet",
        depth=18,
        stem_channels=8,
        base_channels=8,
        strides=(1, 2, 2, 1),
    ),
    levels=["maxpool", "layer1", "layer2", "layer3", "layer4"],
    in_channels=[8, 8, 16, 32, 64],
)


def build(**changes):
    torch.manual_seed(0)
    return MODELS.build({**MODEL, **changes}).eval()


def sample(height, width, classes=(2,), seed=0) -> DataSample:
    generator = torch.Generator().manual_seed(seed)
    grid = ((height - 1) // 4 + 1, (width - 1) // 4 + 1)
    sample = DataSample(metainfo=dict(img_path="a.jpg", ori_shape=(height, width)))
    sample.score_maps = torch.rand(len(classes), *grid, generator=generator).half()
    sample.score_classes = torch.tensor(classes, dtype=torch.long)
    sample.pred_score = torch.rand(3, generator=generator)
    return sample


def train_weights(run_tool, tool, config, work, *arguments) -> dict:
    run_tool(tool, config, *arguments)
    return torch.load(Path(work, "epoch_1.pth"), weights_only=False)["state_dict"]


@pytest.mark.parametrize("size", [(64, 80), (61, 83), (16, 17)])
def test_outputs_lie_on_the_stride_4_grid(size):
    edge, displacement = build()(torch.randn(2, 3, *size))
    grid = ((size[0] - 1) // 4 + 1, (size[1] - 1) // 4 + 1)
    assert edge.shape == (2, *grid)
    assert displacement.shape == (2, 2, *grid)


def test_network_against_the_published_one():
    """The same layers in the published order: norm, enlarge by 2 or 4, ReLU."""
    model = build()
    images = torch.randn(1, 3, 64, 96)
    backbone = model.backbone
    stem = backbone.maxpool(F.relu(backbone.bn1(backbone.conv1(images))))
    levels = [stem]
    for name in ("layer1", "layer2", "layer3", "layer4"):
        levels.append(getattr(backbone, name)(levels[-1]))
    assert [images.shape[-1] // level.shape[-1] for level in levels] == [
        4,
        4,
        8,
        16,
        16,
    ]

    def up(maps, scale):
        maps = F.interpolate(
            maps, scale_factor=scale, mode="bilinear", align_corners=False
        )
        return F.relu(maps)

    edges = [
        up(b(x), s) for b, x, s in zip(model.edge_branches, levels, (1, 1, 2, 4, 4))
    ]
    edge = model.edge_head(torch.cat(edges, dim=1))[:, 0]
    d = [
        up(b(x), s)
        for b, x, s in zip(model.displacement_branches, levels, (1, 1, 1, 2, 2))
    ]
    middle = up(model.displacement_middle(torch.cat(d[2:], dim=1)), 2)
    conv, norm, _, last = model.displacement_head
    displacement = last(F.relu(norm(conv(torch.cat([d[0], d[1], middle], dim=1)))))
    found = model(images)
    torch.testing.assert_close(found[0], edge)
    torch.testing.assert_close(found[1], displacement)


BACKBONES = {
    "ConvNeXt": dict(
        backbone=dict(
            type="ConvNeXt",
            arch=dict(depths=[1, 1, 1, 1], channels=[8, 16, 32, 64]),
            gap_before_final_norm=False,
        ),
        levels=["downsample_layers.0", *(f"stages.{n}" for n in range(4))],
        in_channels=[8, 8, 16, 32, 64],
    ),
    "VGG, by its own outputs": dict(
        backbone=dict(type="VGG", depth=11, out_indices=(0, 1, 2, 3, 4)),
        levels=None,
        in_channels=[64, 128, 256, 512, 512],
    ),
    "MobileNetV2": dict(
        backbone=dict(type="MobileNetV2", widen_factor=0.25),
        levels=["layer1", "layer2", "layer3", "layer5", "conv2"],
        in_channels=[8, 8, 8, 24, 1280],
    ),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_other_backbones(name):
    edge, displacement = build(**BACKBONES[name])(torch.randn(1, 3, 65, 70))
    assert edge.shape == (1, 17, 18)
    assert displacement.shape == (1, 2, 17, 18)


def test_a_copy_stands_alone():
    """EMAHook and others copy models; levels must not go to the original."""
    model = build()
    images = torch.randn(1, 3, 32, 32)
    expected = model(images)
    other = copy.deepcopy(model)
    with torch.no_grad():
        model.backbone.conv1.weight.zero_()
    torch.testing.assert_close(other(images), expected)


def test_loss_in_half_precision_is_finite():
    model = build()
    with torch.no_grad():
        # Logits so large that probabilities are 0 and 1.
        model.edge_head.weight.mul_(1000)
    one = DataSample()
    one.set_field(torch.randint(0, 3, (32, 32)), "gt_seg_map")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(torch.randn(1, 3, 32, 32), [one], mode="loss")
    sum(losses.values()).backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_backbone_is_frozen():
    model = build()
    model.train()
    assert not any(module.training for module in model.backbone.modules())
    label = torch.randint(0, 3, (2, 32, 40))
    samples = []
    for one in label:
        samples.append(DataSample())
        samples[-1].set_field(one, "gt_seg_map")
    sum(model(torch.randn(2, 3, 32, 40), samples, mode="loss").values()).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is None) == name.startswith("backbone."), name


@pytest.mark.parametrize("classes", [(1,), (0, 2), ()])
def test_prediction_step_by_step(classes):
    """Against the published steps, one after the other, for one image."""
    model = build(test_cfg=dict(pad_to=64, cam_power=1.5, cam_dtype="float32"))
    model.displacement_mean.copy_(torch.tensor([0.5, -1.0]))
    image = torch.randint(0, 255, (3, 37, 50), dtype=torch.uint8)
    given = sample(37, 50, classes)
    found = model.test_step(dict(inputs=[image], data_samples=[given.clone()]))[0]
    x = (image.flip(0).float()[None] - 127.5) / 127.5
    logits, displacement = model(F.pad(x, (0, 14, 0, 27)))
    flipped, _ = model(F.pad(x.flip(-1), (0, 14, 0, 27)))
    logits = (logits[0, :10, :13] + flipped[0, :10, :13].flip(-1)) / 2
    edge = logits.sigmoid().detach()
    torch.testing.assert_close(found.edge, edge)
    expected = displacement[0, :, :10, :13] - torch.tensor([0.5, -1.0])[:, None, None]
    torch.testing.assert_close(found.displacement, expected.detach())
    walked = random_walk(given.score_maps.float() ** 1.5, edge)
    full = F.interpolate(
        walked[:, None], scale_factor=4, mode="bilinear", align_corners=False
    )[:, 0, :37, :50]
    if len(classes):
        full = full / (full.max() + 1e-5)
    torch.testing.assert_close(found.cam, full, rtol=1e-5, atol=1e-6)
    assert found.cam.shape == (len(classes), 37, 50)
    assert found.cam_strided.shape == (len(classes), 10, 13)
    assert torch.equal(found.cam_classes, given.score_classes)


def test_images_of_all_sizes_share_a_batch():
    model = build(test_cfg=dict(cam_dtype="float32"))
    sizes = [(37, 50), (40, 48), (37, 50), (37, 50)]
    kinds = [(0,), (1, 2), (2,), ()]
    images = [torch.randint(0, 255, (3, *size), dtype=torch.uint8) for size in sizes]
    samples = [
        sample(*size, kind, seed) for seed, (size, kind) in enumerate(zip(sizes, kinds))
    ]
    together = model.test_step(
        dict(inputs=images, data_samples=[one.clone() for one in samples])
    )
    for image, given, found in zip(images, samples, together):
        alone = model.test_step(dict(inputs=[image], data_samples=[given.clone()]))[0]
        torch.testing.assert_close(found.cam, alone.cam, rtol=1e-4, atol=1e-5)


def test_instances_add_up_to_the_map():
    plain = build(test_cfg=dict(cam_dtype="float32"))
    options = dict(background=0.1, min_fraction=0.0)
    model = build(test_cfg=dict(cam_dtype="float32", instances=options))
    image = torch.randint(0, 255, (3, 61, 50), dtype=torch.uint8)
    given = sample(61, 50, (0, 2))
    data = [dict(inputs=[image], data_samples=[given.clone()]) for _ in range(2)]
    found, expected = model.test_step(data[0])[0], plain.test_step(data[1])[0]
    torch.testing.assert_close(found.cam, expected.cam, rtol=1e-4, atol=1e-5)
    covered = sum(instance.mask.astype(int) for instance in found.instances)
    assert covered.max() == 1
    assert {instance.class_id for instance in found.instances} <= {0, 2}


def test_instances_without_a_measured_mean_are_warned_of():
    model = build(test_cfg=dict(cam_dtype="float32", instances=dict(background=0.1)))
    image = torch.randint(0, 255, (3, 61, 50), dtype=torch.uint8)
    data = dict(inputs=[image], data_samples=[sample(61, 50, (0, 2))])
    with pytest.warns(UserWarning, match="displacement of this mmwood.IRN was never"):
        model.test_step(data)
    model.displacement_mean.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.test_step(data)


#: Centres (y, x) and radii, in pixels.
DISCS = ((30, 28, 18), (62, 66, 20))


@pytest.mark.slow
def test_learns_where_objects_end_and_where_their_centres_are():
    """One image, by heart: edges between, displacements to the middle of each disc."""
    model = build(radius=5).train()
    y, x = torch.meshgrid(torch.arange(96), torch.arange(96), indexing="ij")
    discs = [(y - cy) ** 2 + (x - cx) ** 2 < r**2 for cy, cx, r in DISCS]
    label = (discs[0] | discs[1]).long()
    image = label + 0.1 * torch.randn(1, 3, 96, 96)
    one = DataSample()
    one.set_field(label, "gt_seg_map")
    learned = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learned, lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        sum(model(image, [one], mode="loss").values()).backward()
        optimizer.step()
    edge, displacement = (item[0].detach() for item in model.eval()(image))
    for (cy, cx, r), disc in zip(DISCS, discs):
        inside = disc[2::4, 2::4]
        for field, to_centre in zip(displacement, (cy - y, cx - x)):
            pair = torch.stack([field[inside], to_centre[2::4, 2::4][inside].float()])
            assert torch.corrcoef(pair)[0, 1] > 0.98
        distance = ((y - cy) ** 2 + (x - cx) ** 2).sqrt()[2::4, 2::4]
        border = edge.sigmoid()[(distance - r).abs() < 3].mean()
        assert border > 2 * edge.sigmoid()[distance < r - 8].mean()


@pytest.mark.long
@pytest.mark.slow
def test_training_on_one_and_two_processes(irn_config, run_tool, tmp_path, voc_folder):
    """Both have the same weights after an epoch, and the same mean displacement."""
    one = train_weights(
        run_tool, "train.py", irn_config, tmp_path / "work_dirs/irn_config"
    )
    two = train_weights(
        run_tool,
        "dist_train.sh",
        irn_config,
        tmp_path / "two",
        2,
        "--work-dir",
        "two",
        "--cfg-options",
        "train_dataloader.batch_size=1",
    )
    model = MODELS.build(Config.fromfile(irn_config).model).eval()
    moved = 0.0
    for name, value in model.state_dict().items():
        torch.testing.assert_close(two[name], one[name], rtol=1e-3, atol=1e-5, msg=name)
        if name != "displacement_mean":
            moved = max(moved, float((value - one[name]).abs().max()))
    assert moved > 1e-2
    model.load_state_dict(one)
    values = []
    for path in sorted((voc_folder / "JPEGImages").glob("*.jpg")):
        pixels = np.array(Image.open(path).convert("RGB"))
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        size = x.shape[2:]
        x = F.pad(
            (x - 127.5) / 127.5, [0, max(0, 32 - size[1]), 0, max(0, 32 - size[0])]
        )
        _, displacement = model(x)
        rows, columns = ((side - 1) // 4 + 1 for side in size)
        values.append(displacement[0, :, :rows, :columns].flatten(1))
    mean = torch.cat(values, dim=1).mean(dim=1).detach()
    torch.testing.assert_close(one["displacement_mean"], mean, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_training_then_pseudo_masks(
    irn_config, run_tool, tmp_path, voc_folder, score_folder
):
    """Real files from train.py and test.py: masks, maps, instances, pictures."""
    run_tool("train.py", irn_config)
    arguments = (
        *("test.py", irn_config, "work_dirs/irn_config/epoch_1.pth"),
        *("--work-dir", "out", "--show-dir", "pictures", "--out", "metrics.json"),
        *("--cfg-options", "default_hooks.pseudo_label.save_instances=True"),
        "model.test_cfg.instances.background=0.25",
        "default_hooks.pseudo_label.save_scores=[full]",
        "default_hooks.pseudo_label.ignore_band=0.05",
    )
    run_tool(*arguments)
    folder = tmp_path / "out/pseudo_labels"
    names = (voc_folder / "ImageSets/Segmentation/train.txt").read_text().split()
    for name in names:
        label = np.array(Image.open(folder / f"labels/{name}.png"))
        maps = load_score_maps(LabelFolder(folder).scores(name), needs=("full",))
        full = maps.full.astype(np.float32)
        winner = np.where(full.max(0) > 0.25, maps.classes[full.argmax(0)] + 1, 0)
        winner[abs(full.max(0) - np.float32(0.25)) < 0.05] = 255
        np.testing.assert_array_equal(label, winner)
        assert (tmp_path / f"pictures/{name}.png").is_file()
    coco = COCO(str(folder / "instances.json"))
    assert [image["file_name"] for image in coco.dataset["images"]] == [
        f"{name}.jpg" for name in names
    ]
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        assert mask.sum() == annotation["area"]
        x, y, width, height = annotation["bbox"]
        assert mask[y : y + height, x : x + width].sum() == mask.sum()
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert 0 < metrics["seed/mIoU"] <= 100
    # Again: nothing is computed anew, everything is the same.
    before = {path: path.read_bytes() for path in folder.rglob("*.*")}
    (folder / f"instances/{names[2]}.json").write_text("{")
    text = run_tool(*arguments)
    assert "4 of 6 images are finished" in text
    assert {path: path.read_bytes() for path in folder.rglob("*.*")} == before
    # Masks of other maps are not mixed with these.
    edit(score_folder, checkpoint_sha256="1" * 64)
    text = run_tool(*arguments, fails=True)
    assert "was made with another input_scores" in text


FAULTS = [
    (
        lambda scores: (scores / "manifest.json").unlink(),
        "there is no .*manifest.json; tools/test.py with .*save_scores.* writes it",
    ),
    (
        lambda scores: edit(scores, classes=["disc", "stripe", "square"]),
        r"made with another classes \(\['disc', 'stripe', 'square'\] instead",
    ),
    (lambda scores: edit(scores, complete=False), "is not complete"),
    (lambda scores: edit(scores, scores=[]), "labels but no score maps"),
    (
        lambda scores: (scores / "manifest.json").write_text("{"),
        "manifest.json is damaged",
    ),
    (
        lambda scores: (scores / "scores/image_3.npz").unlink(),
        r"score_dir: 1 of 6 files do not exist:\n.*train.txt:4: .*image_3.npz",
    ),
    (
        lambda scores: resize(scores / "scores/image_3.npz"),
        r"image_3.npz holds maps of \(h, w\) = \(5, 9\); the stride-4 grid",
    ),
]


def edit(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def resize(path):
    maps = load_score_maps(path)
    maps.strided = np.zeros((len(maps.classes), 5, 9), dtype=np.float16)
    save_score_maps(path, maps)


def read_all(config, **changes) -> None:
    """Build the data set of the config's test and load every image of it."""
    cfg = Config.fromfile(config)
    dataset = DATASETS.build({**cfg.test_dataloader.dataset, **changes})
    for index in range(len(dataset)):
        dataset[index]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "message"), FAULTS)
def test_faults_of_the_score_maps(irn_config, score_folder, fault, message):
    read_all(irn_config)
    fault(score_folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_all(irn_config)


def test_maps_of_another_checkpoint(irn_config, tmp_path):
    checkpoint = tmp_path / "other.pth"
    checkpoint.write_bytes(b"weights")
    with pytest.raises(ValueError, match=r"another checkpoint_sha256 \('0000"):
        read_all(irn_config, score_checkpoint=str(checkpoint))
    with pytest.raises(FileNotFoundError, match="score_checkpoint: there is no file"):
        read_all(irn_config, score_checkpoint="missing.pth")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(levels=["layer1"]), "model.levels must name five levels"),
        (dict(levels=["a", *MODEL["levels"][1:]]), "has no module 'a'"),
        (dict(in_channels=[8] * 4), "model.in_channels must name five levels"),
        (dict(test_cfg=dict(radios=4)), r"has no field \['radios'\]"),
        (dict(test_cfg=dict(instances=dict(k=1))), r"instances has no field \['k'\]"),
        (dict(test_cfg=dict(cam_dtype="int8")), "cam_dtype must be"),
    ],
)
def test_bad_fields(changes, message):
    with pytest.raises(ValueError, match=message):
        build(**changes)


def test_wrong_channels():
    with pytest.raises(ValueError, match=r"levels have \[8, 8, 16, 32, 64\] channels"):
        build(in_channels=[8, 8, 16, 32, 32])(torch.randn(1, 3, 32, 32))


def test_sample_without_maps():
    data = dict(inputs=[torch.zeros(3, 9, 9).byte()], data_samples=[DataSample()])
    with pytest.raises(ValueError, match=r"mmwood\.LoadScoreMaps"):
        build().test_step(data)


def test_enlarged_input():
    """Maps go to the larger grid; predictions come back to the image's size."""
    model = build(test_cfg=dict(cam_dtype="float32", instances=dict(background=0.2)))
    given = sample(40, 45, (0, 1))
    image = torch.randint(0, 255, (3, 80, 90), dtype=torch.uint8)
    found = model.test_step(dict(inputs=[image], data_samples=[given.clone()]))[0]
    assert found.edge.shape == (20, 23)
    maps = F.interpolate(
        given.score_maps.float()[None], size=(20, 23), mode="bilinear"
    )[0]
    walked = random_walk(maps, found.edge)
    full = F.interpolate(walked[None], scale_factor=4, mode="bilinear")[..., :80, :90]
    full = F.interpolate(full, size=(40, 45), mode="bilinear")[0]
    torch.testing.assert_close(found.cam, full / full.max(), rtol=1e-3, atol=1e-4)
    assert found.cam_strided.shape == (2, 10, 12)
    assert all(instance.mask.shape == (40, 45) for instance in found.instances)
