"""Levels of any backbone, by the names of its modules."""

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

__all__ = ["NamedLevels"]


class NamedLevels:
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

    def take(self) -> list[Tensor]:
        """The outputs in the order of the names, once."""
        return [self._kept.pop(number) for number in sorted(self._kept)]


def _keep(
    kept: dict[int, Tensor], number: int, _: nn.Module, args: tuple, output: Tensor
) -> None:
    kept[number] = output
