"""AdvCAM against the published algorithm: one image, one class, two passes a step."""

import pytest
import torch
from torch import nn

from mmwood.functional.adv_cam import climbed_activation_maps

CLASSES = 4


def make_network(seed: int = 0) -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(seed)
    network = nn.Sequential(
        nn.Conv2d(3, 6, 3, stride=2, padding=1),
        nn.Tanh(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
    ).double()
    return network, torch.randn(CLASSES, 8, dtype=torch.float64)


def slow_maps(
    network,
    weight,
    views,
    class_id,
    others,
    steps,
    step_size,
    regularisation_weight,
    threshold,
):
    """The sum of the maps of one image (its views) and one class, by Grad-CAM."""
    mirrored = len(views) == 2
    total = first = None
    for _ in range(steps):
        views = views.detach().requires_grad_()
        features = network(views)
        features.retain_grad()
        maps = torch.einsum("cd,vdhw->vchw", weight, features).relu()
        # First pass back: the Grad-CAM of the class.
        maps[:, class_id].sum().backward(retain_graph=True)
        gradient = features.grad.clone()
        mean = gradient.sum(dim=(2, 3), keepdim=True) / (gradient > 0).sum()
        regions = (features * mean).sum(dim=1).relu()
        regions = regions[0] + regions[1].flip(-1) if mirrored else regions[0]
        first = regions.detach() if first is None else first
        total = regions.detach() + (0 if total is None else total)
        # Second pass: where to climb.
        goal = 0
        for other in range(len(weight)):
            score = maps[:, other].mean(dim=(1, 2)).sum()
            if other == class_id:
                goal = goal + score
            elif other in others:
                goal = goal - score
        for y, x in torch.cartesian_prod(*map(torch.arange, regions.shape)).tolist():
            if regions[y, x] / regions.max() > threshold:
                change = (regions[y, x] - first[y, x]).abs()
                goal = goal - regularisation_weight * change
        views.grad = None
        goal.backward()
        step = step_size * views.grad / views.grad.abs().max()
        views = (views.detach() + step).clamp(views.min().item(), views.max().item())
    return total


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("others", ["all", "present"])
def test_equals_the_published_loop(mirrored, others):
    network, weight = make_network()
    images = torch.randn(3, 1, 3, 12, 10, dtype=torch.float64)
    flipped = (False,)
    if mirrored:
        images, flipped = torch.cat([images, images.flip(-1)], dim=1), (False, True)
    class_ids = torch.tensor([0, 2, 2])
    present = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1]]).bool()
    fields = dict(steps=7, step_size=0.3, regularisation_weight=40.0, threshold=0.4)
    found = climbed_activation_maps(
        images,
        class_ids,
        network,
        weight,
        flipped,
        other_classes=present if others == "present" else None,
        **fields,
    )
    chosen = present if others == "present" else torch.ones_like(present)
    for number, class_id in enumerate(class_ids.tolist()):
        expected = slow_maps(
            *(network, weight, images[number], class_id),
            others=chosen[number].nonzero()[:, 0].tolist(),
            **fields,
        )
        torch.testing.assert_close(found[number], expected)


def test_every_part_matters():
    """The test above would not see a part that changes nothing there."""
    network, weight = make_network()
    images = torch.randn(1, 1, 3, 12, 10, dtype=torch.float64)
    base = dict(steps=7, step_size=0.3, regularisation_weight=40.0, threshold=0.4)

    def maps(**changes):
        fields = {**base, **changes}
        ids = torch.tensor([2])
        return climbed_activation_maps(images, ids, network, weight, **fields)

    only_own = torch.zeros(1, CLASSES, dtype=torch.bool)
    for changes in (
        dict(regularisation_weight=0.0),
        dict(threshold=0.9),
        dict(step_size=0.1),
        dict(steps=6),
        dict(other_classes=only_own),
    ):
        assert not torch.allclose(maps(), maps(**changes), rtol=1e-3), changes


def test_the_score_rises_and_one_step_is_the_map():
    network, weight = make_network()
    images = torch.randn(2, 1, 3, 12, 10, dtype=torch.float64)
    ids = torch.tensor([1, 3])
    one = climbed_activation_maps(images, ids, network, weight, steps=1)
    maps = torch.einsum("cd,vdhw->vchw", weight, network(images[:, 0])).relu()
    own = maps[torch.arange(2), ids]
    factor = one.flatten(1).sum(1) / own.flatten(1).sum(1)
    torch.testing.assert_close(one, own * factor[:, None, None])
    # What a step adds, without regularisation, rises from step to step.
    free = dict(regularisation_weight=0.0, step_size=0.05)
    total = [
        climbed_activation_maps(images, ids, network, weight, steps=n, **free)
        for n in (1, 2, 8, 9)
    ]
    early, late = (total[1] - total[0]).sum(), (total[3] - total[2]).sum()
    assert late > early > one.sum()


def test_a_class_that_is_seen_nowhere():
    network, weight = make_network()
    weight[1] = -weight[1].abs()
    images = torch.randn(1, 1, 3, 12, 10, dtype=torch.float64)
    maps = climbed_activation_maps(images, torch.tensor([1]), network, weight, steps=3)
    assert maps.eq(0).all()


@pytest.mark.slow
def test_autocast_is_finite_and_climbs(half_dtype):
    network, weight = make_network()
    network, weight = network.float(), weight.float()
    images = torch.randn(2, 1, 3, 64, 64)
    ids = torch.tensor([0, 2])
    with torch.autocast("cpu", half_dtype):
        low = climbed_activation_maps(images, ids, network, weight)
    high = climbed_activation_maps(images, ids, network, weight)
    still = climbed_activation_maps(images, ids, network, weight, step_size=1e-9)
    assert low.isfinite().all()
    assert (low - high).abs().mean() < 0.25 * (high - still).abs().mean()


def test_weights_need_no_gradient_and_get_none():
    network, weight = make_network()
    images = torch.randn(1, 1, 3, 12, 10, dtype=torch.float64)
    maps = climbed_activation_maps(images, torch.tensor([1]), network, weight, steps=3)
    assert not maps.requires_grad
    assert all(p.grad is None for p in network.parameters())


def test_wrong_arguments():
    network, weight = make_network()
    images = torch.randn(1, 2, 3, 12, 10, dtype=torch.float64)
    ids = torch.tensor([0])
    with pytest.raises(ValueError, match="flipped must be of 2 views, but is of 1"):
        climbed_activation_maps(images, ids, network, weight)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        climbed_activation_maps(images[:, :1], ids, network, weight, steps=0)
