"""Elastic weight consolidation (EWC).

Kirkpatrick et al., Overcoming catastrophic forgetting in neural networks, PNAS 2017.
"""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor

#: Tensors by name, as a mapping or as ``Module.named_parameters()`` gives them.
Named = Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]


def fisher_diagonal(
    losses: Iterable[Tensor | Callable[[], Tensor]], params: Named
) -> dict[str, Tensor]:
    r"""The diagonal of the empirical Fisher information.

    .. math::
        F_i = \frac{1}{N} \sum_{n=1}^{N}
            \Bigl(\frac{\partial L_n}{\partial \theta_i}\Bigr)^2

    with :math:`L_n = -\log p(y_n | x_n, \theta)` the loss of image n alone. The loss
    of a batch does not do: its gradient's square has the products of different images'
    gradients in it, which mostly cancel.

    Args:
        losses: The loss of each image, or a function that computes it, one after the
            other; each from a forward pass of its own. Given as functions or by a
            generator, memory does not grow with the number of images.
        params: The parameters. Those that require no gradient are left out.

    Returns:
        F by name, with the shapes of the parameters, in float32 or, where the
        parameter is, in float64. Sums are in float64 where the device has it.
        ``.grad`` of the parameters is neither used nor changed. 0 where no loss
        depends on a parameter.

    Raises:
        ValueError: There is no loss, or no parameter that requires a gradient.

    Shape:
        - losses: () each

    Example:
        >>> losses = (cross_entropy(network(x), y) for x, y in images)
        >>> fisher = fisher_diagonal(losses, network.named_parameters())
    """
    params = dict(params)
    sums, count = squared_gradient_sums(losses, params)
    if not count:
        raise ValueError("losses is empty: the Fisher information needs an image")
    return {
        name: (total / count).to(torch.promote_types(params[name].dtype, torch.float32))
        for name, total in sums.items()
    }


def squared_gradient_sums(
    losses: Iterable[Tensor | Callable[[], Tensor]], params: Named
) -> tuple[dict[str, Tensor], int]:
    """What :func:`fisher_diagonal` divides: for processes that share the images.

    Returns:
        Sums of the squared gradients by name, and the number of losses, which may be
        0. Adding up both over the processes and dividing gives the Fisher diagonal of
        all images.
    """
    params = {
        name: param for name, param in dict(params).items() if param.requires_grad
    }
    if not params:
        raise ValueError("params has no parameter that requires a gradient")
    # Apple's GPUs have no float64.
    sums = {
        name: torch.zeros_like(
            param,
            dtype=torch.float32 if param.device.type == "mps" else torch.float64,
            requires_grad=False,
        )
        for name, param in params.items()
    }
    count = 0
    for loss in losses:
        gradients = torch.autograd.grad(
            loss() if callable(loss) else loss, list(params.values()), allow_unused=True
        )
        for total, gradient in zip(sums.values(), gradients):
            if gradient is not None:
                total += gradient.to(total.dtype).square_()
        count += 1
    return sums, count


def normalise_fisher(fisher: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring each tensor of F to 0..1 by its least and largest value.

    A tensor of equal values becomes 0. Source: the authors' program of Mun et al., WACV
    2024, its 1e-8 in the divisor included.

    Shape:
        - fisher, output: any, the same under one name
    """
    return {
        name: (values - values.min()) / (values.max() - values.min() + 1e-8)
        for name, values in fisher.items()
    }


def ewc_penalty(params: Named, anchor: Named, fisher: Named, weight: float) -> Tensor:
    r"""What leaving the weights of an earlier task costs.

    .. math::
        \frac{\lambda}{2} \sum_i F_i (\theta_i - \theta^*_i)^2

    Its gradient is :math:`\lambda F_i (\theta_i - \theta^*_i)`.

    Args:
        params: The weights theta. Those that ``fisher`` lacks are free.
        anchor: The weights theta* after the earlier task.
        fisher: F, as :func:`fisher_diagonal` gives it.
        weight: lambda.

    Returns:
        The penalty, differentiable in ``params``. Half precision is computed in
        float32.

    Raises:
        ValueError: ``fisher`` is empty, or ``params`` or ``anchor`` lacks one of its
            names or has another shape there.

    Shape:
        - params, anchor, fisher: any, the same under one name; output: ()
    """
    params, anchor, fisher = dict(params), dict(anchor), dict(fisher)
    if not fisher:
        raise ValueError("fisher is empty: there is no parameter to hold")
    terms = []
    for name, importance in fisher.items():
        for field, tensors in (("params", params), ("anchor", anchor)):
            if name not in tensors:
                raise ValueError(f"{field} lacks {name}, which fisher has")
            if tensors[name].shape != importance.shape:
                raise ValueError(
                    f"{field} has {name} in the shape {tuple(tensors[name].shape)}, "
                    f"fisher in {tuple(importance.shape)}"
                )
        dtype = torch.promote_types(params[name].dtype, torch.float32)
        difference = params[name].to(dtype) - anchor[name].to(dtype)
        terms.append((importance.to(dtype) * difference.square()).sum())
    return weight / 2 * torch.stack(terms).sum()
