import math

import pytest
import torch
import torch.nn.functional as F

from mmwood.functional.class_token_contrast import (
    certainty_regions,
    class_token_loss,
    draw_corners,
    may_show_objects,
    take_crops,
)


def test_regions_equal_a_loop():
    torch.manual_seed(0)
    maps = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    maps[:, :, :2] *= 0.2
    maps[1, 1, 3, 4] = 1
    found = certainty_regions(maps, (4, 5))
    for b in range(2):
        for y in range(4):
            for x in range(5):
                value = max(maps[b, :, y, x].tolist())
                expected = 0 if value <= 0.25 else 2 if value >= 0.7 else 1
                assert found[b, y, x] == expected
    assert found.unique().tolist() == [0, 1, 2]
    # A cell's value is that of its centre.
    large = certainty_regions(maps, (12, 15))
    assert torch.equal(large[:, 1::3, 1::3], found)


def test_crops_are_drawn_where_no_object_is_sure():
    torch.manual_seed(0)
    regions = torch.full((2, 20, 30), 2.0)
    regions[0, 6:9, 11:20] = 1
    regions[1, 7, 3:26] = 0
    sizes = torch.tensor([[20, 30], [12, 18]])
    seen = [set(), set()]
    for _ in range(60):
        corners = draw_corners(regions, sizes, 6, 3)
        assert corners.shape == (2, 3, 2)
        for own, places in zip(seen, corners.tolist()):
            # Without replacement.
            assert len({*map(tuple, places)}) == 3
            own |= {*map(tuple, places)}
    centers = [{(y + 3, x + 3) for y, x in own} for own in seen]
    assert centers[0] == {(y, x) for y in range(6, 9) for x in range(11, 20)}
    # In the image, which ends at column 18.
    assert centers[1] == {(7, x) for x in range(3, 16)}


def test_crops_of_anywhere():
    torch.manual_seed(0)
    regions = torch.full((1, 9, 9), 2.0)
    regions[0, 4, 4] = 0
    seen = set()
    for _ in range(200):
        seen |= {
            *map(tuple, draw_corners(regions, torch.tensor([[9, 8]]), 6, 2)[0].tolist())
        }
    assert seen == {(y, x) for y in range(4) for x in range(3)}
    # Smaller than a crop, and fewer places than crops.
    small = draw_corners(regions, torch.tensor([[5, 7]]), 6, 4)[0].tolist()
    assert sorted(map(tuple, small)) == [(0, 0), (0, 0), (0, 1), (0, 1)]


def test_crops_and_their_kind_equal_a_loop():
    torch.manual_seed(0)
    images, side = torch.rand(2, 3, 10, 12), 5
    corners = torch.tensor([[[0, 0], [5, 7]], [[3, 2], [8, 9]]])
    regions = torch.randint(0, 3, (2, 10, 12)).double()
    regions[0, :5, :5] = 0
    regions[0, 0, :5] = 1
    found = take_crops(images, corners, side)
    shows = may_show_objects(regions, corners, side)
    for b in range(2):
        for n, (top, left) in enumerate(corners[b].tolist()):
            total = 0.0
            for y in range(side):
                for x in range(side):
                    inside = top + y < 10 and left + x < 12
                    if inside:
                        total += regions[b, top + y, left + x].item()
                    for d in range(3):
                        value = images[b, d, top + y, left + x] if inside else 0
                        assert found[b, n, d, y, x] == value
            assert shows[b, n] == (total / side**2 > 0.2)
    # 0.2 itself is a negative.
    assert shows.tolist()[0] == [False, True]


def make_views():
    torch.manual_seed(0)
    teacher = torch.randn(3, 2, 6, dtype=torch.float64)
    student = torch.randn(3, 5, 6, dtype=torch.float64)
    positive = torch.rand(3, 5) > 0.5
    positive[:, :2] = True
    positive[0] = True
    positive[1, 2:] = False
    return teacher, student, positive


def by_loop(teacher, student, positive, temperature):
    total = 0.0
    for b in range(len(teacher)):
        for view in teacher[b].tolist():
            dots = [
                math.exp(sum(x * y for x, y in zip(view, other)) / temperature)
                for other in student[b].tolist()
            ]
            kept = positive[b].tolist()
            negatives = sum(e for e, p in zip(dots, kept) if not p) + 1e-4
            own = sum(-math.log(e / (e + negatives)) for e, p in zip(dots, kept) if p)
            own -= math.log(1 / (1 + negatives))
            total += own / sum(kept)
    return total / len(teacher) / teacher.shape[1]


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_loss_equals_a_loop(temperature):
    views = make_views()
    found = class_token_loss(*views, temperature)
    assert found.item() == pytest.approx(by_loop(*views, temperature), rel=1e-10)


def test_gradient_equals_differences():
    teacher, student, positive = make_views()
    assert torch.autograd.gradcheck(
        lambda s: class_token_loss(teacher, s, positive), student.requires_grad_()
    )
    # Also where there are no negatives at all, or the exponential has no number.
    big = (100 * student).detach().float().requires_grad_()
    class_token_loss(100 * teacher.float(), big, positive).backward()
    assert big.grad.isfinite().all()


def test_what_the_loss_does_to_tokens():
    torch.manual_seed(0)
    teacher = F.normalize(torch.randn(1, 2, 8), dim=2)
    student = torch.randn(1, 6, 8, requires_grad=True)
    positive = torch.tensor([[True, True, True, True, False, False]])
    optimizer = torch.optim.SGD([student], 1.0)
    for _ in range(300):
        loss = class_token_loss(teacher, F.normalize(student, dim=2), positive)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    cosines = (teacher @ F.normalize(student, dim=2).transpose(1, 2)).mean(dim=1)[0]
    assert cosines[:4].min() > cosines[4:].max() + 0.5


def test_shapes():
    with pytest.raises(ValueError, match=r"positive \(B, V\), got"):
        class_token_loss(torch.zeros(1, 2, 3), torch.zeros(1, 4, 3), torch.zeros(1, 3))
