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
    return [
        module
        for module in backbone.modules()
        if isinstance(module, torch.nn.MultiheadAttention)
        or (hasattr(module, "proj") and hasattr(module, "num_heads"))
    ]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_the_weights_are_those_of_the_network(name, fused):
    """Times the values they are what every layer gives to its last projection."""
    model = build(name)
    modules = attention_modules(model.backbone)
    assert len(modules) == 3
    if not fused:
        if not hasattr(modules[0], "fused_attn"):
            pytest.skip(f"{type(modules[0]).__name__} has one way only")
        for module in modules:
            module.fused_attn = False
    values, given = [], []
    for module in modules:
        if isinstance(module, torch.nn.MultiheadAttention):
            module.register_forward_hook(
                lambda m, args, kwargs, output: (
                    values.append(
                        F.linear(
                            kwargs["value"], m.in_proj_weight[-16:], m.in_proj_bias[-16:]
                        ).transpose(0, 1)
                    ),
                    given.append((m.out_proj, output[0].transpose(0, 1))),
                ),
                with_kwargs=True,
            )
        else:
            # Without qkv the values have a projection of their own.
            whole = module.qkv if module.qkv is not None else module.v_proj
            whole.register_forward_hook(lambda *a: values.append(a[2][..., -16:]))
            module.proj.register_forward_pre_hook(
                lambda m, args: given.append((torch.nn.Identity(), args[0]))
            )
    images = torch.randn(2, 3, 50, 75)
    with AttentionReader() as reader:
        features = model.extract_feat(images)[-1]
    extra = count_extra_tokens(model.backbone)
    assert extra == NETWORKS[name][1]
    tokens = features[0, 0].numel() + extra
    assert tokens == 4 * 5 + extra
    read = [weights() for _, weights in reader._layers]
    assert len(read) == len(given) == len(values) == 3
    mean = reader.mean(2, tokens)
    torch.testing.assert_close(mean, sum(read) / 3)
    torch.testing.assert_close(mean.sum(-1), torch.ones(2, tokens))
    # Of heads only the mean is read: with equal values of the heads it shows.
    for weights, value, (projection, output) in zip(read, values, given):
        assert weights.std() > 1e-3
    torch.testing.assert_close(model.extract_feat(images)[-1], features)
