"""Maps of images that climb towards their classes, at test time."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import torch
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from mmwood.functional.adv_cam import climbed_activation_maps
from mmwood.models.utils import weights_fixed
from mmwood.registry import MODELS
from mmwood.utils.activations import without_checkpointing

from .cam_classifier import is_mirrored
from .multi_scale_cam import MultiScaleCAM

#: Which classes an image moves away from.
Rivals = Literal["all", "present"]
#: Pixels that climb together where there is no CPU: eight images of 512 x 512.
DEVICE_PIXELS = 2**21


class Example(NamedTuple):
    """One class of one image at one scale.

    Attributes:
        image, scale, class_id: Their numbers.
        inputs: The image and its flip, normalised. Shape: (V, 3, h, w).
    """

    image: int
    scale: int
    class_id: int
    inputs: Tensor


@MODELS.register_module()
class AdvCAM(MultiScaleCAM):
    """AdvCAM (Lee et al., CVPR 2021) around any :class:`mmwood.CAMClassifier`.

    Every scale of an image, together with its flip, moves step by step towards each of
    the image's classes, and the maps of the steps are added up
    (:func:`mmwood.functional.adv_cam.climbed_activation_maps`); scales are then merged
    as by :class:`mmwood.MultiScaleCAM`, whose place it takes in a config. Nothing is
    trained, and files are written and continued as ever.

    Images of one size and their classes climb together. Memory: what the network keeps
    for gradients of ``max_pixels`` pixels, or of one image and its flip if these are
    more.

    Scales below ``short_below`` take half the steps and count double. In the released
    program all scales count double, by a variable that is not set back:
    ``double_all=True``.

    Args:
        module: As in :class:`mmwood.MultiScaleCAM`.
        data_preprocessor: As there.
        steps: See the function; the published value, as the next three.
        step_size: See there.
        drift_weight: The function's ``regularisation_weight``.
        threshold: See there.
        rivals: The function's ``other_classes``, which an image moves away from:
            ``'all'`` others, as in the released program, or ``'present'``, the others
            of its own.
        short_below: Height of a scaled image in units of the original's.
        double_all: See above.
        max_pixels: How many pixels climb together. None: 2^18 on a CPU, 2^21 elsewhere.

    Raises:
        ValueError: ``steps`` to ``rivals`` or ``max_pixels`` has another value, or the
            classifier refines its maps.

    Example:
        >>> tta_model = dict(type='mmwood.AdvCAM')
    """

    def __init__(
        self,
        module: dict | nn.Module,
        data_preprocessor: dict | nn.Module | None = None,
        steps: int = 27,
        step_size: float = 0.08,
        drift_weight: float = 7.0,
        threshold: float = 0.5,
        rivals: Rivals = "all",
        short_below: float = 0.75,
        double_all: bool = False,
        max_pixels: int | None = None,
    ) -> None:
        super().__init__(module, data_preprocessor)
        for name, value, right in (
            ("steps", steps, steps >= 2),
            ("step_size", step_size, step_size > 0),
            ("drift_weight", drift_weight, drift_weight >= 0),
            ("threshold", threshold, 0 <= threshold < 1),
            ("rivals", rivals, rivals in get_args(Rivals)),
            ("max_pixels", max_pixels, max_pixels is None or max_pixels > 0),
        ):
            if not right:
                raise ValueError(f"tta_model.{name} cannot be {value!r}")
        if self.module.test_cfg["refine"] is not None:
            raise ValueError(
                "model.test_cfg.refine has no effect on the maps of mmwood.AdvCAM: set "
                "it to None, or tta_model.type=mmwood.MultiScaleCAM"
            )
        self.steps = steps
        self.rivals = rivals
        self.short_below = short_below
        self.double_all = double_all
        self.max_pixels = max_pixels
        self._fields = dict(
            step_size=step_size,
            regularisation_weight=drift_weight,
            threshold=threshold,
        )

    def test_step(self, data: dict) -> list[DataSample]:
        """Merged predictions of a batch from ``TestTimeAug`` and ``pseudo_collate``."""
        inputs, views = self.views(data)
        results = self.merge_preds(views)
        scales = [_group_scales(own) for own in views]
        together: dict[tuple, list[Example]] = defaultdict(list)
        for number, sample in enumerate(results):
            for scale, members in enumerate(scales[number]):
                own = [views[number][i] for i in members]
                batch = dict(inputs=[inputs[number][i] for i in members])
                batch = self.module.data_preprocessor(batch, False)["inputs"]
                mirrored = tuple(map(is_mirrored, own))
                short = own[0].img_shape[0] < self.short_below * own[0].ori_shape[0]
                for class_id in sample.get("cam_classes", ()):
                    together[batch.shape, mirrored, short].append(
                        Example(number, scale, int(class_id), batch)
                    )
        maps: dict[tuple[int, int, int], Tensor] = {}
        pixels = self.max_pixels or self.module.pixels_together(DEVICE_PIXELS)
        with weights_fixed(self.module), without_checkpointing(self.module):
            for (shape, mirrored, short), examples in together.items():
                size = max(pixels // (shape[0] * shape[2] * shape[3]), 1)
                for start in range(0, len(examples), size):
                    part = examples[start : start + size]
                    found = self._climb(part, results, mirrored, short)
                    maps |= {e[:3]: values for e, values in zip(part, found)}
        return [
            self._merge(views[number], scales[number], sample, maps, number)
            for number, sample in enumerate(results)
        ]

    def _climb(
        self,
        examples: Sequence[Example],
        results: Sequence[DataSample],
        mirrored: Sequence[bool],
        short: bool,
    ) -> Tensor:
        """The maps of some examples, each as often as it counts. Shape: (N, h, w)."""
        weight = self.module.head.weight
        others = None
        if self.rivals == "present":
            others = weight.new_zeros(len(examples), len(weight), dtype=torch.bool)
            for row, example in zip(others, examples):
                row[results[example.image].cam_classes] = True
        maps = climbed_activation_maps(
            torch.stack([example.inputs for example in examples]),
            torch.tensor([e.class_id for e in examples], device=weight.device),
            lambda images: self.module.extract_feat(images)[-1],
            weight,
            mirrored,
            # The released program's number of steps.
            steps=self.steps // 2 if short else self.steps,
            other_classes=others,
            **self._fields,
        )
        return maps * (2 if short or self.double_all else 1)

    def _merge(
        self,
        views: Sequence[DataSample],
        scales: Sequence[Sequence[int]],
        plain: DataSample,
        maps: dict[tuple[int, int, int], Tensor],
        image: int,
    ) -> DataSample:
        """The prediction of one image, from its maps at all scales."""
        classes = plain.get("cam_classes", ())
        if not len(classes):
            return plain
        merged = []
        for scale, members in enumerate(scales):
            view = views[members[0]].new()
            view.set_metainfo(dict(flip=False))
            scores = torch.stack([views[i].pred_score for i in members])
            view.set_pred_score(scores.mean(dim=0))
            activation = torch.zeros_like(views[members[0]].activation)
            for class_id in map(int, classes):
                activation[class_id] = maps[image, scale, class_id]
            view.set_field(activation, "activation", dtype=Tensor)
            merged.append(view)
        return self.module.merge(merged)


def _group_scales(views: Sequence[DataSample]) -> list[list[int]]:
    """The numbers of the views of each scale: an image and its flip."""
    groups: list[list[int]] = []
    seen: set[bool] = set()
    shape = None
    for number, view in enumerate(views):
        mirrored = is_mirrored(view)
        if view.img_shape != shape or mirrored in seen:
            groups.append([])
            seen, shape = set(), view.img_shape
        seen.add(mirrored)
        groups[-1].append(number)
    return groups
