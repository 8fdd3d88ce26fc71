import subprocess
import sys
import textwrap
from importlib.util import find_spec

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmcv")

from mmengine.registry import MODELS, init_default_scope

from mmwood.models import WideResNet38

NARROW = 4

# Input and output channels and kernel of every convolution of the published network,
# a line for each block (in brackets the shortcut's), copied from the paper's table.
CONVOLUTIONS = """
3>64:3
64>128:3 128>128:3 (64>128:1)
128>128:3 128>128:3
128>128:3 128>128:3
128>256:3 256>256:3 (128>256:1)
256>256:3 256>256:3
256>256:3 256>256:3
256>512:3 512>512:3 (256>512:1)
512>512:3 512>512:3
512>512:3 512>512:3
512>512:3 512>512:3
512>512:3 512>512:3
512>512:3 512>512:3
512>512:3 512>1024:3 (512>1024:1)
1024>512:3 512>1024:3
1024>512:3 512>1024:3
1024>512:1 512>1024:3 1024>2048:1 (1024>2048:1)
2048>1024:1 1024>2048:3 2048>4096:1 (2048>4096:1)
"""


def on_meta(**fields):
    with torch.device("meta"):
        return WideResNet38(**fields)


def shapes(model, height, width):
    outs = model(torch.zeros(2, 3, height, width, device="meta"))
    return [tuple(out.shape) for out in outs]


def randomised(model):
    """Statistics and parameters that make every layer matter."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            values = torch.rand(tensor.shape, generator=generator, dtype=torch.float64)
            if tensor.ndim == 4:
                values = (values - 0.5) * (12 / tensor[0].numel()) ** 0.5
            elif "running_mean" in name or "bias" in name:
                values -= 0.5
            else:
                values += 0.5
            tensor.copy_(values)
    return model


def reference(state, x, strides=(2, 2, 2, 1, 1, 1), dilations=(1, 1, 1, 2, 4, 4)):
    """All six activated maps of the network in evaluation mode, written out."""

    def active(name, x):
        values = [
            state[f"{name}.{key}"][:, None, None]
            for key in ("running_mean", "running_var", "weight", "bias")
        ]
        mean, var, weight, bias = values
        return ((x - mean) / (var + 1e-5).sqrt() * weight + bias).clamp(min=0)

    def conv(name, x, stride, dilation):
        weight = state[f"{name}.weight"]
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, None, stride, padding, dilation)

    def plain(name, x, stride, first, dilation, shortcut):
        a = active(f"{name}.norms.0", x)
        b = active(f"{name}.norms.1", conv(f"{name}.convs.0", a, stride, first))
        side = conv(f"{name}.shortcut", a, stride, 1) if shortcut else x
        return side + conv(f"{name}.convs.1", b, 1, dilation)

    def bottleneck(name, x, stride, dilation):
        a = active(f"{name}.norms.0", x)
        b = active(f"{name}.norms.1", conv(f"{name}.convs.0", a, stride, 1))
        c = active(f"{name}.norms.2", conv(f"{name}.convs.1", b, 1, dilation))
        side = conv(f"{name}.shortcut", a, stride, 1)
        return side + conv(f"{name}.convs.2", c, 1, 1)

    s, d = strides, dilations
    x = conv("stem", x, 1, 1)
    x = plain("b2.0", x, s[0], 1, d[0], True)
    x = plain("b2.1", x, 1, d[0], d[0], False)
    x = plain("b2.2", x, 1, d[0], d[0], False)
    b2 = active("b3.0.norms.0", x)
    x = plain("b3.0", x, s[1], d[0], d[1], True)
    x = plain("b3.1", x, 1, d[1], d[1], False)
    x = plain("b3.2", x, 1, d[1], d[1], False)
    b3 = active("b4.0.norms.0", x)
    x = plain("b4.0", x, s[2], d[1], d[2], True)
    x = plain("b4.1", x, 1, d[2], d[2], False)
    x = plain("b4.2", x, 1, d[2], d[2], False)
    x = plain("b4.3", x, 1, d[2], d[2], False)
    x = plain("b4.4", x, 1, d[2], d[2], False)
    x = plain("b4.5", x, 1, d[2], d[2], False)
    b4 = active("b5.0.norms.0", x)
    x = plain("b5.0", x, s[3], d[2], d[3], True)
    x = plain("b5.1", x, 1, d[3], d[3], False)
    x = plain("b5.2", x, 1, d[3], d[3], False)
    b5 = active("b6.0.norms.0", x)
    x = bottleneck("b6.0", x, s[4], d[4])
    b6 = active("b7.0.norms.0", x)
    x = bottleneck("b7.0", x, s[5], d[5])
    return b2, b3, b4, b5, b6, active("norm", x)


def test_parameters_are_the_published_ones():
    weights = norms = 0
    channels = 64
    for line in CONVOLUTIONS.split("\n")[1:-1]:
        for text in line.split():
            sides, kernel = text.strip("()").split(":")
            inputs, outputs = map(int, sides.split(">"))
            weights += inputs * outputs * int(kernel) ** 2
            if not text.startswith("(") and inputs != 3:
                norms += 2 * inputs
            channels = outputs
    norms += 2 * channels
    # With the 1000 classes' layer of ImageNet: 109 million.
    assert weights + norms == 105070912
    model = on_meta()
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sum(p.numel() for m in convolutions for p in m.parameters()) == weights
    assert sum(p.numel() for p in model.parameters()) == weights + norms


@pytest.mark.parametrize(
    ("strides", "dilations", "expected"),
    [
        (None, None, [(17, 21), (9, 11), (5, 6), (5, 6), (5, 6), (5, 6)]),
        (
            (2, 2, 2, 2, 1, 1),
            (1, 1, 1, 1, 2, 2),
            [(17, 21), (9, 11), (5, 6), (3, 3), (3, 3), (3, 3)],
        ),
        (
            (2, 2, 2, 2, 2, 1),
            (1,) * 6,
            [(17, 21), (9, 11), (5, 6), (3, 3), (2, 2), (2, 2)],
        ),
    ],
)
def test_shapes_of_an_odd_image(strides, dilations, expected):
    fields = dict(strides=strides, dilations=dilations) if strides else {}
    model = on_meta(out_indices=range(6), **fields)
    channels = [128, 256, 512, 1024, 2048, 4096]
    assert shapes(model, 33, 41) == [
        (2, c, *size) for c, size in zip(channels, expected)
    ]


def test_gives_the_last_map_or_the_chosen_ones():
    assert shapes(on_meta(), 16, 24) == [(2, 4096, 2, 3)]
    assert shapes(on_meta(out_indices=(0, 3)), 16, 24) == [
        (2, 128, 8, 12),
        (2, 1024, 2, 3),
    ]


@pytest.mark.parametrize("with_cp", [False, True])
@pytest.mark.parametrize(
    ("strides", "dilations"),
    [
        ((2, 2, 2, 1, 1, 1), (1, 1, 1, 2, 4, 4)),
        ((2, 2, 2, 2, 1, 1), (1, 1, 1, 1, 2, 2)),
        ((1, 2, 1, 1, 2, 1), (1, 1, 2, 3, 4, 5)),
    ],
)
def test_equals_the_reference_in_double(strides, dilations, with_cp):
    model = WideResNet38(
        strides,
        dilations,
        out_indices=range(6),
        base_channels=NARROW,
        with_cp=with_cp,
    )
    model = randomised(model.double()).eval()
    x = torch.randn(2, 3, 33, 41, dtype=torch.float64)
    expected = reference(model.state_dict(), x, strides, dilations)
    outs = model(x)
    assert len(outs) == 6
    for out, right in zip(outs, expected):
        assert right.abs().max() > 0.1
        torch.testing.assert_close(out, right)
    model.out_indices = (5,)
    torch.testing.assert_close(model(x)[0], expected[-1])


def test_checkpointing_gives_the_same_gradients():
    gradients = []
    for with_cp in (False, True):
        model = WideResNet38(
            base_channels=NARROW, with_cp=with_cp, out_indices=(3, 5), frozen_stages=1
        )
        model = randomised(model.double()).train()
        torch.manual_seed(0)
        outs = model(torch.randn(2, 3, 33, 41, dtype=torch.float64))
        sum(out.square().sum() for out in outs).backward()
        gradients.append({n: p.grad for n, p in model.named_parameters()})
    plain, again = gradients
    frozen = {name for name, gradient in plain.items() if gradient is None}
    assert frozen == {n for n in plain if n.startswith(("stem.", "b2."))}
    for name in plain.keys() - frozen:
        assert plain[name].abs().sum() > 0, name
        torch.testing.assert_close(again[name], plain[name])


def test_dropout_drops_channels_in_the_last_stages_alone():
    model = WideResNet38(base_channels=NARROW, dropout=(0.25, 0.5))
    rates = {
        name: module.p
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Dropout2d) and module.p
    }
    assert rates == {"b6.0.dropout": 0.25, "b7.0.dropout": 0.5}
    seen = []
    for norm, conv in zip(model.b7[0].norms, model.b7[0].convs):
        # Every activation is 1, so that zeros are what was dropped.
        torch.nn.init.zeros_(norm.weight)
        torch.nn.init.ones_(norm.bias)
        conv.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    torch.manual_seed(0)
    model.train()(torch.zeros(4, 3, 32, 32))
    first, *others = seen
    assert (first == 1).all()
    for kept in others:
        assert kept.unique().tolist() == [0, 2]
        assert torch.equal(kept, kept[:, :, :1, :1].expand_as(kept))
        assert kept.mean().item() == pytest.approx(1, abs=0.2)


def test_frozen_stages_and_statistics():
    model = WideResNet38(base_channels=NARROW, frozen_stages=2).train()
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad != name.startswith(("stem.", "b2.", "b3."))
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model(torch.randn(2, 3, 16, 16))
    for name, buffer in model.named_buffers():
        torch.testing.assert_close(buffer, before[name], msg=name)
    model.norm_eval = False
    model.train()
    model(torch.randn(2, 3, 16, 16))
    moved = {
        name.split(".")[0]
        for name, buffer in model.named_buffers()
        if "running_mean" in name and not torch.equal(buffer, before[name])
    }
    assert moved == {"b4", "b5", "b6", "b7", "norm"}
    assert not model.eval().b5[0].norms[0].training


def test_normalisation_layers_can_be_frozen_or_others():
    model = WideResNet38(
        base_channels=NARROW, norm_cfg=dict(type="BN", requires_grad=False)
    )
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    assert not any("norm" in name for name in trained)
    assert "b7.0.convs.2.weight" in trained
    other = WideResNet38(base_channels=8, norm_cfg=dict(type="GN", num_groups=4))
    assert isinstance(other.norm, torch.nn.GroupNorm)
    assert other(torch.zeros(1, 3, 16, 16))[0].shape == (1, 512, 2, 2)


def test_pretrained_weights_through_a_stock_scope(tmp_path):
    source = randomised(WideResNet38(base_channels=NARROW))
    path = tmp_path / "weights.pth"
    torch.save(source.state_dict(), path)
    init_default_scope("mmseg")
    model = MODELS.build(
        dict(
            type="mmwood.WideResNet38",
            base_channels=NARROW,
            init_cfg=dict(type="Pretrained", checkpoint=str(path)),
        )
    )
    model.init_weights()
    for name, tensor in source.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor)


def test_initial_weights_keep_the_scale():
    torch.manual_seed(0)
    model = WideResNet38(base_channels=NARROW)
    model.init_weights()
    weight = model.b5[1].convs[0].weight
    assert weight.std().item() == pytest.approx((2 / (weight[0].numel())) ** 0.5, 0.5)
    assert all((norm.weight == 1).all() for norm in model.b5[1].norms)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(strides=(2, 2, 2, 1)), "backbone.strides"),
        (dict(dilations=(1, 1, 1, 2, 4, 0)), "backbone.dilations"),
        (dict(dropout=(0.3,)), "backbone.dropout"),
        (dict(dropout=(0.3, 1.0)), "backbone.dropout"),
        (dict(out_indices=(6,)), "backbone.out_indices"),
        (dict(out_indices=()), "backbone.out_indices"),
        (dict(out_indices=(1, 1)), "backbone.out_indices"),
        (dict(frozen_stages=7), "backbone.frozen_stages"),
    ],
)
def test_refuses(fields, message):
    with pytest.raises(ValueError, match=message):
        on_meta(**fields)


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["mmpretrain torchvision", "mmcv mmseg mmpretrain"])
def test_what_is_absent_costs_only_what_needs_it(missing):
    code = f"""
        import sys
        from contextlib import suppress
        for name in {missing!r}.split():
            sys.modules[name] = None  # importing it raises ModuleNotFoundError
        import mmwood.models as models
        for name in ("SizeBalancedCELoss", "WideResNet38", "DeepLabV2Head", "CAMHead"):
            with suppress(ImportError):
                print(getattr(models, name).__name__)
    """
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = set(result.stdout.split())
    assert "SizeBalancedCELoss" in found
    assert ("WideResNet38" in found) == ("mmcv" not in missing)
    if missing == "mmpretrain torchvision":
        assert ("DeepLabV2Head" in found) == (find_spec("mmseg") is not None)
    else:
        assert "DeepLabV2Head" not in found
