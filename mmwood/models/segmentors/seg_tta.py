"""Test-time scales and flips of a segmentor, with the dense CRF where wanted."""

from typing import Any

import mmcv
import numpy as np
import torch
from mmengine.structures import PixelData
from mmseg.models.segmentors import SegTTAModel as MMSegTTAModel
from mmseg.structures import SegDataSample

from mmwood.functional.crf import DEEPLAB_CRF, dense_crf
from mmwood.functional.refine import refine_scores
from mmwood.registry import MODELS


@MODELS.register_module()
class SegTTAModel(MMSegTTAModel):
    """mmseg's ``SegTTAModel`` with a dense CRF as post-processing.

    The classes' probabilities are the mean over the views, as in mmseg; with ``crf``
    they are refined by the colours of the image, at its original size, before the
    largest is taken. For the CRF alone let ``tta_pipeline`` have one scale and no flip.

    Args:
        module: Config of a segmentor; ``tools/test.py --tta`` fills it in.
        crf: Fields of :func:`mmwood.functional.crf.dense_crf` to change from
            DeepLab's; ``dict()`` changes none. None: no CRF.
        **kwargs: As in ``BaseTTAModel``.

    Raises:
        ValueError: ``crf`` has an unknown field or a wrong value, the segmentor has one
            output channel, or an image has another size than its prediction.

    Example:
        >>> tta_model = dict(type='mmwood.SegTTAModel', crf=dict(iterations=10))
    """

    def __init__(self, module: dict, crf: dict | None = None, **kwargs: Any) -> None:
        super().__init__(module, **kwargs)
        self.crf: dict | None = None
        if crf is None:
            return
        if self.module.out_channels == 1:
            raise ValueError(
                "tta_model.crf needs a segmentor with a channel for each class, but "
                "decode_head.out_channels is 1"
            )
        self.crf = {**DEEPLAB_CRF, **crf}
        try:
            # A wrong field shows now, not after the first image.
            image, probs = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 2), 0.5)
            refine_scores(image, probs, method="crf", **self.crf)
        except ValueError as error:
            raise ValueError(f"tta_model.crf: {error}") from error

    def merge_preds(
        self, data_samples_list: list[list[SegDataSample]]
    ) -> list[SegDataSample]:
        """One prediction per image from the predictions of its views."""
        merged = super().merge_preds(data_samples_list)
        if self.crf is not None:
            for sample, views in zip(merged, data_samples_list):
                self._refine(sample, views, self.crf)
        return merged

    @staticmethod
    def _refine(sample: SegDataSample, views: list[SegDataSample], crf: dict) -> None:
        scores = [view.seg_logits.data.float().softmax(dim=0) for view in views]
        probs = torch.stack(scores).mean(dim=0)
        image = mmcv.imread(sample.img_path, channel_order="rgb")
        if image.shape[:2] != probs.shape[1:]:
            raise ValueError(
                f"tta_model.crf: {sample.img_path} has (H, W) = {image.shape[:2]}, its "
                f"prediction has {tuple(probs.shape[1:])}"
            )
        refined = torch.from_numpy(dense_crf(image, probs.cpu().numpy(), **crf))
        label = refined.argmax(dim=0).to(probs.device)
        sample.set_data(dict(pred_sem_seg=PixelData(data=label)))
