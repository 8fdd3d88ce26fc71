"""Feature maps of backbones that put the channels last."""

from torch import Tensor, nn

from mmwood.functional.axes import Axes, channels_first


def keep_channels_first(backbone: nn.Module) -> None:
    """From now on the backbone gives every feature map as (B, D, h, w).

    timm's Swin Transformer and some others give (B, h, w, D), and say so in
    ``output_fmt``. See :func:`mmwood.functional.axes.is_channels_last`. What is no map,
    as tokens or a class token, stays as it is.
    """
    # What was turned once may look as if it had to be turned again.
    if _turn not in backbone._forward_hooks.values():
        backbone.register_forward_hook(_turn)


def declared_axes(network: nn.Module, name: str = "") -> Axes:
    """'NHWC' or 'NCHW': what timm says of a network, or of a module of it by name."""
    names = name.split(".") if name else []
    around = [
        network.get_submodule(".".join(names[:n])) for n in range(len(names), -1, -1)
    ]
    # mmpretrain's TIMMBackbone has the network inside.
    for module in [*around, *network.children()]:
        declared = getattr(module, "output_fmt", None)
        if declared is not None:
            last = getattr(declared, "value", declared) == "NHWC"
            return "NHWC" if last else "NCHW"
    return "NCHW"


def _turn(
    backbone: nn.Module, args: tuple, output: Tensor | tuple[Tensor, ...]
) -> Tensor | tuple[Tensor, ...]:
    size, declared = args[0].shape[2:], declared_axes(backbone)

    def turned(features: Tensor) -> Tensor:
        is_map = isinstance(features, Tensor) and features.ndim == 4
        return channels_first(features, size, declared) if is_map else features

    if isinstance(output, (tuple, list)):
        return type(output)(map(turned, output))
    return turned(output)
