"""Backbones whose maps are (B, h, w, D), at every place that reads feature maps."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmpretrain")
pytest.importorskip("timm", reason="its Swin Transformer has the channels last")

from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

SWIN = dict(
    type="TIMMBackbone",
    model_name="swin_tiny_patch4_window7_224",
    img_size=64,
    strict_img_size=False,
    window_size=2,
    embed_dim=12,
    depths=(1, 1, 1, 1),
    num_heads=(1, 1, 2, 2),
)
CHANNELS = (12, 12, 24, 48, 96)
LEVELS = ["patch_embed", *(f"layers.{number}" for number in range(4))]
LEVELS = [f"timm_model.{name}" for name in LEVELS]
HEADS = ["mmwood.CAMHead", "mmwood.WOoDHead"]
OTHER_NUMBERS = [2, 64, 3]  # rows, and what is no axis


def build(type, head="mmwood.CAMHead", channels=96, **fields):
    torch.manual_seed(0)
    head = dict(type=head, num_classes=3, in_channels=channels)
    if head["type"] == "mmwood.WOoDHead":
        head["distance_weight"] = 0
    return MODELS.build(
        dict(
            type=type,
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
            **{**dict(backbone=SWIN, head=head), **fields},
        )
    )


def batch():
    samples = []
    for labels in ([0], [1, 2], []):
        sample = DataSample(metainfo=dict(ori_shape=(64, 64), img_shape=(64, 64)))
        samples.append(sample.set_gt_label(torch.tensor(labels, dtype=torch.long)))
        sample.set_field(not labels, "is_ood")
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    return dict(inputs=images, data_samples=samples)


def published_maps(model, images):
    """Maps as timm documents its features: (B, h, w, D)."""
    features = model.backbone.timm_model(images)
    return torch.einsum("bhwd,cd->bchw", features, model.head.weight).relu()


@pytest.mark.parametrize("head", HEADS)
@torch.no_grad()
def test_maps_of_the_classifier(head):
    model = build("mmwood.CAMClassifier", head, test_cfg=dict(cam_dtype="float32"))
    model.eval()
    data = batch()
    images = (data["inputs"] - 127.5) / 127.5
    maps = published_maps(model, images)
    for sample, own in zip(model.test_step(data), maps):
        expected = F.interpolate(own[None], size=(64, 64), mode="bilinear")[0]
        expected = expected[sample.cam_classes]
        expected = expected / (expected.amax(dim=(1, 2), keepdim=True) + 1e-5)
        torch.testing.assert_close(sample.cam, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("features_only", [False, True])
def test_levels_are_those_of_timm(features_only):
    """By name, of sizes at which rows, columns and channels are alike."""
    names = LEVELS
    if features_only:
        names = [name.replace("layers.", "layers_") for name in LEVELS]
    backbone = dict(SWIN, img_size=48, features_only=features_only)
    model = MODELS.build(
        dict(type="mmwood.IRN", backbone=backbone, in_channels=CHANNELS, levels=names)
    ).eval()
    images = torch.randn(1, 3, 48, 48)
    levels = model._extract(images)
    assert [tuple(level.shape[1:]) for level in levels] == [
        (12, 12, 12), (12, 12, 12), (24, 6, 6), (48, 3, 3), (96, 2, 2)
    ]  # fmt: skip
    kept = {}
    modules = dict(model.backbone.named_modules())
    for name in names:
        modules[name].register_forward_hook(
            lambda _, args, output, name=name: kept.update({name: output})
        )
    model._extract(images)
    for level, name in zip(levels, names):
        assert torch.equal(level, kept[name].permute(0, 3, 1, 2))
    if features_only:
        (_, *others) = levels
        for given, level in zip(model.backbone(images), others):
            assert torch.equal(given, level)


def test_seam_and_advcam():
    fields = dict(pcm_in_channels=[24, 48], levels=LEVELS[2:4])
    model = build("mmwood.SEAM", **fields, view_scale=0.5)
    data = model.data_preprocessor(batch(), True)
    with pytest.raises(ValueError, match=r"levels have \[24, 48\] channels"):
        build("mmwood.SEAM", **{**fields, "pcm_in_channels": [24, 4]}).loss(**data)
    assert torch.isfinite(sum(model.loss(**data).values()))
    plain = build("mmwood.CAMClassifier")
    tta = MODELS.build(dict(type="mmwood.AdvCAM", module=plain, steps=2)).eval()
    data = batch()
    views = dict(inputs=[[data["inputs"][0]]], data_samples=[[data["data_samples"][0]]])
    with torch.no_grad():
        (sample,) = tta.test_step(views)
    assert sample.cam.shape == (1, 64, 64)


@pytest.mark.parametrize("channels", OTHER_NUMBERS)
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("mode", ["loss", "predict"])
@pytest.mark.parametrize("type", ["mmwood.CAMClassifier", "ImageClassifier"])
def test_other_numbers_of_channels_are_refused(type, mode, head, channels):
    model = build(type, head, channels)
    data = model.data_preprocessor(batch(), True)
    with pytest.raises(ValueError, match="the order of the axes"):
        model(**data, mode=mode)


@pytest.mark.parametrize("head", HEADS)
def test_without_the_classifier_the_order_is_refused(head):
    model = build("ImageClassifier", head)
    data = model.data_preprocessor(batch(), True)
    for mode in ("loss", "predict"):
        with pytest.raises(ValueError, match=r"\(B, h, w, D\).*mmwood.CAMClassifier"):
            model(**data, mode=mode)


@pytest.mark.parametrize("out_type", ["raw", "cls_token", "avg_featmap"])
def test_what_is_no_map_is_refused(out_type):
    backbone = dict(
        type="VisionTransformer",
        arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
        img_size=64,
        patch_size=16,
        out_type=out_type,
    )
    model = build("mmwood.CAMClassifier", backbone=backbone, channels=17)
    data = model.data_preprocessor(batch(), True)
    with pytest.raises(ValueError, match="out_type='featmap'"):
        model(**data, mode="loss")
    irn = dict(type="mmwood.IRN", backbone=backbone, in_channels=[17] * 5)
    irn["levels"] = ["patch_embed", "layers.0", "layers.1", "ln1", "layers.1.ffn"]
    with pytest.raises(ValueError, match="a level must be a feature map"):
        MODELS.build(irn)(torch.randn(1, 3, 64, 64))
