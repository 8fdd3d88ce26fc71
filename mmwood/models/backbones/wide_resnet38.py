"""Wide ResNet-38: model A1 of its paper, which PSA and SEAM use.

Wu et al., Wider or Deeper: Revisiting the ResNet Model for Visual Recognition, Pattern
Recognition 2019.

ImageNet weights circulate as an MXNet file of the authors and as PyTorch files of PSA
and SEAM: tools/model_converters/wide_resnet38.py reads both.
"""

from collections.abc import Iterator, Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmwood.registry import MODELS

#: Of each stage: the blocks, the channels of a block's convolutions as multiples of
#: the stem's, and their kernels.
_STAGES = {
    "b2": (3, (2, 2), (3, 3)),
    "b3": (3, (4, 4), (3, 3)),
    "b4": (6, (8, 8), (3, 3)),
    "b5": (3, (8, 16), (3, 3)),
    "b6": (1, (8, 16, 32), (1, 3, 1)),
    "b7": (1, (16, 32, 64), (1, 3, 1)),
}


class PreActBlock(nn.Module):
    """Residual block in which normalisation and ReLU stand before each convolution.

    The shortcut is the identity where the shapes allow it, and else a 1×1 convolution
    of the activated input. Channels are dropped before every convolution but the first.
    Kernels, channels and dilations are of each convolution; 1×1 ones have no dilation.

    Shape:
        - x: (B, in_channels, h, w); output: (B, channels[-1], ⌈h/stride⌉, ⌈w/stride⌉)
    """

    def __init__(
        self,
        in_channels: int,
        channels: Sequence[int],
        kernels: Sequence[int],
        stride: int,
        dilations: Sequence[int],
        dropout: float,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        inputs = (in_channels, *channels[:-1])
        strides = (stride, *[1] * len(channels))
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, n)[1] for n in inputs)
        self.convs = nn.ModuleList(
            _conv(*args) for args in zip(inputs, channels, kernels, strides, dilations)
        )
        self.shortcut = None
        if in_channels != channels[-1] or stride != 1:
            self.shortcut = _conv(in_channels, channels[-1], 1, stride)
        self.dropout = nn.Dropout2d(dropout)
        self.relu = nn.ReLU(inplace=True)

    def activate(self, x: Tensor) -> Tensor:
        """The input after the block's first normalisation and ReLU."""
        return self.relu(self.norms[0](x))

    def forward(self, x: Tensor, activated: Tensor | None = None) -> Tensor:
        """Compute the block; ``activated`` is :meth:`activate` of x where known."""
        if activated is None:
            activated = self.activate(x)
        if self.shortcut is not None:
            x = self.shortcut(activated)
        out = self.convs[0](activated)
        # Freed before the larger maps of the next layers are made.
        del activated
        for norm, conv in zip(self.norms[1:], self.convs[1:]):
            out = self.relu(norm(out))
            out = self.dropout(out)
            out = conv(out)
        out += x
        return out


@MODELS.register_module()
class WideResNet38(BaseModule):
    """Wide ResNet-38 (model A1), a backbone for classification and segmentation.

    A 3×3 stem and the stages b2 to b7 of pre-activation blocks, then normalisation and
    ReLU: 4096 channels at an eighth of the input's size. The published weights expect
    RGB images with ImageNet's mean and standard deviation. There is no pooling: an odd
    side is rounded up at each stride.

    PSA and SEAM train it with ``norm_cfg=dict(type='BN', requires_grad=False)`` and
    ``frozen_stages=0`` or ``frozen_stages=1``.

    Args:
        strides: Stride of the stages b2 to b7.
        dilations: Dilation of the stages. The first convolution of a stage still has
            the dilation of the stage before, as published. For output stride 16:
            strides (2, 2, 2, 2, 1, 1) and dilations (1, 1, 1, 1, 2, 2); for 32, as in
            ImageNet's training: strides (2, 2, 2, 2, 2, 1) and dilations of 1.
        dropout: Probability that a channel is dropped in b6 and in b7, before their
            second and third convolution.
        out_indices: The stages whose maps are given, 0 for b2 to 5 for b7. Every map is
            given after the normalisation and ReLU that follow its stage.
        frozen_stages: 0 freezes the stem, i > 0 the first i stages also; -1 nothing.
        norm_eval: Whether batch normalisation uses its stored statistics in training
            too, as all published training from ImageNet's weights does. Set False to
            train from random weights.
        norm_cfg: Config of the normalisation layers. Defaults to batch normalisation.
        with_cp: Whether blocks are computed again in the backward pass instead of
            being stored. Together with ``norm_eval=False`` the running statistics
            then move twice a step.
        base_channels: Channels of the stem, of which all others are multiples; 64 as
            published.
        init_cfg: As in every OpenMMLab module. Defaults to Kaiming's normal
            distribution, as mmseg's ResNet.

    Raises:
        ValueError: ``strides`` to ``frozen_stages`` has another value.

    Shape:
        - x: (B, 3, H, W)
        - output: tuple of (B, 4096, ⌈H/8⌉, ⌈W/8⌉), or of the chosen stages' maps with
          128, 256, 512, 1024, 2048 and 4096 channels

    Example:
        >>> backbone = dict(
        ...     type='mmwood.WideResNet38', frozen_stages=1,
        ...     init_cfg=dict(type='Pretrained', checkpoint='weights/wrn38.pth'))
    """

    def __init__(
        self,
        strides: Sequence[int] = (2, 2, 2, 1, 1, 1),
        dilations: Sequence[int] = (1, 1, 1, 2, 4, 4),
        dropout: Sequence[float] = (0.3, 0.5),
        out_indices: Sequence[int] = (5,),
        frozen_stages: int = -1,
        norm_eval: bool = True,
        norm_cfg: dict | None = None,
        with_cp: bool = False,
        base_channels: int = 64,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        if init_cfg is None:
            init_cfg = [
                dict(type="Kaiming", layer="Conv2d"),
                dict(type="Constant", val=1, layer=["_BatchNorm", "GroupNorm"]),
            ]
        super().__init__(init_cfg)
        _check_fields(strides, dilations, dropout, out_indices, frozen_stages)
        if norm_cfg is None:
            norm_cfg = dict(type="BN", requires_grad=True)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.with_cp = with_cp

        self.stem = _conv(3, base_channels, 3)
        channels, dilation_before = base_channels, 1
        dropouts = (0.0, 0.0, 0.0, 0.0, *dropout)
        for (name, (num_blocks, factors, kernels)), stride, dilation, rate in zip(
            _STAGES.items(), strides, dilations, dropouts
        ):
            widths = [base_channels * factor for factor in factors]
            stage = nn.ModuleList()
            for number in range(num_blocks):
                first = number == 0
                block = PreActBlock(
                    channels,
                    widths,
                    kernels,
                    stride if first else 1,
                    [dilation_before if first else dilation, dilation, dilation],
                    rate,
                    norm_cfg,
                )
                stage.append(block)
                channels = widths[-1]
            self.add_module(name, stage)
            dilation_before = dilation
        self.norm = build_norm_layer(norm_cfg, channels)[1]
        self.relu = nn.ReLU(inplace=True)
        self._freeze_stages()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """The maps of ``out_indices``, in the order of the stages."""
        outs = []
        x = self.stem(x)
        for index, name in enumerate(_STAGES):
            for number, block in enumerate(getattr(self, name)):
                activated = None
                if number == 0 and index - 1 in self.out_indices:
                    activated = block.activate(x)
                    outs.append(activated)
                    if len(outs) == len(self.out_indices):
                        return tuple(outs)
                if self.with_cp and torch.is_grad_enabled():
                    x = checkpoint(block, x, activated, use_reentrant=False)
                else:
                    x = block(x, activated)
        outs.append(self.relu(self.norm(x)))
        return tuple(outs)

    def named_children(self) -> Iterator[tuple[str, nn.Module]]:
        """The layers, the last normalisation before all others.

        mmcv's ``fuse_conv_bn`` takes a normalisation for that of the convolution before
        it in this order, which would be the stem. It fuses none in this network.
        """
        children = dict(super().named_children())
        yield "norm", children.pop("norm")
        yield from children.items()

    def train(self, mode: bool = True) -> "WideResNet38":
        """Set the mode; what is frozen stays in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        for name in ("stem", *_STAGES)[: self.frozen_stages + 1]:
            module = getattr(self, name).eval()
            module.requires_grad_(False)


def _conv(
    in_channels: int, channels: int, kernel: int, stride: int = 1, dilation: int = 1
) -> nn.Conv2d:
    """A convolution that keeps the size at stride 1, without bias."""
    if kernel == 1:
        dilation = 1
    padding = dilation * (kernel // 2)
    return nn.Conv2d(
        in_channels, channels, kernel, stride, padding, dilation, bias=False
    )


def _check_fields(
    strides: Sequence[int],
    dilations: Sequence[int],
    dropout: Sequence[float],
    out_indices: Sequence[int],
    frozen_stages: int,
) -> None:
    for field, values in (("strides", strides), ("dilations", dilations)):
        if len(values) != len(_STAGES) or any(value < 1 for value in values):
            raise ValueError(
                f"backbone.{field} must be six integers of at least 1, one for each "
                f"of the stages b2 to b7, but is {values!r}"
            )
    if len(dropout) != 2 or not all(0 <= rate < 1 for rate in dropout):
        raise ValueError(
            "backbone.dropout must be two probabilities in [0, 1), of b6 and of b7, "
            f"but is {dropout!r}"
        )
    stages = range(len(_STAGES))
    wrong = [index for index in out_indices if index not in stages]
    if wrong or not out_indices or len(set(out_indices)) != len(out_indices):
        raise ValueError(
            "backbone.out_indices must be different stages from 0 (b2) to 5 (b7), but "
            f"is {out_indices!r}"
        )
    if frozen_stages not in range(-1, len(_STAGES) + 1):
        raise ValueError(
            "backbone.frozen_stages must be -1 (nothing), 0 (the stem) or the number "
            f"of stages to freeze, at most {len(_STAGES)}, but is {frozen_stages!r}"
        )
