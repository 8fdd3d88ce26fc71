"""Self-attention as networks compute it, and maps that it spreads before they merge."""

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmpretrain")

import mmseg.models  # noqa: F401
from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmwood.functional.attention_affinity import spread_maps
from mmwood.models.utils import AttentionReader, count_extra_tokens

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
PLAIN = dict(
    type="VisionTransformer", arch=ARCH, img_size=64, patch_size=16, out_type="featmap"
)
TIMM = dict(
    type="TIMMBackbone", features_only=True, img_size=64, embed_dim=16, depth=3,
    num_heads=2, dynamic_img_size=True, dynamic_img_pad=True,
)  # fmt: skip
#: By name: the backbone, and how many tokens stand before the patches.
NETWORKS = {
    "mmpretrain": (PLAIN, 1),
    "without class token": (dict(PLAIN, with_cls_token=False), 0),
    "distilled": (dict(PLAIN, type="DistilledVisionTransformer"), 2),
    "rotary": (dict(PLAIN, type="ViTEVA02", arch=ARCH), 1),
    "mmseg": (
        dict(type="mmseg.VisionTransformer", img_size=64, embed_dims=16, num_layers=3,
             num_heads=2, out_indices=2),
        1,
    ),
    "timm": (dict(TIMM, model_name="vit_tiny_patch16_224"), 1),
    "timm, normalised queries, registers": (
        dict(TIMM, model_name="vit_tiny_patch16_224", qk_norm=True, reg_tokens=4), 5,
    ),
    "timm, rotary": (
        dict(TIMM, model_name="eva02_tiny_patch14_224", patch_size=16), 1
    ),
}  # fmt: skip


def build(name="mmpretrain", **test_cfg):
    config = dict(NETWORKS[name][0]) if isinstance(name, str) else name
    if config["type"] == "TIMMBackbone":
        pytest.importorskip("timm")
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="mmwood.CAMClassifier",
            data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3),
            backbone=config,
            test_cfg=dict(cam_dtype="float32", **test_cfg),
            head=dict(type="mmwood.CAMHead", num_classes=3, in_channels=16),
        )
    )
    with torch.no_grad():
        for parameter in model.parameters():
            # At the usual start all patches attend to all alike.
            if parameter.ndim == 2:
                parameter.mul_(8)
    return model.eval()


def batch(*sizes: tuple[int, int], labels=(0, 2)) -> dict:
    torch.manual_seed(1)
    inputs = [torch.randint(0, 256, (3, *s), dtype=torch.uint8) for s in sizes]
    samples = [
        DataSample(metainfo=dict(ori_shape=size, img_path="image")).set_gt_label(labels)
        for size in sizes
    ]
    return dict(inputs=inputs, data_samples=samples)


def attention_modules(backbone) -> list:
    kinds = torch.nn.MultiheadAttention
    return [
        module
        for module in backbone.modules()
        if isinstance(module, kinds) or hasattr(module, "qkv")
    ]


def watch(modules: list) -> list[tuple]:
    """What every layer takes and gives from now on: module, tokens in, tokens out."""
    seen = []
    for module in modules:
        module.register_forward_hook(
            lambda *found: seen.append(
                (found[0], found[1] or [found[2]["query"]], found[3])
            ),
            with_kwargs=True,
        )
    return seen


def output_of(weights, module, args) -> torch.Tensor:
    """The output of a layer of one head with these weights, in double precision."""
    tokens = args[0]
    if isinstance(module, torch.nn.MultiheadAttention):
        weight, bias, last = module.in_proj_weight, module.in_proj_bias, module.out_proj
        tokens = tokens if module.batch_first else tokens.transpose(0, 1)
    else:
        weight, bias, last = module.qkv.weight, module.qkv.bias, module.proj
    if bias is None:
        bias = torch.zeros(48) if module.v_bias is None else module.v_bias
    values = F.linear(tokens.double(), weight[32:].double(), bias[-16:].double())
    return F.linear(weights.double() @ values, last.weight.double(), last.bias.double())


def one_head(config: dict) -> dict:
    if isinstance(config.get("arch"), dict):
        return dict(config, arch=dict(config["arch"], num_heads=1))
    return dict(config, num_heads=1)


@pytest.mark.parametrize(
    ("name", "fused"),
    [(name, True) for name in NETWORKS]
    + [(name, False) for name in NETWORKS if "timm" in name],
)
@torch.no_grad()
def test_the_weights_are_those_that_give_the_output(name, fused):
    config, extra = NETWORKS[name]
    model = build(one_head(config))
    modules = attention_modules(model.backbone)
    for module in modules:
        if not fused:
            assert module.fused_attn
            module.fused_attn = False
    images = torch.randn(2, 3, 50, 75)
    features = model.extract_feat(images)[-1]
    seen = watch(modules)
    with AttentionReader() as reader:
        torch.testing.assert_close(model.extract_feat(images)[-1], features)
    assert count_extra_tokens(model.backbone) == extra
    tokens = features[0, 0].numel() + extra
    read = [weights() for _, weights in reader._layers]
    assert len(read) == len(seen) == 3
    for weights, (module, args, output) in zip(read, seen):
        assert weights.shape == (2, tokens, tokens)
        assert weights.std(dim=1).max() > 0.01
        if isinstance(output, tuple):
            output = output[0] if module.batch_first else output[0].transpose(0, 1)
        expected = output_of(weights, module, args)
        torch.testing.assert_close(output.double(), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(reader.mean(2, tokens), sum(read) / 3)
    assert reader.mean(2, tokens + 1) is None


@torch.no_grad()
def test_heads_are_averaged_and_the_last_layers_kept():
    model = build()
    modules = attention_modules(model.backbone)
    outputs = []
    for module in modules:
        module.qkv.register_forward_hook(lambda *found: outputs.append(found[2]))
    with AttentionReader(layers=2) as reader:
        model.extract_feat(torch.randn(2, 3, 50, 75))
    expected = torch.zeros(2, 21, 21, dtype=torch.float64)
    for output in outputs[1:]:
        query, key, _ = output.double().reshape(2, 21, 3, 2, 8).permute(2, 0, 3, 1, 4)
        for head in range(2):
            scores = query[:, head] @ key[:, head].mT / 8**0.5
            expected += scores.softmax(-1) / 4
    torch.testing.assert_close(
        reader.mean(2, 21).double(), expected, atol=1e-5, rtol=1e-5
    )


def refined_map(model, image, classes, layers, **options) -> torch.Tensor:
    """The maps of one image, with weights from the layers' queries and keys."""
    outputs, handles = [], []
    for module in attention_modules(model.backbone):
        hook = module.qkv.register_forward_hook(lambda *found: outputs.append(found[2]))
        handles.append(hook)
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    features = model.backbone(((image - mean) / std)[None])[-1]
    for handle in handles:
        handle.remove()
    weights = []
    for output in outputs[-layers:]:
        tokens = output.shape[1]
        query, key, _ = output[0].reshape(tokens, 3, 2, 8).permute(1, 2, 0, 3)
        weights += [(query[h] @ key[h].T / 8**0.5).softmax(-1) for h in range(2)]
    maps = F.conv2d(features, model.head.classifier.weight).relu()
    attention = torch.stack(weights).mean(dim=0)[None]
    return spread_maps(maps, attention, **options)[0, classes]


@pytest.mark.parametrize(
    ("refine", "layers", "options"),
    [
        ("mean", 3, {}),
        ("sinkhorn", 3, dict(mode="sinkhorn", iterations=3, box_threshold=0.79)),
        (
            dict(type="sinkhorn", layers=1, iterations=1, box_threshold=None),
            1,
            dict(mode="sinkhorn", iterations=1),
        ),
    ],
    ids=["mean", "sinkhorn", "fields"],
)
@torch.no_grad()
def test_maps_are_refined_before_scales_and_flips_merge(refine, layers, options):
    model = build(refine=refine, round_up_to=16)
    tta = MODELS.build(dict(type="mmwood.MultiScaleCAM", module=model))
    torch.manual_seed(2)
    size, views, samples = (32, 48), [], []
    total = torch.zeros(2, *size)
    for scale in (size, (48, 80)):
        image = torch.randint(0, 256, (3, *scale), dtype=torch.uint8)
        both = 0
        for flip in (False, True):
            view = image.flip(-1) if flip else image
            maps = refined_map(model, view, [0, 2], layers, **options)
            both = both + (maps.flip(-1) if flip else maps)
            meta = dict(ori_shape=size, flip=flip, flip_direction="horizontal")
            views.append(view)
            samples.append(DataSample(metainfo=meta).set_gt_label([0, 2]))
        total += F.interpolate(both[None], size, mode="bilinear", align_corners=False)[
            0
        ]
    expected = total / (total.amax(dim=(1, 2), keepdim=True) + 1e-5)
    data = dict(inputs=[[v] for v in views], data_samples=[[s] for s in samples])
    (found,) = tta.test_step(data)
    torch.testing.assert_close(found.cam, expected, atol=1e-4, rtol=0)
    plain = MODELS.build(
        dict(type="mmwood.MultiScaleCAM", module=build(round_up_to=16))
    )
    (other,) = plain.test_step(data)
    torch.testing.assert_close(other.pred_score, found.pred_score)
    assert (other.cam - found.cam).abs().max() > 0.05


@torch.no_grad()
def test_images_of_different_sizes_and_padding():
    model = build(refine="mean")
    data = batch((32, 48), (50, 75), (32, 48))
    together = model.test_step(data)
    for index, sample in enumerate(together):
        (alone,) = model.test_step({k: [v[index]] for k, v in data.items()})
        torch.testing.assert_close(sample.cam, alone.cam, atol=1e-5, rtol=1e-5)
    # No maps, no work.
    model.test_cfg["cam_labels"] = "none"
    model._refine = (1, dict(mode="none"))
    assert "cam" not in model.test_step(data)[0]


@torch.no_grad()
def test_half_precision_is_the_networks_alone():
    with torch.autocast("cpu", torch.bfloat16):
        (found,) = build(refine="sinkhorn").activations(batch((64, 64)))
        with AttentionReader() as reader:
            (plain,) = build().activations(batch((64, 64)))
    assert plain.activation.dtype == torch.bfloat16
    fields = dict(mode="sinkhorn", iterations=3, box_threshold=0.79)
    expected = spread_maps(plain.activation[None], reader.mean(1, 17), **fields)[0]
    torch.testing.assert_close(found.activation, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            dict(type="ResNet", depth=18, stem_channels=8, base_channels=2),
            r"maps of \(2, 2\) patches and 0 more tokens need self-attention "
            r"\(1, 4, 4\); that of ResNet \(images, queries, keys\) is none",
        ),
        (
            dict(
                type="SwinTransformer",
                arch=dict(embed_dims=2, depths=[1] * 4, num_heads=[1] * 4),
                window_size=4,
                pad_small_map=True,
            ),
            r"self-attention \(1, 4, 4\); that of SwinTransformer .*\(1, 16, 16\)",
        ),
        (
            dict(
                type="XCiT", patch_size=16, embed_dims=16, depth=2, num_heads=2,
                mlp_ratio=4, out_type="featmap",
            ),
            r"1 more tokens need self-attention \(1, 17, 17\); .*\(1, 8, 8\)",
        ),
    ],
    ids=["ResNet", "Swin", "XCiT"],
)  # fmt: skip
@torch.no_grad()
def test_networks_without_such_attention_are_named(config, message):
    model = build(config, refine="mean")
    with pytest.raises(ValueError, match=rf"^model\.test_cfg\.refine: .*{message}"):
        model.test_step(batch((64, 64)))


@pytest.mark.parametrize(
    ("refine", "message"),
    [
        ("sum", r"refine\.type must be 'mean' or 'sinkhorn', but is 'sum'"),
        (dict(layers=2), r"refine\.type must be"),
        (dict(type="mean", iterations=2), r"refine has no field \['iterations'\]"),
        (dict(type="mean", layers=0), r"refine\.layers must be an integer"),
        (dict(type="sinkhorn", iterations=0), r"refine\.iterations must be"),
        (dict(type="sinkhorn", box_threshold=1.0), r"refine\.box_threshold must be"),
    ],
)
def test_wrong_fields(refine, message):
    with pytest.raises(ValueError, match=rf"^model\.test_cfg\.{message}"):
        build(refine=refine)


def test_maps_that_climb_are_not_refined():
    with pytest.raises(ValueError, match=r"^model\.test_cfg\.refine has no effect"):
        MODELS.build(dict(type="mmwood.AdvCAM", module=build(refine="mean")))
