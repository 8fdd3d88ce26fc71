"""Features of any backbone, by the names of its modules."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from mmwood.functional.axes import channels_first
from mmwood.models.utils.axes import declared_axes


class NamedFeatures:
    """Keeps what modules of a network gave in its last forward pass.

    Args:
        network: The network.
        names: Of its modules, as in ``named_modules()``.
        field: The config's field that names them, for the error's message.

    Raises:
        ValueError: There is no such module.
    """

    def __init__(self, network: nn.Module, names: Sequence[str], field: str) -> None:
        self._kept: dict[int, Tensor] = {}
        self._size: list[int] = []
        modules = dict(network.named_modules())
        for number, name in enumerate(names):
            if name not in modules:
                raise ValueError(
                    f"{field}: the backbone {type(network).__name__} has no module "
                    f"{name!r}; its modules begin with "
                    f"{[key for key in modules if key and key.count('.') < 2][:40]}"
                )
            # A closure would make copies of the model write to the original.
            modules[name].register_forward_hook(partial(_keep, self._kept, number))
        network.register_forward_pre_hook(partial(_note_size, self._size))
        self._axes = [declared_axes(network, name) for name in names]

    def take(self) -> list[Tensor]:
        """The outputs in the order of the names, once, as (B, D, h, w)."""
        levels = [self._kept.pop(number) for number in sorted(self._kept)]
        return [
            channels_first(level, self._size, declared) if _is_map(level) else level
            for level, declared in zip(levels, self._axes)
        ]


def check_named_features(
    levels: Sequence[Tensor], channels: Sequence[int], field: str, advice: str
) -> None:
    """Refuse levels that are no feature maps (B, D, h, w) of these channels.

    Raises:
        ValueError: They differ; names the field.
    """
    found = [level.shape[1] if _is_map(level) else None for level in levels]
    if None in found:
        wrong = levels[found.index(None)]
        raise ValueError(
            f"{field}: a level must be a feature map (B, D, h, w), but one is "
            f"{getattr(wrong, 'shape', type(wrong).__name__)}; {advice}"
        )
    if found != list(channels):
        raise ValueError(
            f"{field} is {list(channels)}, but the backbone's levels have {found} "
            f"channels; {advice}"
        )


def _is_map(level: Tensor) -> bool:
    return isinstance(level, Tensor) and level.ndim == 4


def _keep(
    kept: dict[int, Tensor], number: int, _: nn.Module, args: tuple, output: Tensor
) -> None:
    kept[number] = output


def _note_size(size: list[int], _: nn.Module, args: tuple) -> None:
    size[:] = args[0].shape[2:]
