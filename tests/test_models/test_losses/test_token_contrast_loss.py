"""Class token contrast as a feature loss: against its parts, and in a classifier."""

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from mmwood.functional.class_token_contrast import (
    certainty_regions,
    class_token_loss,
    draw_corners,
)
from mmwood.functional.patch_token_contrast import auxiliary_maps
from mmwood.models import PatchTokenContrastLoss, TokenContrastLoss
from mmwood.models.utils import Views

CLASSES, CHANNELS = 3, 6
FIELDS = dict(local_size=20, local_crops=4, hidden_channels=8)


def make_loss(kind=TokenContrastLoss, **fields) -> PatchTokenContrastLoss:
    torch.manual_seed(0)
    return kind(CLASSES, CHANNELS, **fields).double()


def encode(images: Tensor) -> Tensor:
    """Two numbers of each colour, as tokens."""
    return torch.cat([images.mean(dim=(2, 3)), images[:, :, 0, 0]], dim=1)


def make_batch() -> dict:
    """Of three images the last is OoD; the second is padded to the others' size."""
    torch.manual_seed(1)
    shape = (3, CHANNELS, 4, 5)
    inner, last = (torch.randn(shape, dtype=torch.float64) for _ in range(2))
    images = torch.randn(3, 3, 64, 80, dtype=torch.float64, requires_grad=True)
    return dict(
        features=last,
        maps=torch.rand(3, CLASSES, 4, 5, dtype=torch.float64),
        labels=torch.tensor([[1, 0, 1], [0, 1, 0], [0, 0, 0]]),
        is_ood=torch.tensor([False, False, True]),
        feats=(inner, last),
        sizes=torch.tensor([[64, 80], [40, 57], [64, 80]]),
        views=Views(images, encode(images), encode),
    )


def test_terms_equal_their_parts():
    loss, batch = make_loss(**FIELDS), make_batch()
    torch.manual_seed(2)
    found = loss(**batch)
    without = {key: value for key, value in batch.items() if key != "views"}
    for name, value in make_loss(PatchTokenContrastLoss)(**without).items():
        assert torch.equal(found[name], value)
    images, scores = batch["views"].images, loss.classifier(batch["feats"][0])
    maps = auxiliary_maps(scores, batch["labels"])
    regions = certainty_regions(maps, (64, 80))[:2]
    torch.manual_seed(2)
    corners = draw_corners(regions, batch["sizes"][:2], 20, 4)
    tokens, positive = [], []
    for n in range(2):
        views = [images[n], images[n].flip(-1)]
        kinds = [True, True]
        for top, left in corners[n].tolist():
            rows, columns = slice(top, top + 20), slice(left, left + 20)
            views.append(images[n, :, rows, columns])
            kinds.append(bool(regions[n, rows, columns].mean() > 0.2))
        tokens.append(torch.cat([encode(view[None]) for view in views]))
        positive.append(kinds)
    student = loss.projection(torch.stack(tokens))
    kinds = torch.tensor(positive)
    expected = class_token_loss(student[:, :2], student, kinds)
    torch.testing.assert_close(found["loss_ctc"], 0.5 * expected)
    assert found["ctc_positive"] == kinds[:, 2:].double().mean()
    assert 0 < found["ctc_positive"] < 1


def test_what_gets_a_gradient():
    loss, batch = make_loss(**FIELDS), make_batch()
    images = batch["views"].images
    loss(**batch)["loss_ctc"].backward()
    for name, parameter in loss.named_parameters():
        moved = parameter.grad is not None and parameter.grad.any()
        assert moved == name.startswith("projection"), name
    # OoD images have no part; the others have, to the last row.
    moved = images.grad.flatten(1).any(dim=1)
    assert moved.tolist() == [True, True, False]


def test_the_teacher_is_an_average():
    loss, batch = make_loss(**FIELDS), make_batch()
    expected = None
    for step in range(4):
        with torch.no_grad():
            loss.projection.directions.weight += step
        new = loss.projection.directions.weight.detach().clone()
        expected = new if expected is None else 0.9 * expected + 0.1 * new
        loss(**batch)
        found = loss.teacher.module.directions.weight
        torch.testing.assert_close(found, expected)
        assert not found.requires_grad
    # The projection is that of the program: unit vectors, and unit weights.
    tokens = torch.randn(5, CHANNELS, dtype=torch.float64)
    units = loss.projection.layers(tokens)
    units = units / units.norm(dim=1, keepdim=True)
    weight = loss.projection.directions.weight
    weight = weight / weight.norm(dim=1, keepdim=True)
    torch.testing.assert_close(loss.projection(tokens), units @ weight.T)


def test_every_batch_gives_every_loss_and_every_gradient():
    loss, batch = make_loss(**FIELDS), make_batch()
    found = loss(**dict(batch, is_ood=batch["is_ood"] | True))
    assert found["loss_ctc"] == 0
    found["loss_ctc"].backward()
    for parameter in loss.projection.parameters():
        assert parameter.grad is not None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(ctc_weight=0), "ctc_weight must be positive.*PatchTokenContrastLoss"),
        (dict(local_size=12), "local_size must be an integer of at least 16"),
        (dict(local_crops=0), "local_crops must be an integer of at least 1"),
        (dict(object_share=-1), "object_share must be at least 0"),
        (dict(temperature=0), "temperature must be positive"),
        (dict(momentum=1), r"momentum must be in \(0, 1\)"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=f"^mmwood.TokenContrastLoss: {message}"):
        make_loss(**fields)


# In a classifier


def make_model(kind="CAMClassifier", backbone=(), **fields) -> nn.Module:
    pytest.importorskip("mmpretrain")
    from mmengine.registry import init_default_scope

    init_default_scope("mmpretrain")
    vit = dict(
        type="VisionTransformer",
        arch=dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32),
        img_size=32,
        patch_size=8,
        out_type="featmap",
        out_indices=[1, 2],
    )
    loss = dict(
        type="mmwood.TokenContrastLoss",
        num_classes=CLASSES,
        in_channels=16,
        stride=8,
        **(dict(FIELDS, local_size=12) | fields),
    )
    head = dict(type="mmwood.CAMHead", num_classes=CLASSES, in_channels=16)
    torch.manual_seed(0)
    return MODELS.build(
        dict(
            type=f"mmwood.{kind}" if kind == "CAMClassifier" else kind,
            backbone=vit | dict(backbone),
            head=dict(head, pooling="max", feature_losses=[loss]),
        )
    )


def make_inputs() -> tuple[Tensor, list]:
    from mmpretrain.structures import DataSample

    torch.manual_seed(1)
    sample = DataSample(metainfo=dict(img_shape=(40, 33)))
    samples = [sample.new().set_gt_label([n]) for n in range(2)]
    return torch.randn(2, 3, 40, 33), samples


def test_class_tokens_of_a_classifier():
    model, (images, samples) = make_model().train(), make_inputs()
    (loss,), given = model.head.feature_losses, {}
    loss.register_forward_pre_hook(
        lambda _, args, more: given.update(more), with_kwargs=True
    )
    losses = model.loss(images, samples)
    model.parse_losses(losses)[0].backward()
    assert {"loss_cls", "loss_ptc", "loss_ptc_aux", "loss_ctc"} < set(losses)
    assert model.backbone.cls_token.grad.any()
    views = given["views"]
    assert torch.equal(views.images, images)
    small = images[:, :, :12, :12]
    model.backbone.out_type = "raw"
    for seen, tokens in ((images, views.tokens), (small, views.encode(small))):
        torch.testing.assert_close(tokens, model.backbone(seen)[-1][:, 0])


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="has no module 'norm'; its modules begin"):
        make_model(tokens_of="norm")
    with pytest.raises(ValueError, match="class token, but VisionTransformer has none"):
        make_model(backbone=dict(with_cls_token=False))
    images, samples = make_inputs()
    with pytest.raises(ValueError, match=r"must give tokens \(B, N, D\)"):
        make_model(tokens_of="patch_embed.projection").loss(images, samples)
    with pytest.raises(ValueError, match=r"model\.type must be mmwood\.CAMClassifier"):
        make_model("ImageClassifier").loss(images, samples)
