"""A segmentation network that sees each image at several scales.

Chen et al., DeepLab: Semantic Image Segmentation with Deep Convolutional Nets, Atrous
Convolution, and Fully Connected CRFs, PAMI 2018.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from mmseg.utils import add_prefix
from torch import Tensor

from mmwood.registry import MODELS


@MODELS.register_module()
class MultiScaleEncoderDecoder(EncoderDecoder):
    r"""MMSegmentation's ``EncoderDecoder`` with DeepLab-v2's multi-scale inputs (MSC).

    With :math:`z_s` the logits of the image resized by the factor s,

    .. math::
        z_{\max} = \max_s z_s, \qquad L = \sum_s L(z_s) + L(z_{\max})

    the maximum over scales, for each pixel and class, on the grid of scale 1. A test
    predicts from :math:`z_{\max}`, of the whole image or of each window. All resizing
    is bilinear. So does the released program deeplab-pytorch (``libs/models/msc.py``),
    there with ``decode_head=dict(type='mmwood.DeepLabV2Head', loss_on='logits')``.

    Auxiliary heads see scale 1 alone. Batch normalisation that is trained takes the
    statistics of each scale by itself.

    Args:
        *args: As in ``EncoderDecoder``.
        scales: The factors s, at least two, the first of which is 1.
        **kwargs: As in ``EncoderDecoder``.

    Raises:
        ValueError: ``scales`` has other values or one twice, or ``decode_head`` does
            not make its loss and its prediction from one map of logits.

    Shape:
        - inputs: (B, 3, H, W); logits: (B, C, H, W)

    Example:
        >>> # over a _base_ of which model.type is 'EncoderDecoder'
        >>> model = dict(type='mmwood.MultiScaleEncoderDecoder', scales=(1, 0.75, 0.5))
    """

    def __init__(
        self, *args: Any, scales: Sequence[float] = (1.0, 0.75, 0.5), **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.scales = tuple(scales)
        once = len(set(self.scales)) == len(self.scales) >= 2
        if not once or self.scales[0] != 1 or not all(s > 0 for s in self.scales):
            raise ValueError(
                "model.scales must be 1 and then at least one other positive number, "
                f"none of them twice, but is {self.scales}"
            )
        for name in ("loss", "predict"):
            own = getattr(type(self.decode_head), name, None)
            if own is not getattr(BaseDecodeHead, name):
                self._refuse_head()

    def loss(self, inputs: Tensor, data_samples: list[SegDataSample]) -> dict:
        """The losses of each scale and of the maximum; their sum is trained on."""
        features, logits = self._encode_scales(inputs)
        names = [f"scale_{scale:g}" for scale in self.scales]
        losses: dict = {}
        for name, z in zip([*names, "max"], [*logits, self._maximum(logits)]):
            term = self.decode_head.loss_by_feat(z, data_samples)
            losses |= add_prefix(term, f"decode.{name}")
        if self.with_auxiliary_head:
            losses |= self._auxiliary_head_forward_train(features, data_samples)
        return losses

    def encode_decode(self, inputs: Tensor, batch_img_metas: list[dict]) -> Tensor:
        """The maximum over scales at the size of the inputs. Shape: (B, C, H, W)."""
        return self.decode_head.predict_by_feat(self._forward(inputs), batch_img_metas)

    def _forward(
        self, inputs: Tensor, data_samples: list[SegDataSample] | None = None
    ) -> Tensor:
        return self._maximum(self._encode_scales(inputs)[1])

    def _encode_scales(self, inputs: Tensor) -> tuple[Sequence[Tensor], list[Tensor]]:
        """The features of scale 1, and the logits of each scale on its own grid."""
        features = self.extract_feat(inputs)
        logits = [self.decode_head(features)]
        for scale in self.scales[1:]:
            # By the factor, as in the program: a size that is cut off, as 160 of 321,
            # would stretch the image a little.
            resized = F.interpolate(
                inputs, scale_factor=scale, mode="bilinear", align_corners=False
            )
            logits.append(self.decode_head(self.extract_feat(resized)))
        if not all(isinstance(z, Tensor) for z in logits):
            self._refuse_head()
        return features, logits

    def _maximum(self, logits: list[Tensor]) -> Tensor:
        size = logits[0].shape[2:]
        aligned = [
            F.interpolate(z, size, mode="bilinear", align_corners=self.align_corners)
            for z in logits
        ]
        return torch.stack(aligned).max(dim=0).values

    def _refuse_head(self) -> None:
        raise ValueError(
            "mmwood.MultiScaleEncoderDecoder needs a decode_head whose forward gives "
            "one map of logits and whose loss and predict are BaseDecodeHead's, which "
            f"{type(self.decode_head).__name__} is not"
        )
