"""The device of ``second_device.py`` refuses and allows what a real GPU does.

The rules are those of "CUDA semantics" and "Tensor Attributes" (torch.device,
promotion) of PyTorch's documentation, and of its error messages.
"""

import copy
import io
from contextlib import nullcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from second_device import second_device
from torch import nn

SAME = "Expected all tensors to be on the same device"
NUMPY = "can't convert cuda:0 device type tensor to numpy"


@pytest.fixture(
    autouse=True, params=["ours", pytest.param("real", marks=pytest.mark.cuda)]
)
def device(request):
    """All holds on a real GPU, too."""
    with second_device() if request.param == "ours" else nullcontext():
        yield request.param


def gpu(*shape: int) -> torch.Tensor:
    return torch.rand(shape, device="cuda")


#: Of a tensor there and one here, (2, 3) both.
REFUSED = {
    "sum": (lambda a, b: a + b, SAME),
    "sum, the other way round": (lambda a, b: b + a, SAME),
    "in place": (lambda a, b: a.mul_(b), SAME),
    "in place, here": (lambda a, b: b.mul_(a), SAME),
    "operator in place": (lambda a, b: a.__iadd__(b), SAME),
    "scalar there, tensor here": (lambda a, b: a[0, 0] * b, SAME),
    "scalar here is written to": (lambda a, b: b[0, 0].add_(a[0, 0]), SAME),
    "comparison": (lambda a, b: a > b, SAME),
    "matrices": (lambda a, b: a @ b.T, SAME),
    "layer": (lambda a, b: F.linear(a, b), SAME),
    "where": (lambda a, b: torch.where(b > 0, a, a), SAME),
    "mask": (lambda a, b: a.masked_fill(b > 0, 0), SAME),
    "cat": (lambda a, b: torch.cat([a, b]), SAME),
    "stack of scalars": (lambda a, b: torch.stack([a[0, 0], b[0, 0]]), SAME),
    "index_select": (lambda a, b: a.index_select(0, b[:, 0].long()), SAME),
    "gather": (lambda a, b: a.gather(0, b.long()), SAME),
    "scatter": (lambda a, b: a.scatter(0, b.long(), 1.0), SAME),
    "embedding": (lambda a, b: F.embedding(b.long(), a), SAME),
    "out": (lambda a, b: torch.add(a, a, out=b), SAME),
    "equal": (lambda a, b: torch.equal(a, b), SAME),
    "loss": (lambda a, b: F.cross_entropy(a, b[:, 0].long()), SAME),
    "index there": (lambda a, b: b[a[:, 0].long()], "indices should be either on cpu"),
    "mask there": (lambda a, b: b[a > 0], "indices should be either on cpu"),
    "write by index": (lambda a, b: a.__setitem__(torch.tensor([1, 0]), b), SAME),
    "write by a mask": (lambda a, b: a.__setitem__(a > 0, b.flatten()), SAME),
    "generator": (
        lambda a, b: torch.rand(2, device="cuda", generator=torch.Generator()),
        "Expected a 'cuda' device type for generator but found 'cpu'",
    ),
    "generator there": (
        lambda a, b: torch.rand(2, generator=torch.Generator("cuda")),
        "Expected a 'cpu' device type for generator but found 'cuda'",
    ),
    "gradient": (lambda a, b: setattr(a, "grad", b), SAME),
    "numpy": (lambda a, b: a.numpy(), NUMPY),
    "np.asarray": (lambda a, b: np.asarray(a), NUMPY),
    "NumPy's functions": (lambda a, b: np.add(b, a), NUMPY),
    "network there": (lambda a, b: nn.Linear(3, 2).to("cuda")(b), SAME),
    "network here": (lambda a, b: nn.Linear(3, 2)(a), SAME),
    "target here": (lambda a, b: nn.MSELoss()(a, b), SAME),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, device):
    function, message = REFUSED[name]
    # The words depend on torch's version.
    message = message if device == "ours" else ""
    with pytest.raises((RuntimeError, TypeError), match=message):
        function(gpu(2, 3), torch.rand(2, 3))


#: As above, with the device of the result.
ALLOWED = {
    "scalar here": (lambda a, b: a * b[0, 0], "cuda"),
    "scalar here, in place": (lambda a, b: a.add_(b[0, 0]), "cuda"),
    "number": (lambda a, b: 2 * a + 1, "cuda"),
    "where with scalars": (lambda a, b: torch.where(a > 0, b[0, 0], a), "cuda"),
    "index here": (lambda a, b: a[torch.tensor([1, 0])], "cuda"),
    "mask here": (lambda a, b: a[b > 0], "cuda"),
    "index there": (lambda a, b: a[a[:, 0].long()], "cuda"),
    "scalar there as an index": (lambda a, b: b[a[0, 0].long()], "cpu"),
    "copy_": (lambda a, b: a.copy_(b), "cuda"),
    "copy_ to the CPU": (lambda a, b: b.copy_(a), "cpu"),
    "write a slice": (lambda a, b: a.__setitem__(0, b[0]) or a, "cuda"),
    "write a slice here": (lambda a, b: b.__setitem__(0, a[0]) or b, "cpu"),
    "write a scalar": (lambda a, b: a.__setitem__(a > 0, b[0, 0]) or a, "cuda"),
    "slice": (lambda a, b: a[:, 1:], "cuda"),
    "view": (lambda a, b: a.view(3, 2), "cuda"),
    "transpose": (lambda a, b: a.T, "cuda"),
    "iteration": (lambda a, b: [*a], "cuda"),
    "several results": (lambda a, b: a.max(dim=0), "cuda"),
    "detach": (lambda a, b: a.detach(), "cuda"),
    "data": (lambda a, b: a.data, "cuda"),
    "like": (lambda a, b: torch.zeros_like(a), "cuda"),
    "like, here": (lambda a, b: torch.zeros_like(a, device="cpu"), "cpu"),
    "like, there": (lambda a, b: torch.zeros_like(b, device="cuda"), "cuda"),
    "new": (lambda a, b: a.new_tensor([1.0]), "cuda"),
    "new of one here": (lambda a, b: b.new_zeros(2), "cpu"),
    "arange": (lambda a, b: torch.arange(3, device=a.device), "cuda"),
    "factory without a device": (lambda a, b: torch.zeros(3), "cpu"),
    "tensor of a tensor": (lambda a, b: torch.tensor(a[0]), "cuda"),
    "tensor of a list": (lambda a, b: torch.tensor([*a[0]]), "cpu"),
    "as_tensor": (lambda a, b: torch.as_tensor(a), "cuda"),
    "as_tensor, there": (lambda a, b: torch.as_tensor(b.numpy(), device=0), "cuda"),
    "as_tensor, here": (lambda a, b: torch.as_tensor(a, device="cpu"), "cpu"),
    "to": (lambda a, b: b.to("cuda:0", torch.float64, non_blocking=True), "cuda"),
    "to a dtype": (lambda a, b: a.to(torch.float16), "cuda"),
    "to another": (lambda a, b: b.to(a), "cuda"),
    "to one here": (lambda a, b: a.to(b), "cpu"),
    "type_as": (lambda a, b: b.type_as(a), "cuda"),
    "double": (lambda a, b: a.double(), "cuda"),
    "cuda": (lambda a, b: b.cuda(), "cuda"),
    "cpu": (lambda a, b: a.cpu(), "cpu"),
    "sparse": (lambda a, b: a.to_sparse_csr(), "cuda"),
    "parameter": (lambda a, b: nn.Parameter(a), "cuda"),
    "copy": (lambda a, b: copy.deepcopy(a), "cuda"),
    "split": (lambda a, b: torch.split(a, 1), "cuda"),
}


@pytest.mark.parametrize("name", ALLOWED)
@pytest.mark.filterwarnings("ignore:To copy construct", "ignore:Sparse CSR")
def test_allowed(name):
    function, device = ALLOWED[name]
    result = function(gpu(2, 3), torch.rand(2, 3))
    tensors = [result] if isinstance(result, torch.Tensor) else [*result]
    for tensor in tensors:
        assert tensor.device == torch.device(*(device, 0)[: 1 + (device == "cuda")])
        assert tensor.is_cuda == (device == "cuda") != tensor.is_cpu


def test_values_are_real():
    here = torch.tensor([[1.0, 2.0], [3.0, 5.0]])
    there = here.to("cuda")
    assert there.tolist() == here.tolist()
    assert there.sum().item() == 11
    assert float(there[1, 1]) == int(there[1, 1]) == 5
    assert bool(there[0, 0])
    assert (there > 2).nonzero().tolist() == [[1, 0], [1, 1]]
    assert there[there > 2].shape == (2,)
    assert there.get_device() == 0
    np.testing.assert_array_equal(there.cpu().numpy(), here.numpy())


def test_what_is_moved_is_a_copy():
    here = torch.zeros(2)
    there = here.to("cuda")
    assert there.to("cuda") is there
    there += 1
    torch.as_tensor(here, device="cuda").add_(1)
    back = there.cpu()
    back += 1
    assert (here.tolist(), there.tolist(), back.tolist()) == ([0, 0], [1, 1], [2, 2])


def test_backward():
    here = torch.rand(3, requires_grad=True)
    there = here.detach().cuda().requires_grad_()
    seen = []
    there.register_hook(lambda gradient: seen.append(gradient.device.type))
    inner = there * 2
    inner.retain_grad()
    inner.square().sum().backward()
    assert seen == ["cuda"]
    assert {there.grad.device, inner.grad.device} == {torch.device("cuda:0")}
    (here * 2).square().sum().backward()
    torch.testing.assert_close(there.grad.cpu(), here.grad)
    (gradient,) = torch.autograd.grad((there**3).sum(), there)
    assert gradient.is_cuda
    # Through a move, gradients come home.
    here.grad = None
    (here.cuda() * gpu(3)).sum().backward()
    assert here.grad.is_cpu


def test_hooks_of_gradients_are_watched():
    there = gpu(3).requires_grad_()
    there.register_hook(lambda gradient: gradient + torch.ones(3))
    with pytest.raises(RuntimeError, match="same device"):
        there.sum().backward()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_training(optimizer):
    """A step gives what it gives on the CPU, batch norm's statistics included."""
    torch.manual_seed(0)
    here = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.0))
    there = copy.deepcopy(here).to("cuda")
    images = torch.rand(5, 3)
    for network in (here, there):
        steps = optimizer(network.parameters(), lr=0.1)
        for _ in range(2):
            steps.zero_grad()
            loss = network(images.to(network[0].weight.device)).square().sum()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            steps.step()
    assert isinstance(there[0].weight, nn.Parameter)
    for name, value in there.state_dict().items():
        assert value.is_cuda
        expected = here.state_dict()[name]
        torch.testing.assert_close(value.cpu(), expected, rtol=1e-3, atol=1e-4)
    assert copy.deepcopy(there)[1].running_mean.is_cuda
    there.to(memory_format=torch.channels_last).double().float()
    assert there[0].weight.is_cuda
    here.load_state_dict(there.state_dict())
    assert here[0].weight.is_cpu
    assert there.cpu()[0].weight.is_cpu


def test_files_are_plain():
    file = io.BytesIO()
    torch.save(dict(weight=gpu(2)), file)
    file.seek(0)
    assert torch.load(file, map_location="cpu")["weight"].is_cpu
