"""Training labels of pixel affinities from cached class activation maps."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform

from mmwood.datasets.transforms.loading import loaded_rgb
from mmwood.fileio.label_folder import (
    AFFINITY_LABELS,
    MAPS,
    LabelFolder,
    MapKind,
    load_score_maps,
)
from mmwood.fileio.labels import read_label_png
from mmwood.functional.cam import strided_size
from mmwood.functional.refine import (
    affinity_label,
    power_affinity_label,
    refine_settings,
)
from mmwood.registry import TRANSFORMS
from mmwood.utils.check import one_of

TOOL = "tools/make_affinity_labels.py"
CRF = dict(method="crf")


@TRANSFORMS.register_module()
class AffinityLabel(BaseTransform):
    """Make the label that IRN is trained with from the image's score maps.

    A pixel where a map exceeds ``foreground`` has that class, one where none exceeds
    ``background`` is background, and all others are 255; both label maps are refined
    first (see :func:`mmwood.functional.refine.affinity_label`). With ``powers`` the
    background has a score of its own instead, as in PSA and SEAM
    (:func:`mmwood.functional.refine.power_affinity_label`). The score maps are those
    that :class:`mmwood.PseudoLabelHook` kept; the data set names them (``score_dir``).

    Refining takes a tenth of a second to seconds an image: with a ``folder`` the labels
    are read that tools/make_affinity_labels.py made once of the same config.

    It stands right after the image is loaded: whatever resizes, flips or crops comes
    later and takes the label along.

    Args:
        foreground: The higher threshold. IRN: 0.30.
        background: The lower one. IRN: 0.05; W-OoD's program: 0.15.
        refine: ``method`` ('crf', 'pamr' or None) and options of
            :func:`mmwood.functional.crf.dense_crf` or ``pamr``. None refines
            nothing.
        maps: Which score maps: 'full', at the image's size, or 'strided', which are
            resized by 4 (bilinear, ``align_corners=False``) and cropped.
        folder: Folder of labels that were made before, or None.
        powers: The two strengths of the background, which take the place of the
            thresholds, or None. SEAM: (4, 24).

    Raises:
        FileNotFoundError: ``folder`` holds no manifest, or lacks the image's label; or
            the score maps are missing.
        ValueError: A threshold, ``refine``, ``maps`` or ``powers`` has no such value;
            the labels of ``folder`` were made with other settings, or not to the end;
            the image has no score maps, or maps or a label of another size, or was
            flipped before; a file is damaged; a class is above 253.

    Required keys:
        - img: (H, W, channels) uint8, as ``mmwood.LoadImage`` gives it; img_path;
          img_id; score_path (without ``folder``)

    Added key:
        - gt_seg_map: (H, W) uint8: 0 is background, c + 1 is class c, 255 is unknown

    Example:
        >>> dict(type='mmwood.AffinityLabel', foreground=0.30, background=0.05,
        ...      refine=dict(method='crf'), folder='work_dirs/irn/affinity_labels')
    """

    def __init__(
        self,
        foreground: float = 0.30,
        background: float = 0.05,
        refine: Mapping | None = CRF,
        maps: MapKind = "full",
        folder: str | None = None,
        powers: Sequence[float] | None = None,
    ) -> None:
        one_of("mmwood.AffinityLabel: maps", maps, MAPS)
        self.foreground = foreground
        self.background = background
        self.refine = refine_settings(refine)
        self.maps = maps
        self.folder = folder
        if powers is not None and len(powers) != 2:
            raise ValueError(f"mmwood.AffinityLabel: powers must be two, got {powers}")
        self.powers = powers
        # On a tiny image: a wrong value must not wait for the workers.
        self._label(
            np.zeros((2, 2, 3), dtype=np.uint8),
            np.ones((1, 2, 2)),
            [0],
            self.refine,
        )
        if folder is not None:
            labels = LabelFolder(folder, "mmwood.AffinityLabel: folder")
            description = dict(format=AFFINITY_LABELS, settings=self.settings)
            labels.require(description, f"{TOOL} with this config", "--overwrite")

    @property
    def settings(self) -> dict:
        """What determines the labels, as JSON gives it back."""
        fields = ["foreground", "background", "refine", "maps"]
        if self.powers is not None:
            fields[:2] = ["powers"]
        return json.loads(json.dumps({name: getattr(self, name) for name in fields}))

    def transform(self, results: dict) -> dict:
        """Add ``gt_seg_map``, and its name to ``seg_fields``."""
        if results.get("flip"):
            raise ValueError(
                "mmwood.AffinityLabel must stand before the transforms that flip: "
                f"{results['img_path']} was flipped, its score maps are not"
            )
        if self.folder is None:
            results["gt_seg_map"] = self._make(results)
        else:
            results["gt_seg_map"] = self._read(self.folder, results)
        fields = results.setdefault("seg_fields", [])
        if "gt_seg_map" not in fields:
            fields.append("gt_seg_map")
        return results

    def _make(self, results: dict) -> np.ndarray:
        path = results.get("score_path")
        if path is None:
            raise ValueError(
                f"mmwood.AffinityLabel: {results['img_path']} has no score maps: set "
                "score_dir in the data set"
            )
        scores = load_score_maps(path, needs=(self.maps,))
        maps = torch.from_numpy(getattr(scores, self.maps)).float()
        height, width = size = results["img"].shape[:2]
        expected = size if self.maps == "full" else strided_size(size)
        if tuple(maps.shape[1:]) != expected:
            raise ValueError(
                f"{path} holds {self.maps!r} maps of (H, W) = {tuple(maps.shape[1:])} "
                f"instead of {expected}: its image {results['img_path']} has {size}"
            )
        if self.maps == "strided":
            # Classes go into the batch dimension, which may be empty.
            maps = F.interpolate(
                maps[:, None], scale_factor=4, mode="bilinear", align_corners=False
            )[:, 0, :height, :width]
        try:
            return self._label(
                loaded_rgb(results["img"]),
                maps.numpy(),
                scores.classes,
                self.refine,
            )
        except ValueError as error:
            raise ValueError(f"{results['img_path']}, {path}: {error}") from error

    def _label(
        self,
        image: np.ndarray,
        maps: np.ndarray,
        classes: Sequence[int] | np.ndarray,
        refine: Mapping | None,
    ) -> np.ndarray:
        if self.powers is not None:
            low, high = self.powers
            return power_affinity_label(image, maps, classes, low, high, refine)
        return affinity_label(
            image, maps, classes, self.foreground, self.background, refine
        )

    def _read(self, folder: str, results: dict) -> np.ndarray:
        path = LabelFolder(folder).label(results["img_id"])
        try:
            label = read_label_png(path, "affinity label")
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(
                f"{error}: make it with {TOOL}, which keeps all others"
            ) from error
        size = results["img"].shape[:2]
        if label.shape != size:
            raise ValueError(
                f"{path} has (H, W) = {label.shape}, its image {results['img_path']} "
                f"has {size}: load the image at its own size, or make the labels anew "
                f"with {TOOL} --overwrite"
            )
        return label

    def __repr__(self) -> str:
        fields = ", ".join(f"{key}={value!r}" for key, value in self.settings.items())
        return f"{type(self).__name__}({fields}, folder={self.folder!r})"
