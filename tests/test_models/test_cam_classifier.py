import numpy as np
import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmpretrain")

from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, TRANSFORMS
from mmpretrain.models.heads import MultiLabelClsHead
from mmpretrain.structures import DataSample
from PIL import Image

from mmwood.models.classifiers import cam_classifier

BACKBONES = {
    "resnet": (dict(type="ResNet", depth=18, stem_channels=8, base_channels=8), 64),
    "convnext": (
        dict(
            type="ConvNeXt",
            arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16]),
            gap_before_final_norm=False,
        ),
        16,
    ),
    "swin": (
        dict(
            type="SwinTransformer",
            arch=dict(embed_dims=12, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]),
            window_size=4,
            pad_small_map=True,
        ),
        96,
    ),
    "vit": (
        dict(
            type="VisionTransformer",
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
            ),
            img_size=64,
            patch_size=16,
            out_type="featmap",
        ),
        16,
    ),
    "mmseg": (
        dict(
            type="mmseg.ResNetV1c", depth=18, stem_channels=8, base_channels=8,
            dilations=(1, 1, 2, 4), strides=(1, 2, 1, 1),
        ),
        64,
    ),
    "timm": (
        dict(
            type="TIMMBackbone", model_name="tf_efficientnet_lite0", output_stride=16
        ),
        1280,
    ),
}  # fmt: skip


def build(backbone="resnet", **kwargs):
    torch.manual_seed(0)
    config, channels = BACKBONES[backbone]
    model = MODELS.build(
        dict(
            type="mmwood.CAMClassifier",
            data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3, to_rgb=True),
            backbone=dict(config),
            head=dict(type="mmwood.CAMHead", num_classes=3, in_channels=channels),
            **kwargs,
        )
    )
    return model.eval()


def image_batch(*sizes, labels=(0, 2)):
    rng = np.random.default_rng(0)
    inputs, samples = [], []
    for height, width in sizes:
        array = rng.integers(0, 256, (3, height, width), dtype=np.uint8)
        inputs.append(torch.from_numpy(array))
        sample = DataSample(metainfo=dict(ori_shape=(height, width), num_classes=3))
        samples.append(sample.set_gt_label(list(labels)))
    return dict(inputs=inputs, data_samples=samples)


@pytest.mark.parametrize("name", BACKBONES)
def test_any_backbone_gives_losses_scores_and_maps(name):
    if name == "timm":
        pytest.importorskip("timm")
    model = build(name)
    data = image_batch((64, 64), (64, 64))
    inputs = model.data_preprocessor(data, training=True)
    loss = model(**inputs, mode="loss")["loss"]
    loss.backward()
    assert model.head.classifier.weight.grad.abs().sum() > 0
    with torch.no_grad():
        for sample in model.test_step(image_batch((64, 64))):
            assert sample.pred_score.shape == (3,)
            assert sample.cam.shape == (2, 64, 64)
            assert sample.cam.dtype == torch.float16
            assert sample.cam_strided.shape == (2, 16, 16)
            assert sample.cam_classes.tolist() == [0, 2]


@torch.no_grad()
def test_images_of_different_sizes_are_not_padded():
    model = build(test_cfg=dict(cam_dtype="float32"))
    data = image_batch((40, 56), (33, 47), (40, 56), (64, 35))
    together = model.test_step(data)
    for index, sample in enumerate(together):
        single = {key: [value[index]] for key, value in data.items()}
        (alone,) = model.test_step(single)
        torch.testing.assert_close(sample.pred_score, alone.pred_score)
        torch.testing.assert_close(sample.cam, alone.cam)


@torch.no_grad()
def test_large_images_go_one_by_one_on_a_cpu(monkeypatch):
    model = build(test_cfg=dict(cam_dtype="float32"))
    data = image_batch((40, 56), (33, 47), (40, 56), (40, 56))
    together = model.test_step(data)
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    monkeypatch.setattr(cam_classifier, "CPU_PIXELS", 2 * 40 * 56)
    for one, other in zip(model.test_step(data), together):
        torch.testing.assert_close(one.cam, other.cam, atol=1e-4, rtol=0)
    assert seen == [2, 1, 1]


def plain_loop(model, picture: np.ndarray, classes: list[int], scales) -> torch.Tensor:
    """Multi-scale CAM of one image as METHOD states it, one forward pass at a time."""
    height, width = picture.shape[:2]
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    total = torch.zeros(len(classes), height, width)
    for scale in scales:
        size = (int(width * scale + 0.5), int(height * scale + 0.5))
        resized = np.array(Image.fromarray(picture).resize(size, Image.BICUBIC))
        both = 0
        for flip in (False, True):
            pixels = np.ascontiguousarray(resized[:, ::-1] if flip else resized)
            x = torch.from_numpy(pixels).permute(2, 0, 1).float()
            features = model.backbone(((x - mean) / std)[None])[-1]
            cam = F.conv2d(features, model.head.classifier.weight).relu()[0, classes]
            both = both + (cam.flip(-1) if flip else cam)
        total += F.interpolate(
            both[:, None], (height, width), mode="bilinear", align_corners=False
        )[:, 0]
    return total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)


@torch.no_grad()
def test_multi_scale_cam_equals_the_plain_loop(tmp_path):
    scales = (0.5, 1.0, 1.5, 2.0)
    module = build(test_cfg=dict(cam_dtype="float32"))
    tta = MODELS.build(dict(type="mmwood.MultiScaleCAM", module=module))
    rng = np.random.default_rng(1)
    pipeline = [
        dict(type="mmwood.LoadImage"),
        dict(
            type="TestTimeAug",
            transforms=[
                [
                    dict(
                        type="Resize",
                        scale_factor=scale,
                        keep_ratio=True,
                        backend="pillow",
                        interpolation="bicubic",
                    )
                    for scale in scales
                ],
                [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
                [dict(type="PackInputs")],
            ],
        ),
    ]
    pipeline = [TRANSFORMS.build(transform) for transform in pipeline]
    pictures, batch = [], []
    labels = ([0, 2], [1], [0, 1, 2], [])
    for number, size in enumerate(((45, 62), (64, 40), (45, 62), (50, 50))):
        picture = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        path = tmp_path / f"{number}.png"
        Image.fromarray(picture).save(path)
        results = dict(img_path=str(path), gt_label=labels[number])
        for transform in pipeline:
            results = transform(results)
        pictures.append(picture)
        batch.append(results)
    merged = tta.test_step(pseudo_collate(batch))
    assert len(merged) == 4
    for sample, picture, classes in zip(merged, pictures, labels):
        assert sample.cam_classes.tolist() == classes
        expected = plain_loop(module, picture, classes, scales)
        torch.testing.assert_close(sample.cam, expected, atol=1e-5, rtol=0)


def test_given_labels_are_needed_unless_predicted_ones_are_asked_for():
    data = image_batch((40, 40))
    del data["data_samples"][0].gt_label
    with pytest.raises(ValueError, match="cam_labels"), torch.no_grad():
        build().test_step(data)
    model = build(test_cfg=dict(cam_labels="predicted"))
    with torch.no_grad():
        (sample,) = model.test_step(data)
    predicted = torch.where(sample.pred_score >= 0.5)[0]
    assert sample.cam_classes.tolist() == predicted.tolist()


@torch.no_grad()
def test_scores_without_maps_need_no_labels():
    data = image_batch((40, 56), (33, 47), (40, 56))
    expected = [sample.pred_score for sample in build().test_step(data)]
    for sample in data["data_samples"]:
        del sample.gt_label
    samples = build(test_cfg=dict(cam_labels="none")).test_step(data)
    for sample, score in zip(samples, expected):
        assert set(sample.keys()) == {"pred_score", "pred_label", "features"}
        assert torch.equal(sample.pred_score, score)


def test_norm_eval_keeps_the_statistics_of_any_backbone():
    model = build(norm_eval=True).train()
    before = model.backbone.bn1.running_mean.clone()
    model(torch.randn(2, 3, 64, 64))
    assert torch.equal(model.backbone.bn1.running_mean, before)
    assert model.training


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(cam_label="given"), "no field"),
        (dict(cam_labels="all"), "cam_labels"),
        (dict(cam_dtype="int8"), "cam_dtype"),
    ],
)
def test_wrong_test_cfg_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        build(test_cfg=options)


HEADS_WITHOUT_MAPS = [
    dict(type="MultiLabelLinearClsHead", num_classes=3, in_channels=64),
    dict(type="LinearClsHead", num_classes=3, in_channels=64),
    dict(type="CSRAClsHead", num_classes=3, in_channels=64, num_heads=1, lam=0.1),
    dict(type="ArcFaceClsHead", num_classes=3, in_channels=64),
    dict(type="VisionTransformerClsHead", num_classes=3, in_channels=64),
    dict(type="MultiLabelClsHead"),
    None,
]


@pytest.mark.parametrize("neck", [None, dict(type="GlobalAveragePooling")])
@pytest.mark.parametrize("head", HEADS_WITHOUT_MAPS, ids=str)
def test_a_head_without_maps_is_refused_when_built(head, neck):
    backbone = BACKBONES["resnet"][0]
    for kind in (dict(type="mmwood.CAMClassifier"), SEAM):
        with pytest.raises(
            ValueError, match=r"model\.head: .* no class activation maps"
        ):
            MODELS.build(dict(kind, backbone=backbone, head=head, neck=neck))


SEAM = dict(
    type="mmwood.SEAM", pcm_in_channels=[16], pcm_channels=[8], levels=["layer2"]
)


class HeadMadeLikeIt(MultiLabelClsHead):
    """Not ours, and it gives maps."""

    num_classes = 3

    def __init__(self):
        super().__init__(loss=dict(type="CrossEntropyLoss", use_sigmoid=True))
        self.weight = torch.nn.Parameter(torch.randn(3, 64))

    def forward(self, feats):
        return feats[-1].mean(dim=(2, 3)) @ self.weight.T

    def predict(self, feats, data_samples=None):
        samples = super().predict(feats, data_samples)
        maps = torch.einsum("bdhw,cd->bchw", feats[-1], self.weight).relu()
        for sample, activation in zip(samples, maps):
            sample.set_field(activation, "activation", dtype=torch.Tensor)
        return samples


@pytest.mark.parametrize("kind", ["mmwood.CAMClassifier", "mmwood.SEAM"])
def test_a_head_of_one_s_own_that_gives_maps(kind):
    fields = SEAM if kind == "mmwood.SEAM" else dict(type=kind)
    backbone = BACKBONES["resnet"][0]
    model = MODELS.build(dict(fields, backbone=backbone, head=HeadMadeLikeIt()))
    data = model.data_preprocessor(image_batch((64, 64), (64, 64)), True)
    sum(model(**data, mode="loss").values()).backward()
    assert model.head.weight.grad.abs().sum() > 0
    tta = MODELS.build(dict(type="mmwood.AdvCAM", module=model, steps=2)).eval()
    data = image_batch((64, 64))
    data["data_samples"][0].set_metainfo(dict(img_shape=(64, 64)))
    views = {key: [value] for key, value in data.items()}
    with torch.no_grad():
        assert tta.test_step(views)[0].cam.shape == (2, 64, 64)


@pytest.mark.parametrize("tta", ["mmwood.MultiScaleCAM", "mmwood.AdvCAM"])
def test_no_other_classifier_has_its_maps_merged(tta):
    classifier = dict(
        type="ImageClassifier",
        backbone=BACKBONES["resnet"][0],
        head=dict(type="mmwood.CAMHead", num_classes=3, in_channels=64),
    )
    with pytest.raises(ValueError, match=r"model\.type is ImageClassifier"):
        MODELS.build(dict(type=tta, module=classifier))
