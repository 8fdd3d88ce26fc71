"""The self-attention of a transformer while it runs."""

import re
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from mmwood.functional.attention_affinity import mean_attention

#: Every way to a softmax.
_SOFTMAXES = (torch.softmax, F.softmax, Tensor.softmax)
#: Parameters that are tokens beside the patches: for classes, distillation, registers.
_EXTRA = re.compile(r"(^|\.)(cls|class|dist|reg|register)_tokens?$")


class AttentionReader(TorchFunctionMode):
    """Keeps the attention weights of all that runs within, whoever computes them.

    They are those that the network used: queries and keys of a call of fused attention
    (``F.scaled_dot_product_attention``), which are kept, as it returns no weights; the
    result of a softmax (B, H, N, N) where a network computes attention in steps; the
    weights of ``torch.nn.MultiheadAttention``. Rotary positions, normalised queries and
    relative positions are in them. Outputs are the same, but for rounding with
    ``torch.nn.MultiheadAttention``, whose fused path gives no weights.

    Args:
        layers: How many of the last to keep; None: all. Each takes the memory of its
            queries and keys, until it is read.

    Example:
        >>> with AttentionReader(layers=6) as reader:
        ...     backbone(images)
        >>> attention = reader.mean(len(images), tokens=197)
    """

    def __init__(self, layers: int | None = None) -> None:
        super().__init__()
        # (B, N, M) of the weights, and a function that gives them, averaged over heads.
        self._layers: deque[tuple[tuple[int, ...], Callable[[], Tensor]]]
        self._layers = deque(maxlen=layers)

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """Call the function and note what it did."""
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            return self._note_module(*args, **kwargs)
        result = func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            self._note_fused(*args, **kwargs)
        elif func in _SOFTMAXES:
            self._note_softmax(result, *args[1:], **kwargs)
        return result

    def mean(self, batch: int, tokens: int) -> Tensor | None:
        """The mean of the kept self-attentions of so many images and tokens.

        Returns:
            Rows that sum to 1; None if there was none.

        Shape:
            - output: (B, N, N)
        """
        shape = (batch, tokens, tokens)
        chosen = [read for found, read in self._layers if found == shape]
        total = None
        for read in chosen:
            total = read() if total is None else total + read()
        return None if total is None else total / len(chosen)

    def shapes(self) -> list[tuple[int, ...]]:
        """Which shapes (B, N, M) the kept weights of N queries and M keys have."""
        return sorted({shape for shape, _ in self._layers})

    def _note(self, weights: Tensor) -> None:
        """Weights (B, H, N, M) of all heads, which would take too much memory."""
        dtype = torch.promote_types(weights.dtype, torch.float32)
        mean = weights.mean(dim=1, dtype=dtype)
        self._layers.append((tuple(mean.shape), lambda: mean))

    def _note_softmax(self, result: Tensor, dim: int | None = None, **_: Any) -> None:
        if result.ndim == 4 and dim in (-1, 3):
            self._note(result)

    def _note_fused(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        **others: Any,
    ) -> None:
        if query.ndim == 4 and not is_causal and query.shape[1] == key.shape[1]:
            shape = len(query), query.shape[2], key.shape[2]
            read = partial(mean_attention, query, key, scale, attn_mask)
            self._layers.append((shape, read))

    def _note_module(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        needed = kwargs.get("need_weights", True)
        averaged = kwargs.get("average_attn_weights", True)
        kwargs |= dict(need_weights=True, average_attn_weights=False)
        output, weights = F.multi_head_attention_forward(*args, **kwargs)
        assert weights is not None  # asked for
        if weights.ndim == 4:
            self._note(weights)
        if averaged:
            weights = weights.mean(dim=-3)
        return output, weights if needed else None


def count_extra_tokens(backbone: nn.Module) -> int:
    """How many tokens stand before the patches, by the names of parameters."""
    return sum(
        parameter.shape[-2] if parameter.ndim > 1 else 1
        for name, parameter in backbone.named_parameters()
        if _EXTRA.search(name)
    )
