import numpy as np
import pytest
import torch
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData
from mmseg.models.losses import CrossEntropyLoss
from mmseg.registry import MODELS as MMSEG_MODELS
from mmseg.structures import SegDataSample
from scipy import ndimage

from mmwood.models.losses import SizeBalancedCELoss

C = 4


def batch(seed=0, ignored=True, size=(2, 9, 11), dtype=torch.float32):
    """Logits and labels with several components of every class."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size[0], C, *size[1:], generator=generator, dtype=dtype)
    label = torch.randint(0, C, size, generator=generator)
    if ignored:
        label[torch.rand(size, generator=generator) < 0.2] = 255
    return logits.requires_grad_(), label


def slow_pixel_losses(
    logits, label, limit=5.0, class_weight=None, reference="foreground"
):
    """Weighted cross-entropy and weight of each pixel, by loops, in float64."""
    logits, label = logits.detach().double().numpy(), label.numpy()
    losses, factors = np.zeros(label.shape), np.zeros(label.shape)
    for b in range(len(label)):
        weights = np.ones(label.shape[1:])
        foreground = ((label[b] != 0) & (label[b] != 255)).sum()
        for c in range(1, C):
            parts, number = ndimage.label(label[b] == c, np.ones((3, 3)))
            total = (label[b] == c).sum() if reference == "class" else foreground
            for n in range(1, number + 1):
                ratio = total / (parts == n).sum()
                weights[parts == n] = min(limit, ratio)
        for y, x in np.ndindex(*label.shape[1:]):
            c = label[b, y, x]
            if c != 255:
                scores = logits[b, :, y, x]
                entropy = np.log(np.exp(scores).sum()) - scores[c]
                factor = 1 if class_weight is None else class_weight[c]
                factors[b, y, x] = weights[y, x] * factor
                losses[b, y, x] = factors[b, y, x] * entropy
    return losses, factors


class TestValue:
    @pytest.mark.parametrize("limit", [1.0, 2.0, 5.0])
    @pytest.mark.parametrize("reference", ["foreground", "class"])
    @pytest.mark.parametrize("average", ["weights", "pixels"])
    @pytest.mark.parametrize("seed", range(2))
    def test_equals_loops(self, limit, reference, average, seed):
        logits, label = batch(seed, dtype=torch.float64)
        expected, weights = slow_pixel_losses(logits, label, limit, reference=reference)
        loss = SizeBalancedCELoss(limit=limit, reference=reference, average=average)
        torch.testing.assert_close(
            loss(logits, label, reduction_override="none").detach(),
            torch.from_numpy(expected),
        )
        divisor = weights.sum() if average == "weights" else (label != 255).sum().item()
        # Weights are float32.
        assert loss(logits, label).item() == pytest.approx(
            expected.sum() / divisor, rel=1e-6
        )

    def test_forms(self):
        # Equal scores: log(3) everywhere, so that the program's mean is log(3).
        label = torch.tensor([[[1, 1, 0, 1, 255, 2]]])
        logits = torch.zeros(1, 3, 1, 6)
        program = SizeBalancedCELoss()(logits, label).item()
        assert program == pytest.approx(np.log(3))
        text = SizeBalancedCELoss(form="text")(logits, label).item()
        assert text == pytest.approx((1.5 + 1.5 + 1 + 3 + 1) / 5 * np.log(3))
        # Below the limit of 5: four pixels of foreground by the component's.
        weights = SizeBalancedCELoss(reduction="none")(logits, label) / np.log(3)
        torch.testing.assert_close(
            weights, torch.tensor([[[2.0, 2.0, 1.0, 4.0, 0.0, 4.0]]])
        )
        mixed = SizeBalancedCELoss(form="text", average="weights")
        assert (mixed.reference, mixed.average) == ("class", "weights")

    @pytest.mark.parametrize("avg_non_ignore", [True, False])
    @pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
    @pytest.mark.parametrize("weighted", [True, False])
    def test_limit_one_is_stock(self, avg_non_ignore, reduction, weighted):
        logits, label = batch()
        weight = torch.rand(label.shape) if weighted else None
        fields = {"avg_non_ignore": avg_non_ignore, "loss_weight": 0.4}
        call = {"weight": weight, "ignore_index": 255, "reduction_override": reduction}
        ours = SizeBalancedCELoss(limit=1, **fields)(logits, label, **call)
        stock = CrossEntropyLoss(**fields)(logits, label, **call)
        torch.testing.assert_close(ours, stock)

    def test_limit_one_is_stock_with_class_weight(self):
        # Ignored pixels or avg_non_ignore make the stock loss fail.
        logits, label = batch(ignored=False)
        stock = CrossEntropyLoss(class_weight=[0.5, 1, 2, 3])
        ours = SizeBalancedCELoss(limit=1, class_weight=[0.5, 1, 2, 3])
        torch.testing.assert_close(
            ours(logits, label), stock(logits, label, ignore_index=255)
        )

    @pytest.mark.parametrize("avg_non_ignore", [True, False])
    def test_class_weight_with_ignored_pixels(self, avg_non_ignore):
        logits, label = batch()
        factors = [0.5, 1, 2, 3]
        expected, weights = slow_pixel_losses(logits, label, class_weight=factors)
        plain = np.array(factors)[label[label != 255].numpy()].sum()
        for average, divisor in (("weights", weights.sum()), ("pixels", plain)):
            loss = SizeBalancedCELoss(
                class_weight=factors, avg_non_ignore=avg_non_ignore, average=average
            )
            assert loss(logits, label).item() == pytest.approx(
                expected.sum() / divisor, rel=1e-5
            )

    def test_ignored_pixels_count_one_each(self):
        logits, label = batch()
        expected, weights = slow_pixel_losses(logits, label)
        loss = SizeBalancedCELoss(avg_non_ignore=False)(logits, label)
        divisor = weights.sum() + (label == 255).sum().item()
        assert loss.item() == pytest.approx(expected.sum() / divisor, rel=1e-5)

    @pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
    def test_plain_and_size_balanced_again(self, reduction):
        logits, label = batch()
        fields = {"avg_non_ignore": True, "loss_weight": 0.4}
        call = {"ignore_index": 255, "reduction_override": reduction}
        ours = SizeBalancedCELoss(**fields)
        balanced = ours(logits, label, **call)
        ours.size_balanced = False
        plain = ours(logits, label, **call)
        torch.testing.assert_close(
            plain, CrossEntropyLoss(**fields)(logits, label, **call)
        )
        with pytest.raises(ValueError, match="label has the values"):
            ours(logits, label + C)
        ours.size_balanced = True
        assert torch.equal(ours(logits, label, **call), balanced)
        assert not torch.allclose(plain, balanced)
        assert not ours.state_dict()

    def test_weight_and_avg_factor(self):
        logits, label = batch()
        weight = torch.rand(label.shape)
        losses, sizes = slow_pixel_losses(logits, label)
        expected = (losses * weight.numpy()).sum()
        loss = SizeBalancedCELoss(loss_weight=3.0)
        for factor in (7, torch.tensor(7.0)):
            result = loss(logits, label, weight, avg_factor=factor)
            assert result.item() == pytest.approx(3 * expected / 7, rel=1e-5)
        # As in the stock losses, a sampler's weight is not in what a mean divides by.
        result = loss(logits, label, weight)
        assert result.item() == pytest.approx(3 * expected / sizes.sum(), rel=1e-5)

    def test_ignore_index_of_the_call_goes_first(self):
        logits, label = batch()
        other = label.masked_fill(label == 255, -100)
        loss = SizeBalancedCELoss()
        torch.testing.assert_close(
            loss(logits, other, ignore_index=-100), loss(logits, label)
        )
        torch.testing.assert_close(
            SizeBalancedCELoss(ignore_index=-100)(logits, other), loss(logits, label)
        )

    def test_without_background(self):
        label = torch.tensor([[[0, 1, 0, 0]]])
        loss = SizeBalancedCELoss(background=None, reduction="none")
        result = loss(torch.zeros(1, 2, 1, 4), label) / np.log(2)
        torch.testing.assert_close(result, torch.tensor([[[4.0, 4.0, 2.0, 2.0]]]))

    @pytest.mark.parametrize("fields", [{}, {"class_weight": [1, 2, 3, 4]}])
    def test_everything_ignored(self, fields):
        logits, label = batch()
        loss = SizeBalancedCELoss(**fields)(logits, torch.full_like(label, 255))
        loss.backward()
        assert loss.item() == 0
        assert logits.grad.eq(0).all()

    def test_label_dtypes(self):
        logits, label = batch()
        loss = SizeBalancedCELoss()
        assert loss(logits, label.to(torch.uint8)).equal(loss(logits, label))


class TestGradient:
    def test_gradcheck(self):
        logits, label = batch(size=(1, 4, 5), dtype=torch.float64)
        loss = SizeBalancedCELoss(class_weight=[0.5, 1, 2, 3])
        weight = torch.rand(label.shape)
        assert torch.autograd.gradcheck(lambda x: loss(x, label, weight), (logits,))


class TestPrecision:
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_logits_are_computed_in_float32(self, dtype):
        logits, label = batch()
        half = logits.detach().to(dtype).requires_grad_()
        loss = SizeBalancedCELoss()
        result = loss(half, label)
        assert result.dtype == torch.float32
        torch.testing.assert_close(result, loss(half.float(), label))
        result.backward()
        assert half.grad.dtype == dtype
        assert half.grad.isfinite().all()

    def test_autocast(self):
        _, label = batch()
        convolution = torch.nn.Conv2d(3, C, 1)
        image = torch.randn(2, 3, 9, 11)
        loss = SizeBalancedCELoss(class_weight=[1, 2, 3, 4])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = convolution(image)
            result = loss(logits, label, weight=torch.rand(label.shape).bfloat16())
        assert logits.dtype == torch.bfloat16
        assert result.dtype == torch.float32
        result.backward()
        assert convolution.weight.grad.isfinite().all()

    @pytest.mark.cuda
    def test_cuda_equals_cpu(self):
        logits, label = batch()
        loss = SizeBalancedCELoss(class_weight=[1, 2, 3, 4])
        with torch.autocast("cuda"):
            result = loss(logits.cuda(), label.cuda())
        torch.testing.assert_close(result.cpu(), loss(logits, label))


class TestRefusals:
    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("limit", 0),
            ("limit", 0.5),
            ("connectivity", 6),
            ("reference", "image"),
            ("reduction", "max"),
            ("class_weight", "weights.npy"),
            ("class_weight", 2.0),
            ("class_weight", [1.0, float("nan")]),
            ("class_weight", [1.0, -1.0]),
            ("class_weight", []),
            ("loss_name", "sbce"),
        ],
    )
    def test_fields(self, field, value):
        with pytest.raises(ValueError, match=f"mmwood.SizeBalancedCELoss.*{field}"):
            SizeBalancedCELoss(**{field: value})

    @pytest.mark.parametrize("wrong", [C, 77, -1])
    def test_label_outside_the_classes(self, wrong):
        logits, label = batch()
        label[1, 2, 3] = wrong
        with pytest.raises(ValueError, match=rf"\[{wrong}\]"):
            SizeBalancedCELoss()(logits, label)

    @pytest.mark.parametrize(
        "fields", [{"background": C}, {"background": -1}, {"class_weight": [1, 2]}]
    )
    def test_fields_that_do_not_fit_the_classes(self, fields):
        with pytest.raises(ValueError, match=next(iter(fields))):
            SizeBalancedCELoss(**fields)(*batch())

    def test_shapes(self):
        logits, label = batch()
        loss = SizeBalancedCELoss()
        with pytest.raises(ValueError, match=r"label \(N, H, W\)"):
            loss(logits, label[:, None])
        with pytest.raises(ValueError, match=r"label \(N, H, W\)"):
            loss(logits[..., :-1], label)
        with pytest.raises(ValueError, match="points"):
            loss(logits.flatten(2), label.flatten(1))
        with pytest.raises(ValueError, match="one channel"):
            SizeBalancedCELoss()(logits[:, :1], torch.zeros_like(label))
        with pytest.raises(ValueError, match=r"weight \(N, H, W\)"):
            loss(logits, label, weight=torch.ones(len(label)))

    def test_reductions(self):
        logits, label = batch()
        loss = SizeBalancedCELoss()
        with pytest.raises(ValueError, match="reduction_override"):
            loss(logits, label, reduction_override="max")
        with pytest.raises(ValueError, match="avg_factor"):
            loss(logits, label, avg_factor=3, reduction_override="sum")


def fcn_head(**fields):
    return {
        "type": "FCNHead",
        "channels": 8,
        "num_convs": 1,
        "num_classes": C,
        "norm_cfg": {"type": "BN"},
        "align_corners": False,
        "loss_decode": {"type": "mmwood.SizeBalancedCELoss", "limit": 5.0},
        **fields,
    }


def build_in_mmseg(config):
    """Build as a Runner whose config says ``default_scope = 'mmseg'``."""
    with DefaultScope.overwrite_default_scope("mmseg"):
        return MMSEG_MODELS.build(config)


class TestInSegmentor:
    @pytest.mark.parametrize("threshold", [None, 0.7])
    def test_one_step(self, threshold):
        sampler = {"type": "OHEMPixelSampler", "thresh": threshold, "min_kept": 500}
        model = build_in_mmseg(
            {
                "type": "EncoderDecoder",
                "data_preprocessor": {"type": "SegDataPreProcessor"},
                "backbone": {"type": "ResNet", "depth": 18, "base_channels": 8},
                "decode_head": fcn_head(in_channels=64, in_index=3, sampler=sampler),
                "auxiliary_head": fcn_head(
                    in_channels=32,
                    in_index=2,
                    loss_decode={
                        "type": "mmwood.SizeBalancedCELoss",
                        "class_weight": [1.0, 2.0, 2.0, 2.0],
                        "loss_weight": 0.4,
                    },
                ),
            }
        )
        _, label = batch(size=(2, 64, 64))
        samples = [
            SegDataSample(gt_sem_seg=PixelData(data=single[None])) for single in label
        ]
        losses = model(torch.randn(2, 3, 64, 64), samples, mode="loss")
        assert {"decode.loss_sbce", "aux.loss_sbce"} <= set(losses)
        total, _ = model.parse_losses(losses)
        total.backward()
        assert total.item() > 0
        for head in (model.decode_head, model.auxiliary_head):
            assert isinstance(head.loss_decode, SizeBalancedCELoss)
            gradient = head.conv_seg.weight.grad
            assert gradient.isfinite().all()
            assert gradient.ne(0).any()

    def test_two_losses_in_one_head(self):
        head = build_in_mmseg(
            fcn_head(
                in_channels=3,
                loss_decode=[
                    {"type": "mmwood.SizeBalancedCELoss", "limit": 1},
                    {"type": "CrossEntropyLoss", "avg_non_ignore": True},
                ],
            )
        )
        logits, label = batch()
        samples = [SegDataSample(gt_sem_seg=PixelData(data=x[None])) for x in label]
        losses = head.loss_by_feat(logits, samples)
        torch.testing.assert_close(losses["loss_sbce"], losses["loss_ce"])


def test_built_from_the_root_registry():
    loss = ROOT_MODELS.build(
        {"type": "mmwood.SizeBalancedCELoss", "loss_name": "loss_x"}
    )
    assert isinstance(loss, SizeBalancedCELoss)
    assert loss.loss_name == "loss_x"
    assert not loss.state_dict()
    assert "limit=5.0" in repr(loss)


@pytest.mark.slow
def test_compiled_training_has_the_same_numbers():
    """More steps than dynamo would compile anew for."""

    def losses(compiled):
        torch.manual_seed(0)
        head = torch.nn.Conv2d(3, C, 1)
        loss = SizeBalancedCELoss(class_weight=[1.0, 2.0, 1.0, 3.0])

        def run(images, label):
            return loss(head(images), label, ignore_index=255)

        if compiled:
            # Tracing alone, without a C++ compiler.
            run = torch.compile(run, backend="eager")
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
        found = []
        for seed in range(10):
            generator = torch.Generator().manual_seed(seed)
            images = torch.randn(2, 3, 9, 11, generator=generator)
            value = run(images, batch(seed)[1])
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            found.append(value.item())
        return found

    assert losses(compiled=True) == losses(compiled=False)
