"""Fisher information and penalty against loops over images, pixels and weights."""

import math
import weakref

import pytest
import torch
from torch import nn

from mmwood.functional.ewc import (
    ewc_penalty,
    fisher_diagonal,
    normalise_fisher,
    squared_gradient_sums,
)

C = 3


def network(dtype=torch.float64) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, C, 1),
    ).to(dtype)


def images(number: int = 4, dtype=torch.float64):
    """Images of different sizes with labels, 255 among them."""
    generator = torch.Generator().manual_seed(1)
    for n in range(number):
        size = (4, 5 + n)
        image = torch.randn(1, 2, *size, generator=generator, dtype=torch.float64)
        label = torch.randint(0, C, (1, *size), generator=generator)
        label[0, 0, :2] = 255
        yield image.to(dtype), label


def loss_of(model: nn.Module, image, label):
    return nn.functional.cross_entropy(model(image), label, ignore_index=255)


def slow_loss(model: nn.Module, image, label):
    """Mean over valid pixels of -log p, one pixel at a time."""
    total, valid = 0.0, 0
    scores = model(image)[0]
    for y in range(label.shape[1]):
        for x in range(label.shape[2]):
            c = int(label[0, y, x])
            if c != 255:
                total = total - scores[c, y, x] + scores[:, y, x].exp().sum().log()
                valid += 1
    return total / valid


def slow_fisher(model: nn.Module, number: int = 4) -> dict[str, list[float]]:
    """The definition, by backward passes, one weight at a time."""
    result = {name: [0.0] * p.numel() for name, p in model.named_parameters()}
    for image, label in images(number):
        model.zero_grad()
        slow_loss(model, image, label).backward()
        for name, param in model.named_parameters():
            for i, gradient in enumerate(param.grad.flatten().tolist()):
                result[name][i] += gradient**2 / number
    model.zero_grad()
    return result


def test_fisher_equals_loops():
    model = network().eval()
    expected = slow_fisher(model)
    losses = (loss_of(model, *item) for item in images())
    fisher = fisher_diagonal(losses, model.named_parameters())
    assert list(fisher) == [name for name, _ in model.named_parameters()]
    for name, param in model.named_parameters():
        assert fisher[name].shape == param.shape
        assert fisher[name].dtype == torch.float64
        assert not fisher[name].requires_grad
        assert fisher[name].flatten().tolist() == pytest.approx(
            expected[name], rel=1e-10, abs=1e-18
        )
    # Functions do as well, and so does float32.
    functions = [lambda item=item: loss_of(model, *item) for item in images()]
    again = fisher_diagonal(functions, dict(model.named_parameters()))
    single = network(torch.float32).eval()
    losses = (loss_of(single, *item) for item in images(dtype=torch.float32))
    rough = fisher_diagonal(losses, single.named_parameters())
    for name, values in fisher.items():
        torch.testing.assert_close(again[name], values, rtol=0, atol=0)
        assert rough[name].dtype == torch.float32
        torch.testing.assert_close(rough[name].double(), values, rtol=1e-4, atol=1e-9)


def test_shares_add_up_and_a_batch_is_something_else():
    model = network().eval()
    params = dict(model.named_parameters())
    losses = [lambda item=item: loss_of(model, *item) for item in images()]
    whole = fisher_diagonal(losses, params)
    shares = [squared_gradient_sums(losses[i::3], params) for i in range(3)]
    assert [count for _, count in shares] == [2, 1, 1]
    assert squared_gradient_sums([], params)[1] == 0
    mean = sum(function() for function in losses) / len(losses)
    batch = torch.autograd.grad(mean, list(params.values()))
    for name, of_batch in zip(whole, batch):
        added = sum(sums[name] for sums, _ in shares) / 4
        torch.testing.assert_close(added, whole[name])
        assert not torch.allclose(of_batch**2, whole[name], rtol=0.1)


def test_frozen_unused_and_gradients_of_others():
    model = network().eval()
    model[0].weight.requires_grad_(False)
    extra = nn.Parameter(torch.ones(2, dtype=torch.float64))
    kept = torch.full_like(model[3].bias, 7.0)
    model[3].bias.grad = kept
    losses = (loss_of(model, *item) for item in images())
    fisher = fisher_diagonal(losses, {**dict(model.named_parameters()), "extra": extra})
    assert "0.weight" not in fisher
    assert fisher["extra"].tolist() == [0, 0]
    assert model[3].bias.grad is kept
    assert kept.tolist() == [7.0] * C
    assert model[3].weight.grad is None


class Saved:
    """What autograd keeps for a backward pass."""

    def __init__(self, tensor: torch.Tensor) -> None:
        self.tensor = tensor


def test_memory_is_that_of_one_image():
    model = network().eval()
    saved = []

    def keep(tensor):
        box = Saved(tensor)
        saved.append(weakref.ref(box))
        return box

    def losses():
        for item in images():
            assert not any(reference() for reference in saved)
            with torch.autograd.graph.saved_tensors_hooks(keep, lambda b: b.tensor):
                loss = loss_of(model, *item)
            assert any(reference() for reference in saved)
            yield loss

    fisher_diagonal(losses(), model.named_parameters())


def test_wrong_fisher_arguments():
    model = network()
    with pytest.raises(ValueError, match="losses is empty"):
        fisher_diagonal([], model.named_parameters())
    with pytest.raises(ValueError, match="requires a gradient"):
        fisher_diagonal([], model.requires_grad_(False).named_parameters())


def tensors(seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in (("a", (2, 3)), ("b", (4,)), ("c", ()))
    }


def test_penalty_and_its_gradient_equal_loops():
    params, anchor = tensors(0), tensors(1)
    fisher = {name: value.square() for name, value in tensors(2).items()}
    for value in params.values():
        value.requires_grad_()
    params["free"] = torch.ones(3, requires_grad=True)
    expected = 0.0
    for name, values in fisher.items():
        for f, theta, star in zip(
            *(
                t.detach().flatten().tolist()
                for t in (values, params[name], anchor[name])
            )
        ):
            expected += 3.5 / 2 * f * (theta - star) ** 2
    penalty = ewc_penalty(params, anchor, fisher, 3.5)
    assert penalty.shape == ()
    assert penalty.item() == pytest.approx(expected, rel=1e-12)
    penalty.backward()
    for name, values in fisher.items():
        torch.testing.assert_close(
            params[name].grad, 3.5 * values * (params[name].detach() - anchor[name])
        )
    assert params["free"].grad is None
    assert ewc_penalty(anchor, anchor, fisher, 3.5).item() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    # 300 terms of 1 + 1e-4 reach no whole number in half precision.
    theta = torch.full((300,), 2.0, dtype=dtype, requires_grad=True)
    anchor = torch.ones(300, dtype=dtype)
    penalty = ewc_penalty(
        {"a": theta}, {"a": anchor}, {"a": torch.full((300,), 1e-4)}, 2
    )
    assert penalty.dtype == torch.float32
    assert math.isclose(penalty.item(), 0.03, rel_tol=1e-5)
    penalty.backward()
    assert theta.grad.dtype == dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p, a, f: f.clear(), "fisher is empty"),
        (lambda p, a, f: p.pop("b"), "params lacks b"),
        (lambda p, a, f: a.pop("b"), "anchor lacks b"),
        (lambda p, a, f: p.update(a=torch.ones(3, 2)), r"params has a in .*\(3, 2\)"),
        (lambda p, a, f: a.update(a=torch.ones(1)), r"anchor has a in .*\(1,\)"),
    ],
)
def test_wrong_penalty_arguments(change, message):
    arguments = tensors(0), tensors(1), tensors(2)
    change(*arguments)
    with pytest.raises(ValueError, match=message):
        ewc_penalty(*arguments, 1.0)


def test_normalised_by_tensor():
    fisher = dict(a=torch.tensor([[2.0, 6.0], [3.0, 4.0]]), b=torch.full((3,), 7.0))
    found = normalise_fisher(fisher)
    torch.testing.assert_close(found["a"], torch.tensor([[0.0, 1.0], [0.25, 0.5]]))
    assert found["b"].tolist() == [0, 0, 0]
