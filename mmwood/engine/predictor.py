"""Label maps of images of any size, whole or strip by strip."""

from collections.abc import Mapping
from copy import deepcopy
from os import PathLike
from typing import Any, NamedTuple

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope
from torch import Tensor

from mmwood.datasets.transforms.loading import reversed_colours
from mmwood.engine.network import Network, load_network
from mmwood.fileio.decoding import shown_channels
from mmwood.fileio.label_folder import PREDICTIONS
from mmwood.functional.crf import DEEPLAB_CRF, dense_crf
from mmwood.functional.tiles import TiledMap, check_tiles, resized_rows
from mmwood.utils.config import type_name

#: Bytes of scores, 4 x classes x pixels, up to which an image is done whole, and those
#: of a strip of a larger one.
WHOLE, STRIP = 2**28, 2**26
#: What loads an image or a mask in pipelines; images are read by mmwood's reader.
_LOADERS = ("LoadImageFromFile", "LoadImage")
_MASKS = ("LoadAnnotations", "LoadSemanticMask")


class Prediction(NamedTuple):
    """What a network says of an image.

    Attributes:
        label: Label of each pixel. Shape: (H, W), uint8; uint16 with more than 255
            classes.
        pixels: How many pixels each label has. Shape: (C,) int64.
        confidence: Mean over a label's pixels of its probability, 0 where it has none.
            Shape: (C,) float64.
    """

    label: np.ndarray
    pixels: np.ndarray
    confidence: np.ndarray


class Predictor:
    """Predict the label map of an image.

    An image that fits into a tile after the resizing of the config's test pipeline is
    done whole: its labels are those of ``tools/test.py`` and of MMSegmentation's
    inferencer, but for rounding. A larger one is done in overlapping tiles
    (:mod:`mmwood.functional.tiles`), and its scores are kept a strip at a time:
    4 x classes x tile x width bytes, in pixels of the resized image, whatever its
    height.

    Args:
        network: The network.
        tile: Longest side of a tile, in pixels of the resized image.
        overlap: What neighbours share at least.
        tta: Whether to take the mean over the views of the config's ``tta_pipeline``.
        crf: Fields of :func:`mmwood.functional.crf.dense_crf` to change from DeepLab's,
            for a dense CRF on the probabilities; ``dict()`` changes none. None: no CRF.

    Raises:
        ValueError: ``tile`` or ``overlap`` cannot be; the config has no
            ``tta_pipeline``; its pipeline loads images in a way of its own.
    """

    def __init__(
        self,
        network: Network,
        tile: int = 1024,
        overlap: int = 256,
        tta: bool = False,
        crf: Mapping[str, Any] | None = None,
    ) -> None:
        check_tiles(tile, overlap, "--")
        self.network = network
        # Convolutions are faster so on CPUs; the scores differ by rounding.
        network.model.to(memory_format=torch.channels_last)
        self.model, self.classes = network.model, network.classes
        self.tile, self.overlap, self.tta = tile, overlap, tta
        self.binary = getattr(self.model, "out_channels", len(self.classes)) == 1
        steps = network.test_pipeline()
        if tta:
            if not network.cfg.get("tta_pipeline"):
                raise ValueError("--tta: the config has no tta_pipeline")
            steps = network.cfg.to_dict()["tta_pipeline"]
        self.crf = None if crf is None else {**DEEPLAB_CRF, **crf}
        init_default_scope(network.cfg.get("default_scope", "mmseg"))
        self.pipeline = Compose(_after_loading(steps))

    def description(self) -> dict[str, Any]:
        """What determines its predictions, for a manifest."""
        options = dict(tile=self.tile, overlap=self.overlap, tta=self.tta, crf=self.crf)
        return dict(format=PREDICTIONS, **self.network.description(), **options)

    @torch.inference_mode()
    def __call__(self, image: np.ndarray, path: str = "") -> Prediction:
        """The prediction of an image.

        Args:
            image: Shape: (H, W, channels) uint8, RGB where there are three.
            path: What the pipeline is told that its file is.

        Raises:
            ValueError: The image is too large for the CRF.
        """
        pixels = np.ascontiguousarray(reversed_colours(image))
        size = image.shape[:2]
        data = dict(img=pixels, img_path=path, img_shape=size, ori_shape=size)
        packed = self.pipeline(data)
        if not isinstance(packed["inputs"], list):
            packed = {key: [value] for key, value in packed.items()}
        views = [*zip(packed["inputs"], packed["data_samples"], strict=True)]
        sides = [side for view, _ in views for side in view.shape[1:]]
        channels = max(len(self.classes), 1)
        bytes_a_row = 4 * channels * size[1]
        whole = max(sides) <= self.tile and bytes_a_row * size[0] <= WHOLE
        if self.crf is not None and not whole:
            most = WHOLE // (4 * channels)
            raise ValueError(
                f"has {size[1]} x {size[0]} pixels, {max(sides)} on its longest side "
                f"in the network: --crf needs the image whole, at most {self.tile} "
                f"there (--tile) and {most:,} pixels"
            )
        counts = _Counts(size, len(self.classes))
        if whole:
            found = [self._predict(view, sample) for view, sample in views]
            scores = [result.seg_logits.data for result in found]
            label = found[0].pred_sem_seg.data[0] if len(found) == 1 else None
            counts.add(0, *self._decide(scores, label, image))
            return counts.prediction()
        maps = [self._tiled(view, sample) for view, sample in views]
        del packed, data, pixels, views
        step = max(1, STRIP // bytes_a_row)
        corners = getattr(self.model, "align_corners", False)
        for top in range(0, size[0], step):
            bottom = min(top + step, size[0])
            scores = [
                resized_rows(source, size, top, bottom, corners) for source in maps
            ]
            counts.add(top, *self._decide(scores))
        return counts.prediction()

    def _predict(self, view: Tensor, sample: Any) -> Any:
        """The model's result: logits at the image's size, or one channel's probability.

        ``seg_logits`` and ``pred_sem_seg``.
        """
        data = dict(inputs=[view], data_samples=[sample])
        (result,) = self.model.test_step(data)
        return result

    def _tiled(self, view: Tensor, sample: Any) -> TiledMap:
        """The scores of a view, not flipped any more, at the size of the view."""
        flip = sample.get("flip_direction") if sample.get("flip") else None
        axes = {None: [], "horizontal": [2], "vertical": [1], "diagonal": [1, 2]}[flip]
        # Without axes it would be a copy.
        upright = view.flip(axes) if axes else view
        kind = type(sample)

        def compute(rows: slice, columns: slice) -> Tensor:
            part = upright[:, rows, columns].flip(axes).contiguous()
            size = tuple(part.shape[1:])
            about = dict(ori_shape=size, img_shape=size, pad_shape=size)
            scores = self._predict(part, kind(metainfo=about)).seg_logits.data
            return scores.flip(axes) if axes else scores

        size = (view.shape[1], view.shape[2])
        return TiledMap(size, compute, self.tile, self.overlap)

    def _decide(
        self,
        views: list[Tensor],
        label: Tensor | None = None,
        image: np.ndarray | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Label and its probability from the scores of all views; both (h, w).

        ``label`` is the model's own, of a single view, and ``image`` is for the CRF.
        """
        if self.binary:
            mean = _mean(views)
            label = (mean > self.model.decode_head.threshold)[0].long()
            probs = torch.cat([1 - mean, mean])
            confidence = probs.gather(0, label[None])[0]
        elif len(views) == 1 and self.crf is None:
            # As MMSegmentation: where two probabilities round to one, logits may not.
            label = views[0].argmax(dim=0) if label is None else label.long()
            # The largest of the softmax, in half of its time.
            largest = views[0].gather(0, label[None])
            confidence = (views[0] - largest).exp_().sum(dim=0).reciprocal_()
        else:
            probs = _mean([scores.softmax(dim=0) for scores in views])
            confidence, label = probs.max(dim=0)
        if self.crf is not None:
            assert image is not None
            refined = dense_crf(
                shown_channels(image), probs.float().cpu().numpy(), **self.crf
            )
            confidence, label = torch.from_numpy(refined).max(dim=0)
        return label, confidence


def load_predictor(
    network: str | PathLike,
    checkpoint: str | PathLike | None = None,
    device: str = "cpu",
    tile: int = 1024,
    overlap: int = 256,
    tta: bool = False,
    crf: bool = False,
) -> Predictor:
    """Load a network to predict with.

    Args:
        network: As in :func:`mmwood.engine.network.load_network`.
        checkpoint: The same.
        device: The same.
        tile: As in :class:`Predictor`.
        overlap: The same.
        tta: The same.
        crf: Whether to use a dense CRF, with the fields of the config's
            ``tta_model.crf``, if it has any.

    Raises:
        FileNotFoundError, ValueError, ImportError: As these.
    """
    loaded = load_network(network, checkpoint, device)
    fields = (loaded.cfg.get("tta_model") or {}).get("crf") or {}
    return Predictor(loaded, tile, overlap, tta, dict(fields) if crf else None)


class _Counts:
    """A label map that is filled from top to bottom, and what it shows."""

    def __init__(self, size: tuple[int, int], classes: int) -> None:
        self.classes = classes
        self.label = np.empty(size, dtype=np.uint8 if classes <= 255 else np.uint16)
        self.pixels = np.zeros(classes, dtype=np.int64)
        self.sums = np.zeros(classes)

    def add(self, top: int, label: Tensor, confidence: Tensor) -> None:
        values = label.cpu().numpy()
        self.label[top : top + len(values)] = values
        flat, length = values.ravel(), self.classes
        weights = confidence.float().cpu().numpy().ravel()
        self.pixels += np.bincount(flat, minlength=length)
        self.sums += np.bincount(flat, weights=weights, minlength=length)

    def prediction(self) -> Prediction:
        mean = self.sums / np.maximum(self.pixels, 1)
        return Prediction(self.label, self.pixels, mean)


def _mean(views: list[Tensor]) -> Tensor:
    """The mean, summed as mmseg's SegTTAModel does."""
    total = torch.zeros_like(views[0])
    for view in views:
        total += view
    return total / len(views)


def _after_loading(steps: list[dict]) -> list[dict]:
    """A pipeline's steps but those that load an image or its mask."""
    kept = []
    for step in deepcopy(steps):
        kind = type_name(step)
        if kind in _LOADERS:
            if step.get("to_float32") or step.get("color_type", "color") != "color":
                raise ValueError(
                    f"test_dataloader.dataset.pipeline: {kind} with to_float32 or "
                    "another color_type is not supported: images are RGB of 8 bits"
                )
        elif kind == "TestTimeAug":
            options = [_after_loading(list(option)) for option in step["transforms"]]
            kept.append(dict(step, transforms=[option for option in options if option]))
        elif kind not in _MASKS:
            kept.append(step)
    return kept
