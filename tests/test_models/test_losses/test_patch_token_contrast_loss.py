"""PTC as a feature loss: its terms against loops, padding, and real trainings."""

import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmwood.functional.patch_token_contrast import (
    contrast_loss,
    pair_cosines,
    token_labels,
)
from mmwood.models import PatchTokenContrastLoss

REPOSITORY = Path(__file__).parents[3]
CLASSES, INNER, LAST = 3, 4, 6


def make_loss(**fields) -> PatchTokenContrastLoss:
    torch.manual_seed(0)
    return PatchTokenContrastLoss(CLASSES, INNER, **fields).double()


def make_batch(size=(4, 5)) -> dict:
    """Of three images the last is OoD; the second is padded to the others' size."""
    torch.manual_seed(1)
    inner = torch.randn(3, INNER, *size, dtype=torch.float64, requires_grad=True)
    last = torch.randn(3, LAST, *size, dtype=torch.float64, requires_grad=True)
    return dict(
        features=last,
        maps=torch.rand(3, CLASSES, *size, dtype=torch.float64),
        labels=torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]]),
        is_ood=torch.tensor([False, False, True]),
        feats=(inner, last),
        sizes=torch.tensor([[64, 80], [40, 57], [64, 80]]),
    )


def labels_by_loop(loss, batch, ood: bool) -> torch.Tensor:
    scores = F.conv2d(batch["feats"][0], loss.classifier.weight).detach()
    places = torch.zeros(scores[:, 0].shape, dtype=torch.long)
    for b, image in enumerate(scores):
        stretched = []
        for score, there in zip(image, batch["labels"][b]):
            low, high = score.relu().min(), score.relu().max()
            stretched.append((score.relu() - low) / (high - low + 1e-5) * there)
        places[b] = token_labels(torch.stack(stretched)[None])[0]
        height, width = batch["sizes"][b].tolist()
        for y in range(places.shape[1]):
            for x in range(places.shape[2]):
                if y * 16 + 8 >= height or x * 16 + 8 >= width:
                    places[b, y, x] = 255
        if batch["is_ood"][b] and not ood:
            places[b] = 255
    return places


@pytest.mark.parametrize("ood", [False, True])
def test_terms_equal_loops(ood):
    loss = make_loss(ptc_weight=0.3, aux_weight=0.7, ood_background=ood)
    batch = make_batch()
    found = loss(**batch)
    scores = F.conv2d(batch["feats"][0], loss.classifier.weight).detach()
    sums, counts = [0.0, 0.0], [0, 0]
    for image, tags, out in zip(scores, batch["labels"], batch["is_ood"].tolist()):
        for score, tag in zip(image, tags.tolist()):
            top = max(score.flatten().tolist())
            sums[out] += math.log(1 + math.exp(-top if tag else top)) / CLASSES
        counts[out] += 1
    expected = sums[0] / counts[0] + (sums[1] / counts[1] if ood else 0)
    assert found["loss_ptc_aux"].item() == pytest.approx(0.7 * expected)
    places = labels_by_loop(loss, batch, ood)
    assert {0, 1, 2, 255} <= set(places.flatten().tolist())
    same, different = pair_cosines(batch["features"], places)
    torch.testing.assert_close(found["ptc_cos_same"], same.detach())
    torch.testing.assert_close(found["ptc_cos_different"], different.detach())
    expected = 0.3 * contrast_loss(same, different)
    torch.testing.assert_close(found["loss_ptc"], expected)
    # The contrast moves last tokens that have a label, and nothing else.
    parts = (batch["features"], batch["feats"][0], loss.classifier.weight)
    last, inner, weight = torch.autograd.grad(
        found["loss_ptc"], parts, allow_unused=True
    )
    assert torch.equal(last.abs().sum(dim=1) > 1e-9, places != 255)
    assert inner is None
    assert weight is None


def test_padding_has_no_part():
    loss, batch = make_loss(), make_batch()
    expected = loss(**batch)["loss_ptc"]
    changed = batch["features"].detach().clone()
    # What is right of 57 pixels and below 40.
    changed[1, :, :, 4:] += 9
    changed[1, :, 2:] += 9
    assert torch.equal(loss(**{**batch, "features": changed})["loss_ptc"], expected)
    whole = torch.tensor([[64, 80]] * 3)
    assert loss(**{**batch, "sizes": whole})["loss_ptc"] != expected


def test_without_the_contrast_the_rest_stays():
    with_it, without = (make_loss(ptc_weight=w)(**make_batch()) for w in (0.2, 0))
    assert set(with_it) - set(without) == {"loss_ptc"}
    for name, value in without.items():
        assert torch.equal(value, with_it[name])


@pytest.mark.parametrize("ood", [False, True])
@pytest.mark.parametrize("case", ["no tags", "all OoD", "single tokens", "no features"])
def test_every_batch_gives_every_loss_and_every_gradient(case, ood):
    loss, batch = make_loss(ood_background=ood), make_batch()
    if case == "single tokens":
        batch = make_batch(size=(1, 1)) | dict(sizes=torch.full((3, 2), 16))
    if case == "no features":
        feats = [torch.zeros_like(f, requires_grad=True) for f in batch["feats"]]
        batch.update(feats=feats, features=feats[1])
    if case in ("no tags", "all OoD"):
        batch["labels"] = batch["labels"] * 0
    if case == "all OoD":
        batch["is_ood"] = batch["is_ood"] | True
    found = loss(**batch)
    assert {"loss_ptc", "loss_ptc_aux"} < set(found)
    total = found["loss_ptc"] + found["loss_ptc_aux"]
    total.backward()
    for part in (loss.classifier.weight, *batch["feats"]):
        assert part.grad.isfinite().all()
    if case == "all OoD" and not ood:
        assert found["loss_ptc_aux"] == 0


def test_autocast_changes_nothing(half_dtype):
    batch = make_batch()
    feats = [f.detach().to(half_dtype) for f in batch["feats"]]
    half = {**batch, "feats": feats, "features": feats[1]}
    feats = [f.float() for f in feats]
    single = {**batch, "feats": feats, "features": feats[1]}
    expected = make_loss().float()(**single)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make_loss().float()(**half)
    for name, value in found.items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(ptc_weight=-1), "ptc_weight must be at least 0"),
        (dict(aux_weight=0), "aux_weight must be positive"),
        (dict(stride=0), "stride must be an integer of at least 1"),
        (dict(foreground=0.2), "0 <= background <= foreground <= 1 must hold"),
        (dict(foreground=70), "0 <= background <= foreground <= 1 must hold"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=f"^mmwood.PatchTokenContrastLoss: {message}"):
        make_loss(**fields)


def test_what_does_not_fit():
    batch, smaller = make_batch(), make_batch((2, 2))
    cases = (
        (dict(feats=batch["feats"][1:]), {}, r"got 1 feature map.*out_indices"),
        ({}, dict(level=1), r"level 1 must be \(3, 4, 4, 5\)"),
        (dict(feats=smaller["feats"]), {}, r"level -2 must be .*is \(3, 4, 2, 2"),
        ({}, dict(stride=8), r"stride is 8, but images of up to \(64, 80\)"),
        ({}, dict(stride=32), r"have \(4, 5\) tokens: .* patch size of the backbone"),
        ({}, dict(stride=14), "stride is 14"),
        (dict(labels=torch.zeros(3, 5)), {}, "num_classes is 3, but the head has 5"),
    )
    for changed, fields, message in cases:
        with pytest.raises(ValueError, match=message):
            make_loss(**fields)(**{**batch, **changed})


# In a classifier

VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
    img_size=32,
    patch_size=8,
    out_type="featmap",
    out_indices=[1, 2],
)
PTC = dict(
    type="mmwood.PatchTokenContrastLoss", num_classes=3, in_channels=16, stride=8
)


@pytest.mark.parametrize("kind", ["CAMHead", "WOoDHead"])
def test_the_padding_of_a_batch_of_two_sizes(kind):
    """As a data preprocessor makes it, and the backbone once more."""
    pytest.importorskip("mmpretrain")
    from mmpretrain.structures import DataSample

    head = dict(type=f"mmwood.{kind}", num_classes=3, in_channels=16, pooling="max")
    if kind == "WOoDHead":
        head |= dict(distance_weight=0)
    head["feature_losses"] = dict(ptc=PTC)
    model = MODELS.build(
        dict(
            type="mmwood.CAMClassifier",
            data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
            backbone=VIT,
            head=head,
        )
    )
    images, samples = [], []
    for number, size in enumerate([(30, 21), (16, 43), (30, 43)]):
        meta = dict(img_shape=size, is_ood=kind == "WOoDHead" and number == 2)
        samples.append(DataSample(metainfo=meta).set_gt_label([number % 2]))
        images.append(torch.randint(0, 256, (3, *size), dtype=torch.uint8))
    (loss,) = model.head.feature_losses
    given = {}
    loss.register_forward_hook(
        lambda _, args, more, __: given.update(more), with_kwargs=True
    )
    data = model.data_preprocessor(dict(inputs=images, data_samples=samples), True)
    losses = model(**data, mode="loss")
    assert {"loss_ptc", "loss_ptc_aux", "loss_cls"} < set(losses)
    assert given["sizes"].tolist() == [[30, 21], [16, 43], [30, 43]]
    assert [tuple(f.shape) for f in given["feats"]] == [(3, 16, 4, 6)] * 2
    total, _ = model.parse_losses(losses)
    total.backward()
    assert loss.classifier.weight.grad.any()
    del samples[0].img_shape
    with pytest.raises(ValueError, match="no img_shape"):
        model(**data, mode="loss")


def drawn(count: int) -> tuple[torch.Tensor, list]:
    """Images of the built-in data, padded to 64 pixels, and their tags."""
    from mmpretrain.structures import DataSample

    from mmwood.converters.context_shapes.sample import draw_sample

    images, samples = torch.zeros(count, 3, 64, 64), []
    for number in range(count):
        sample = draw_sample("train", number, size=64)
        height, width = sample.image.shape[:2]
        picture = torch.from_numpy(sample.image).permute(2, 0, 1)
        images[number, :, :height, :width] = picture / 64 - 2
        tags = sorted({*sample.classes.flatten().tolist()} - {0, 255})
        data = DataSample(metainfo=dict(img_shape=(height, width)))
        samples.append(data.set_gt_label([tag - 1 for tag in tags]))
    return images, samples


@pytest.mark.slow
def test_what_a_training_does_with_tokens():
    """Beside the same training without: different ones part, equal ones stay alike."""
    pytest.importorskip("mmpretrain")
    images, samples = drawn(48)
    arch = dict(embed_dims=64, num_layers=4, num_heads=4, feedforward_channels=128)
    backbone = dict(VIT, arch=arch, img_size=64, out_indices=[2, 3])
    fields = dict(num_classes=6, in_channels=64)
    found = {}
    for weight in (0.2, 0):
        torch.manual_seed(0)
        losses = [dict(PTC, **fields, ptc_weight=weight)]
        head = dict(fields, type="mmwood.CAMHead", pooling="max", feature_losses=losses)
        config = dict(type="mmwood.CAMClassifier", backbone=backbone, head=head)
        model = MODELS.build(config).train()
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        seen = []
        for _ in range(60):
            chosen = torch.randperm(48)[:12].tolist()
            losses = model.loss(images[chosen], [samples[n] for n in chosen])
            optimizer.zero_grad()
            model.parse_losses(losses)[0].backward()
            optimizer.step()
            seen.append([losses[f"ptc_cos_{kind}"] for kind in ("same", "different")])
        found[weight] = torch.tensor(seen[-10:]).mean(dim=0)
    same, different = (found[0.2] - found[0]).tolist()
    assert abs(same) < 0.03
    assert different < -0.05
