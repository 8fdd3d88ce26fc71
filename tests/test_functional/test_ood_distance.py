import itertools
import math

import numpy as np
import pytest
import torch

from mmwood.functional.ood_distance import (
    in_distribution_centers,
    mean_in_distance,
    ood_centers,
    ood_distance_loss,
)


def data(seed: int = 0, batch: int = 6, dim: int = 5, classes: int = 4, k: int = 10):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    labels = torch.rand(batch, classes, generator=generator) < 0.4
    return normal(batch, dim), labels, normal(classes, dim), normal(k, dim)


def distance(a, b) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a.tolist(), b.tolist())))


def reference(
    z, labels, p_in, p_ood, nearest, normalize, per, use_in, use_ood, margin
) -> float:
    """The definition, one distance at a time."""
    k, total, all_distances = len(p_ood), 0.0, []
    for x, y in zip(z, labels):
        if use_in:
            total += sum(distance(x, p) for p, shown in zip(p_in, y) if shown)
        all_distances.append(sorted(distance(x, p) for p in p_ood))
    if use_ood:
        if per == "image":
            count = max(1, round(nearest * k))
            near = [d for row in all_distances for d in row[:count]]
        else:
            count = max(1, round(nearest * k * len(z)))
            near = sorted(itertools.chain(*all_distances))[:count]
        total -= sum(d if margin is None else min(d, margin) for d in near)
    return total / len(z) / (k if normalize else 1)


@pytest.mark.parametrize("nearest", [0.01, 0.2, 0.33, 1.0])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("per", ["image", "batch"])
@pytest.mark.parametrize("margin", [None, 2.0])
def test_equals_loops(nearest, normalize, per, margin):
    for use_in, use_ood in ((True, True), (True, False), (False, True)):
        options = dict(
            nearest=nearest,
            normalize=normalize,
            per=per,
            use_in=use_in,
            use_ood=use_ood,
            margin=margin,
        )
        loss = ood_distance_loss(*data(), **options)
        assert loss.item() == pytest.approx(reference(*data(), **options), rel=1e-12)


@pytest.mark.parametrize("per", ["image", "batch"])
def test_gradient(per):
    z, labels, p_in, p_ood = data()
    z.requires_grad_()
    for margin in (None, 2.0):
        assert torch.autograd.gradcheck(
            lambda x, m=margin: ood_distance_loss(
                x, labels, p_in, p_ood, per=per, margin=m
            ),
            (z,),
        )


def test_centres_get_no_gradient_and_a_feature_on_its_centre_is_finite():
    z, labels, p_in, p_ood = data()
    p_in.requires_grad_()
    p_ood.requires_grad_()
    z[0] = p_ood.detach()[0]
    z.requires_grad_()
    ood_distance_loss(z, labels, p_in, p_ood).backward()
    assert p_in.grad is None
    assert p_ood.grad is None
    assert torch.isfinite(z.grad).all()


def released_form(z, labels, p_in, p_ood, fraction: float) -> torch.Tensor:
    """The released program's steps as METHOD describes them: means over B x C and
    B x K, a threshold over all distances of the batch."""
    classes, k = labels.shape[1], len(p_ood)
    inside = torch.cdist(z, p_in) * labels
    outside = torch.cdist(z, p_ood)
    farther = outside.flatten().topk(int(outside.numel() * (1 - fraction))).values
    near = outside * (outside < farther[-1])
    return inside.mean() * (classes / k) - near.mean()


def test_released_form_is_the_normalised_batch_form():
    tensors = data(batch=16, classes=20, k=50)
    ours = ood_distance_loss(*tensors, per="batch")
    torch.testing.assert_close(ours, released_form(*tensors, fraction=0.2))
    # Its weight on the plain sum is lambda / K.
    plain = ood_distance_loss(*tensors, per="batch", normalize=False)
    torch.testing.assert_close(0.007 * ours, 0.007 / 50 * plain)


@pytest.mark.slow
def test_compiled_in_one_graph():
    compiled = torch.compile(ood_distance_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*data()), ood_distance_loss(*data()))


def test_nothing_counts():
    loss = ood_distance_loss(*data(), use_in=False, use_ood=False)
    assert loss.item() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(nearest=0), "nearest"),
        (dict(nearest=20), "nearest"),
        (dict(per="class"), "per must be"),
        (dict(margin=-1.0), "margin"),
    ],
)
def test_wrong_fields(options, message):
    with pytest.raises(ValueError, match=message):
        ood_distance_loss(*data(), **options)


def test_wrong_shapes():
    z, labels, p_in, p_ood = data()
    for wrong in (
        (z, labels[:, 1:], p_in, p_ood),
        (z, labels[1:], p_in, p_ood),
        (z, labels, p_in, p_ood[:, 1:]),
        (z[0], labels, p_in, p_ood),
    ):
        with pytest.raises(ValueError, match=r"z \(B, D\)"):
            ood_distance_loss(*wrong)


def test_in_distribution_centers_equal_loops():
    z, labels, *_ = data(batch=12)
    centres = in_distribution_centers(z, labels)
    for c in range(labels.shape[1]):
        members = [x.numpy() for x, y in zip(z, labels) if y[c]]
        np.testing.assert_allclose(centres[c].numpy(), np.mean(members, axis=0))


def test_a_class_without_images_is_named():
    z, labels, *_ = data()
    labels[:, 2] = False
    labels[:, [0, 1, 3]] = True
    with pytest.raises(ValueError, match=r"classes \[2\]"):
        in_distribution_centers(z, labels)


def test_ood_centers_are_the_means_of_their_members():
    """A fixed point of Lloyd's iteration, the same for the same seed."""
    groups = torch.arange(4.0)[:, None].repeat(1, 3).double() * 100
    z = (groups[:, None] + torch.randn(4, 6, 3).double()).reshape(-1, 3)
    centres = ood_centers(z, k=4, seed=0)
    order = centres[:, 0].argsort()
    torch.testing.assert_close(centres[order], z.reshape(4, 6, 3).mean(dim=1))
    torch.testing.assert_close(ood_centers(z, k=4, seed=0), centres, rtol=0, atol=0)
    assert ood_centers(z.float(), k=4, seed=0).dtype == torch.float32


def test_ten_steps_from_the_first_images():
    """Lloyd's iteration, one image at a time."""
    rng = np.random.default_rng(1)
    z = rng.normal(size=(400, 3))
    centres = z[:12].copy()
    for _ in range(10):
        members = [[] for _ in centres]
        for x in z:
            members[int(((x - centres) ** 2).sum(axis=1).argmin())].append(x)
        before, centres = centres, np.array([np.mean(m, axis=0) for m in members])
    # Ten steps are not enough here, so that an eleventh would show.
    assert np.abs(before - centres).max() > 1e-3
    found = ood_centers(torch.from_numpy(z), k=12, seed=0, init="first")
    np.testing.assert_allclose(found.numpy(), centres, atol=1e-9)


def test_wrong_arguments_of_k_means():
    with pytest.raises(ValueError, match=r"^init must be 'k-means\+\+' or 'first'"):
        ood_centers(torch.zeros(9, 2), k=5, seed=0, init="random")
    with pytest.raises(ValueError, match="3 OoD images, 5 clusters"):
        ood_centers(torch.zeros(3, 2), k=5, seed=0)


def test_mean_in_distance_equals_a_loop():
    torch.manual_seed(0)
    z, centers = torch.randn(6, 4).double(), torch.randn(3, 4).double()
    labels = torch.tensor(
        [[1, 0, 0], [0, 1, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0], [0] * 3]
    )
    distances = [
        math.dist(z[i].tolist(), centers[c].tolist()) for i, c in labels.nonzero()
    ]
    scale = mean_in_distance(z, labels, centers)
    assert scale.item() == pytest.approx(sum(distances) / 7)
    # Of the unit of z, wherever z lies.
    moved = mean_in_distance(100 * z + 5, labels, 100 * centers + 5)
    torch.testing.assert_close(moved, 100 * scale)
