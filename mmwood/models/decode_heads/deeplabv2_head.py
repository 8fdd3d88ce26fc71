"""The segmentation head of DeepLab-v2.

Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs, PAMI 2018.
"""

from collections.abc import Sequence
from inspect import signature
from typing import Any, Literal, get_args

import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from mmwood.models.utils import refuse_left_behind
from mmwood.registry import MODELS
from mmwood.utils.check import one_of

LossOn = Literal["image", "logits"]


@MODELS.register_module()
class DeepLabV2Head(BaseDecodeHead):
    r"""Atrous spatial pyramid pooling of DeepLab-v2 (ASPP-L).

    The scores are the sum of parallel dilated 3×3 convolutions of the features,

    .. math:: s = \sum_r W_r *_r f + b_r, \qquad r \in \{6, 12, 18, 24\}

    straight to the classes: no hidden layer, normalisation, activation or image
    pooling, unlike mmseg's ``ASPPHead``, which is DeepLab-v3's.

    The released training gives the weights ten times and the biases twenty times the
    learning rate, and the biases no weight decay. mmengine takes the longest custom
    key that is part of a parameter's name, and none of its ``bias_*`` options where
    one is: so every bias has its key::

        optim_wrapper = dict(
            optimizer=dict(type='SGD', lr=2.5e-4, momentum=0.9, weight_decay=5e-4),
            paramwise_cfg=dict(custom_keys={
                'decode_head.aspp': dict(lr_mult=10),
                'decode_head.aspp.0.bias': dict(lr_mult=20, decay_mult=0),
                'decode_head.aspp.1.bias': dict(lr_mult=20, decay_mult=0),
                'decode_head.aspp.2.bias': dict(lr_mult=20, decay_mult=0),
                'decode_head.aspp.3.bias': dict(lr_mult=20, decay_mult=0)}))

    Args:
        in_channels: D, the channels of the feature map.
        channels: Accepted since every head of mmseg takes it; there is no layer
            between, so it changes nothing. Neither do ``conv_cfg``, ``norm_cfg`` and
            ``act_cfg``.
        num_classes: C, the number of classes, background included.
        dilations: The rates r. Defaults to (6, 12, 18, 24).
        dropout_ratio: Dropout of the features' channels. Defaults to 0, as in the
            released program.
        loss_on: The grid on which the loss is taken: ``'image'``, to which the logits
            are enlarged, as in mmseg; or ``'logits'``, to which the label is shrunk by
            nearest neighbour, as in the released programs of DeepLab-v2 and of
            size-balanced training, whose components are then those of the small label.
        init_cfg: Defaults to weights from a normal distribution of standard deviation
            0.01 and biases 0, as in the released program.
        **kwargs: The other fields of mmseg's ``BaseDecodeHead``.

    Raises:
        ValueError: There is no such field, ``dilations`` is empty or has a rate below
            1, ``loss_on`` has another value, or ``input_transform`` is
            'multiple_select', which gives several maps.

    Shape:
        - inputs: tuple of which ``in_index`` is (B, D, h, w); output: (B, C, h, w)

    Example:
        >>> # over a _base_ with another head, which would leave its own dilations
        >>> decode_head = dict(
        ...     _delete_=True, type='mmwood.DeepLabV2Head', in_channels=2048,
        ...     in_index=3, num_classes=21,
        ...     loss_decode=dict(type='mmwood.SizeBalancedCELoss'))
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        channels: int | None = None,
        *,
        num_classes: int,
        dilations: Sequence[int] = (6, 12, 18, 24),
        dropout_ratio: float = 0.0,
        loss_on: LossOn = "image",
        init_cfg: dict | list[dict] | None = None,
        **kwargs: Any,
    ) -> None:
        known = signature(BaseDecodeHead.__init__).parameters
        refuse_left_behind("DeepLabV2Head", "decode_head", set(kwargs) - set(known))
        if not dilations or any(rate < 1 for rate in dilations):
            raise ValueError(
                "decode_head.dilations must be rates of at least 1, but is "
                f"{tuple(dilations)}"
            )
        one_of("decode_head.loss_on", loss_on, get_args(LossOn))
        if kwargs.get("input_transform") == "multiple_select":
            raise ValueError(
                "decode_head.input_transform must be None or 'resize_concat' in "
                "mmwood.DeepLabV2Head, which reads one feature map"
            )
        # The base class' own default would look for its conv_seg.
        if init_cfg is None:
            init_cfg = dict(type="Normal", layer="Conv2d", std=0.01, bias=0)
        super().__init__(
            in_channels,
            num_classes if channels is None else channels,
            num_classes=num_classes,
            dropout_ratio=dropout_ratio,
            init_cfg=init_cfg,
            **kwargs,
        )
        del self.conv_seg
        self.loss_on = loss_on
        self.dilations = tuple(dilations)
        self.aspp = nn.ModuleList(
            nn.Conv2d(
                self.in_channels, self.out_channels, 3, padding=rate, dilation=rate
            )
            for rate in self.dilations
        )

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """The scores of each pixel, before the softmax. Shape: (B, C, h, w)."""
        return self.cls_seg(self._transform_inputs(inputs))

    def cls_seg(self, feat: Tensor) -> Tensor:
        """The scores of a feature map. Shape: (B, D, h, w) to (B, C, h, w)."""
        if self.dropout is not None:
            feat = self.dropout(feat)
        first, *others = self.aspp
        scores = first(feat)
        for convolution in others:
            scores += convolution(feat)
        return scores

    def loss_by_feat(
        self, seg_logits: Tensor, batch_data_samples: list[SegDataSample]
    ) -> dict:
        """The losses and the accuracy on the grid that ``loss_on`` names.

        Shape:
            - seg_logits: (B, C, h, w); each sample's label: (1, H, W)
        """
        if self.loss_on == "logits":
            labels = self._stack_batch_gt(batch_data_samples)
            # The pixel at each cell's centre, as Pillow's NEAREST; OpenCV's and
            # torch's "nearest" take the one at its upper left.
            small = F.interpolate(
                labels.float(), seg_logits.shape[2:], mode="nearest-exact"
            )
            batch_data_samples = [
                SegDataSample(gt_sem_seg=PixelData(data=label))
                for label in small.to(labels.dtype)
            ]
        return super().loss_by_feat(seg_logits, batch_data_samples)
