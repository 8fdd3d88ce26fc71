"""Class tokens of a vision transformer, of a batch's images and of others."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from mmwood.models.utils.attention import count_extra_tokens
from mmwood.models.utils.named_features import NamedFeatures


@dataclass
class Views:
    """What a feature loss needs to look at an image again.

    Attributes:
        images: The batch, as the network saw it. Shape: (B, 3, H, W).
        tokens: Its class tokens. Shape: (B, D).
        encode: Gives the class tokens of other images, in a pass of their own.
    """

    images: Tensor
    tokens: Tensor
    encode: Callable[[Tensor], Tensor]


class ClassTokens:
    """Reads the class token where a backbone gives its patches alone.

    Args:
        backbone: A vision transformer with a class token, before its patches.
        module: The name of its module whose output has the tokens (B, N, D), the last
            normalisation.

    Raises:
        ValueError: There is no such module, or the backbone has no class token; in
            training: its output is not (B, N, D).
    """

    def __init__(self, backbone: nn.Module, module: str) -> None:
        self._field = f"tokens_of={module!r} of a feature loss"
        if not count_extra_tokens(backbone):
            raise ValueError(
                f"{self._field} needs a vision transformer with a class token, but "
                f"{type(backbone).__name__} has none"
            )
        self._levels = NamedFeatures(backbone, [module], self._field)

    def views(self, images: Tensor, extract_feat: Callable[[Tensor], Any]) -> Views:
        """Those of images that have just gone through the backbone."""
        return Views(images, self._take(), partial(self._encode, extract_feat))

    def _encode(self, extract_feat: Callable[[Tensor], Any], images: Tensor) -> Tensor:
        extract_feat(images)
        return self._take()

    def _take(self) -> Tensor:
        (tokens,) = self._levels.take()
        if tokens.ndim != 3:
            raise ValueError(
                f"{self._field}: the module gives {tuple(tokens.shape)}, but must give "
                "tokens (B, N, D), the class token first"
            )
        return tokens[:, 0]
