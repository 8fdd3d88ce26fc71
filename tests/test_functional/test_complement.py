"""The teacher's labels against loops over pixels, and against MARS's weights."""

import pytest
import torch
from torch.nn import functional as F

from mmwood.functional.complement import complement_labels

SHAPE = (3, 4, 5, 7)


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    """Three images of four classes; the second shows no class, the third all."""
    torch.manual_seed(0)
    batch, classes, height, width = SHAPE
    labels = torch.randint(0, classes, (batch, height, width))
    labels[torch.rand(labels.shape) < 0.6] = 254
    labels[torch.rand(labels.shape) < 0.1] = 255
    return dict(
        labels=labels,
        biased=labels == 254,
        probabilities=(2 * torch.randn(SHAPE)).softmax(dim=1),
        draws=torch.rand(labels.shape),
        tags=torch.tensor([[1, 0, 1, 0], [1, 0, 0, 0], [0, 1, 1, 1]]),
    )


def slow_certainty(p: list[float], tags: list[int] | None, certainty: str) -> float:
    if certainty == "none":
        return 1.0
    if certainty == "argmax":
        return max(p)
    shown = [c for c in (1, 2, 3) if tags is None or tags[c]]
    return max(p[c] for c in shown or (1, 2, 3))


@pytest.mark.parametrize("certainty", ["foreground", "argmax", "none"])
@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8])
def test_labels_are_those_of_a_loop(batch, certainty, tagged, dtype):
    batch["labels"] = batch["labels"].to(dtype)
    if not tagged:
        batch["tags"] = None
    before = batch["labels"].clone()
    found = complement_labels(**batch, certainty=certainty, void=200)
    assert found.dtype == dtype
    assert torch.equal(batch["labels"], before)
    kept = 0
    for image, row, column in torch.cartesian_prod(*map(torch.arange, before.shape)):
        at = image, row, column
        expected = int(before[at])
        if expected == 254:
            p = batch["probabilities"][image, :, row, column].tolist()
            tags = batch["tags"][image].tolist() if tagged else None
            keep = float(batch["draws"][at]) < slow_certainty(p, tags, certainty)
            expected = p.index(max(p)) if keep else 200
            kept += keep
        assert int(found[at]) == expected
    biased = int((before == 254).sum())
    assert (0 < kept < biased) if certainty != "none" else kept == biased


def test_expected_sum_of_a_loss_is_that_of_weights(batch):
    """MARS's sum of w times cross-entropy, as the mean over many draws."""
    scores = torch.randn(SHAPE, dtype=torch.float64)
    teacher = batch["probabilities"].argmax(dim=1)
    batch["labels"][batch["labels"] == 255] = 0
    labels = torch.where(batch["biased"], teacher, batch["labels"])
    weights = torch.ones(labels.shape, dtype=torch.float64)
    for image, row, column in batch["biased"].nonzero():
        p = batch["probabilities"][image, :, row, column].tolist()
        tags = batch["tags"][image].tolist()
        weights[image, row, column] = slow_certainty(p, tags, "foreground")
    entropy = F.cross_entropy(scores, labels, reduction="none")
    expected = (weights * entropy).sum()
    sums = []
    for _ in range(500):
        batch["draws"] = torch.rand(labels.shape)
        options = dict(ignore_index=255, reduction="sum")
        sums.append(F.cross_entropy(scores, complement_labels(**batch), **options))
    sums = torch.stack(sums)
    assert abs(sums.mean() - expected) < 4 * sums.std() / 500**0.5
    # It would not do with all weights 1.
    assert abs(sums.mean() - entropy.sum()) > 20 * sums.std() / 500**0.5


def test_a_teacher_that_has_diverged_labels_nothing(batch):
    batch["probabilities"][:] = torch.nan
    for certainty in ("foreground", "argmax"):
        found = complement_labels(**batch, certainty=certainty)
        assert (found[batch["biased"]] == 255).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(certainty="sure"), "certainty must be 'foreground', 'argmax' or 'none'"),
        (dict(draws=torch.zeros(3, 5, 6)), r"draws \(B, H, W\)"),
        (dict(tags=torch.zeros(3, 5)), r"tags \(B, C\)"),
        (
            dict(probabilities=torch.ones(3, 1, 5, 7), tags=None),
            "at least one class",
        ),
    ],
)
def test_wrong_arguments(batch, changes, message):
    with pytest.raises(ValueError, match=message):
        complement_labels(**{**batch, **changes})
