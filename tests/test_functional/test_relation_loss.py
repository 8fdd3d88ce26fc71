"""IRN's losses against loops over pairs of pixels, in float64."""

import math

import pytest
import torch

from mmwood.functional.relation_loss import (
    TERMS,
    RelationTerms,
    relation_terms,
    total_loss,
)


def slow_pairs(height, width, radius):
    """Every unordered pair, the upper or left pixel first."""
    places = [(y, x) for y in range(height) for x in range(width)]
    for i, (ay, ax) in enumerate(places):
        for by, bx in places[i + 1 :]:
            if (ay - by) ** 2 + (ax - bx) ** 2 < radius**2:
                yield (ay, ax), (by, bx)


def strongest(edge, a, b) -> float:
    """The largest value in the bounding box of a and b, nearer than 1 to their line."""
    (ay, ax), (by, bx) = a, b
    dy, dx = by - ay, bx - ax
    return max(
        float(edge[y, x])
        for y in range(min(ay, by), max(ay, by) + 1)
        for x in range(min(ax, bx), max(ax, bx) + 1)
        if (dy * (x - ax) - dx * (y - ay)) ** 2 < dy**2 + dx**2
    )


def slow_terms(edge, displacement, label, radius, ignore=255):
    sums, counts = dict.fromkeys(TERMS, 0.0), dict.fromkeys(TERMS, 0)
    for edges, fields, labels in zip(edge, displacement, label):
        for a, b in slow_pairs(*labels.shape, radius):
            la, lb = int(labels[a]), int(labels[b])
            if ignore in (la, lb):
                continue
            affinity = 1 - strongest(edges, a, b)
            moved = [float(fields[(k, *a)] - fields[(k, *b)]) for k in range(2)]
            if la != lb:
                sums["affinity_negative"] += -math.log(1 + 1e-5 - affinity)
                counts["affinity_negative"] += 1
                continue
            kind = "fg" if la else "bg"
            target = (b[0] - a[0], b[1] - a[1]) if la else (0, 0)
            sums[f"affinity_{kind}"] += -math.log(affinity + 1e-5)
            counts[f"affinity_{kind}"] += 1
            sums[f"displacement_{kind}"] += sum(
                abs(m - t) for m, t in zip(moved, target)
            )
            counts[f"displacement_{kind}"] += 2
    return sums, counts


def make(seed, size=(6, 7), batch=2, values=(0, 1, 2, 255)):
    generator = torch.Generator().manual_seed(seed)
    edge = torch.rand(batch, *size, generator=generator, dtype=torch.float64)
    displacement = torch.randn(batch, 2, *size, generator=generator).double()
    index = torch.randint(len(values), (batch, *size), generator=generator)
    return edge, displacement, torch.tensor(values)[index]


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_terms_against_loops(radius):
    edge, displacement, label = make(radius)
    sums, counts = slow_terms(edge, displacement, label, radius)
    terms = relation_terms(edge, displacement, label, radius)
    for number, name in enumerate(TERMS):
        assert terms.counts[number] == counts[name], name
        assert float(terms.sums[number]) == pytest.approx(sums[name], rel=1e-12), name
    mean = {name: sums[name] / (counts[name] + 1e-5) for name in TERMS}
    found = total_loss(terms)
    positive = (mean["affinity_fg"] + mean["affinity_bg"]) / 2
    affinity = (positive + mean["affinity_negative"]) / 2
    shift = (mean["displacement_fg"] + mean["displacement_bg"]) / 2
    assert float(found["loss_affinity"]) == pytest.approx(affinity, rel=1e-12)
    assert float(found["loss_displacement"]) == pytest.approx(shift, rel=1e-12)


def test_gradients():
    edge, displacement, label = make(0, size=(4, 5), batch=1)
    edge.requires_grad_(), displacement.requires_grad_()

    def loss(edge, displacement):
        return tuple(total_loss(relation_terms(edge, displacement, label, 3)).values())

    assert torch.autograd.gradcheck(loss, (edge, displacement))


@pytest.mark.parametrize(
    ("values", "empty"),
    [
        ((1,), {"affinity_bg", "affinity_negative", "displacement_bg"}),
        ((0,), {"affinity_fg", "affinity_negative", "displacement_fg"}),
        ((255,), set(TERMS)),
    ],
)
def test_kinds_of_pairs_that_are_not_there(values, empty):
    """One class over all pixels has no negative pair: that term is 0, not NaN."""
    edge, displacement, label = make(1, values=values)
    edge.requires_grad_(), displacement.requires_grad_()
    terms = relation_terms(edge, displacement, label, 4)
    assert {name for name, n in zip(TERMS, terms.counts) if n == 0} == empty
    loss = sum(total_loss(terms).values())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(edge.grad).all()
    assert (edge.grad.abs().sum() > 0) == (values != (255,))


def test_extreme_probabilities_stay_finite():
    edge = torch.tensor([[[0.0, 1.0, 0.0, 1.0]]], requires_grad=True)
    label = torch.tensor([[[1, 1, 2, 2]]])
    terms = relation_terms(edge, torch.zeros(1, 2, 1, 4), label, 3)
    loss = total_loss(terms)["loss_affinity"]
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(edge.grad).all()


def test_shards_add_up():
    """Sums and counts of two halves are those of the whole: processes may share."""
    edge, displacement, label = make(2, batch=4)
    whole = relation_terms(edge, displacement, label, 5)
    halves = [
        relation_terms(edge[part], displacement[part], label[part], 5)
        for part in (slice(0, 2), slice(2, 4))
    ]
    added = RelationTerms(
        sum(half.sums for half in halves), sum(half.counts for half in halves)
    )
    torch.testing.assert_close(added.sums, whole.sums)
    torch.testing.assert_close(added.counts, whole.counts)


def test_bad_shapes():
    with pytest.raises(ValueError, match=r"edge \(B, h, w\)"):
        relation_terms(
            torch.zeros(1, 3, 3), torch.zeros(1, 2, 3, 3), torch.zeros(1, 4, 3), 3
        )
