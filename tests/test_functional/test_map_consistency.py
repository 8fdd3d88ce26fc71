import math

import pytest
import torch

from mmwood.functional.map_consistency import map_divergence


def make_maps():
    torch.manual_seed(0)
    student = torch.randn(3, 4, 2, 3, dtype=torch.float64) * 2
    teacher = torch.randn(3, 4, 2, 3, dtype=torch.float64) * 2
    labels = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]])
    return student, teacher, labels


def softmax(values: list[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("temperature", [1.0, 0.3, -2.0])
def test_divergence_equals_a_loop(temperature):
    student, teacher, labels = make_maps()
    total, count = 0.0, 0
    for b, c in labels.nonzero().tolist():
        ours, theirs = (
            softmax((maps[b, c].flatten() / temperature).tolist())
            for maps in (student, teacher)
        )
        total += sum(q * math.log(q / p) for p, q in zip(ours, theirs))
        count += 1
    found = map_divergence(student, teacher, labels, temperature)
    assert count == 3
    assert found.item() == pytest.approx(total / count, rel=1e-10)


def test_gradient_is_the_students_and_of_own_classes():
    student, teacher, labels = make_maps()
    student.requires_grad_()
    teacher.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda maps: map_divergence(maps, teacher.detach(), labels), student
    )
    map_divergence(student, teacher, labels).backward()
    assert teacher.grad is None
    moved = student.grad.abs().sum(dim=(2, 3)) > 1e-9
    assert torch.equal(moved, labels != 0)


def test_equal_maps_and_no_class():
    student, _, labels = make_maps()
    assert map_divergence(student, student + 5, labels).abs() < 1e-12
    student.requires_grad_()
    loss = map_divergence(student, -student, labels * 0)
    loss.backward()
    assert loss == 0
    assert not student.grad.any()


def test_grids_differ():
    student, teacher, labels = make_maps()
    with pytest.raises(ValueError, match=r"student .* and teacher"):
        map_divergence(student, teacher[..., :2], labels)
