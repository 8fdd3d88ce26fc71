"""Labels from an average of the segmentation network, while it is trained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import PixelData
from torch import Tensor

from mmwood.fileio.labels import BIASED, VOID, check_labels, read_label_png
from mmwood.functional.complement import Certainty, complement_labels
from mmwood.functional.pamr import pamr
from mmwood.functional.refine import refine_settings
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least, one_of
from mmwood.utils.config import leaf_datasets

from .average_hook import AverageHook


@HOOKS.register_module()
class TeacherLabelHook(AverageHook):
    r"""Let a teacher label the biased pixels of training masks (MARS, ICCV 2023).

    A label filter writes 254 where it takes a label for that of a biased object, as
    rails in a mask of `train`. They are neither background nor void: some belong to the
    object. The teacher, an exponential moving average of the network that is trained,
    says which. In each training step it sees the images of the batch that have such
    pixels, and they take its label with the probability of its certainty, else 255:
    :func:`mmwood.functional.complement.complement_labels`. The expected sum of any loss
    over the pixels is the one of MARS, whose factor is that certainty. A loss that is
    averaged over the pixels that are not ignored divides by those that were drawn.

    For the segmentors of MMSegmentation whose decode heads give logits, and any loss of
    labels; auxiliary heads learn from the same labels. The log has
    ``teacher_given_back`` and ``teacher_left_out``: the fractions of a batch's biased
    pixels that became an object's and 255; the rest became background.

    **The teacher** averages after each step of the optimizer; an accumulated step
    counts once. The weight of the newest network is the larger of ``momentum`` and
    1/n after n steps, so that the first thousand steps are not the memory of a random
    head. Buffers (the statistics of batch norm) are averaged like weights, as they
    belong to them; integers stay. It runs in evaluation mode, without gradient, under
    the training's autocast, on training crops. Neither its batch norm nor
    its random numbers touch the network's.

    **Tags.** Segmentation data sets have no tags, and a crop does not show all of an
    image. So they are read from label maps of whole images: those of ``tag_dir``, the
    maps before filtering, or else the data set's own, which lack a class that the
    filter took wholly. Where a map shows no class, or a data set names none, all
    classes count.

    **Beside other hooks.** mmengine's EMAHook averages the weights that are tested,
    and neither average knows of the other. Checkpoints hold the teacher, one more copy
    of the weights, so that a training is resumed to the byte; random numbers are drawn
    anew from the run's seed, the process and the iteration. Each process has a teacher,
    of equal weights; where the statistics of batch norm are not synchronised, it has
    its own, and resumes with the first one's, as the network does.

    Without this hook the pixels that ``tools/filter_labels.py`` removed are left out
    (:class:`mmwood.IgnoreBiasedHook`).

    Args:
        certainty: 'foreground' (published): the largest probability of the image's
            tags; 'argmax': the probability of the label; 'none': 1.
        refine: What refines the teacher's probabilities first:
            ``dict(method='pamr')`` with the options of
            :func:`mmwood.functional.pamr.pamr`, or None. MARS uses a dense CRF, which
            takes too long for every step.
        momentum: Of the average, as in mmengine: the weight of the newest network.
            MARS does not say; 0.001 is that of DHR, its authors' next program.
        begin_iter: In the iterations before this one biased pixels are 255.
        values: The labels that the teacher replaces; no class may have them. Not 255,
            which padding has too.
        tag_dir: A folder of label maps, in the data set's file names; for 'foreground'.

    Raises:
        FileNotFoundError: There is no ``tag_dir``, or it lacks a label map.
        ValueError: A field has another value; the model is no segmentor whose decode
            head gives logits of several channels; a class has one of ``values``; the
            data set shifts or selects labels; the checkpoint that is resumed has no
            teacher.

    Example:
        >>> custom_hooks = [dict(
        ...     type='mmwood.TeacherLabelHook', refine=dict(method='pamr'),
        ...     tag_dir='work_dirs/irn/pseudo_labels/labels')]
    """

    def __init__(
        self,
        certainty: Certainty = "foreground",
        refine: Mapping | None = None,
        momentum: float = 0.001,
        begin_iter: int = 0,
        values: Sequence[int] = (BIASED,),
        tag_dir: str | None = None,
    ) -> None:
        super().__init__(momentum)
        owner = f"{self._owner}: "
        one_of(f"{owner}certainty", certainty, get_args(Certainty))
        settings = refine_settings(refine)
        one_of(f"{owner}refine.method", settings.pop("method"), ("pamr", None))
        at_least(f"{owner}begin_iter", begin_iter, 0, integer=True)
        if isinstance(values, int) or not values:
            raise ValueError(f"{owner}values must be a list of labels, got {values!r}")
        for value in values:
            at_least(f"{owner}values", value, 1, below=VOID, integer=True)
        if tag_dir is not None and certainty != "foreground":
            raise ValueError(f"{owner}certainty {certainty!r} has no use for a tag_dir")
        self.certainty = certainty
        self.pamr = settings
        self.begin_iter = begin_iter
        self.values = tuple(values)
        self.tag_dir = tag_dir
        self._tags: dict[str, set[int]] = {}
        self._folders: list[str] = []
        self._seed = self._iter = 0
        self._runner: Runner | None = None

    def before_train(self, runner: Runner) -> None:
        """Refuse what does not fit, and make the teacher or take the resumed one."""
        self._check_data(runner)
        self._runner, self._seed, self._iter = runner, runner.seed or 0, runner.iter
        super().before_train(runner)

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Know the iteration, which random numbers depend on."""
        self._iter = runner.iter

    def _check_model(self, model: BaseModel) -> None:
        if not _gives_logits(model):
            raise ValueError(
                "mmwood.TeacherLabelHook needs an EncoderDecoder of MMSegmentation "
                "whose decode head gives logits, which "
                f"{type(model).__name__} with {type(_last_head(model)).__name__} is not"
            )
        if model.out_channels == 1:
            raise ValueError(
                "mmwood.TeacherLabelHook needs a channel for each class: take "
                "out_channels=1 out of model.decode_head"
            )
        if min(self.values) < model.num_classes:
            raise ValueError(
                f"mmwood.TeacherLabelHook: values has {min(self.values)}, which is a "
                f"class: model.decode_head.num_classes is {model.num_classes}"
            )

    def _check_data(self, runner: Runner) -> None:
        leaves = [*leaf_datasets(runner.train_dataloader.dataset)]
        if any(getattr(leaf, "reduce_zero_label", False) for leaf in leaves):
            raise ValueError(
                "mmwood.TeacherLabelHook: label 0 must be background, which "
                "reduce_zero_label of train_dataloader.dataset makes void"
            )
        if self.certainty != "foreground":
            return
        if any(getattr(leaf, "label_map", None) for leaf in leaves):
            raise ValueError(
                "mmwood.TeacherLabelHook: certainty 'foreground' reads tags from label "
                "maps, but metainfo.classes of train_dataloader.dataset selects some "
                "of their classes: set certainty='argmax', or write maps of these"
            )
        if self.tag_dir is not None and not Path(self.tag_dir).is_dir():
            raise FileNotFoundError(
                f"mmwood.TeacherLabelHook: tag_dir: there is no folder {self.tag_dir}"
            )
        prefixes = (getattr(leaf, "data_prefix", None) or {} for leaf in leaves)
        self._folders = [p["seg_map_path"] for p in prefixes if p.get("seg_map_path")]

    def _changed(self, inputs: Tensor, samples: list) -> list | None:
        labels = torch.cat([sample.gt_sem_seg.data for sample in samples])
        biased = torch.isin(labels, labels.new_tensor(self.values))
        numbers = biased.flatten(1).any(dim=1).nonzero().flatten()
        if not len(numbers):
            return None
        chosen = [samples[number] for number in numbers.tolist()]
        labels, biased = labels[numbers], biased[numbers]
        filled = labels.masked_fill(biased, VOID)
        if self._iter >= self.begin_iter:
            filled = self._complement(inputs[numbers], chosen, labels, biased)
        for number, sample, label in zip(numbers.tolist(), chosen, filled):
            samples[number] = sample.new()
            samples[number].gt_sem_seg = PixelData(data=label[None])
        self._log(filled[biased])
        return samples

    def _complement(
        self, inputs: Tensor, samples: list, labels: Tensor, biased: Tensor
    ) -> Tensor:
        probabilities = self._probabilities(inputs)
        tags = None
        if self.certainty == "foreground":
            tags = self._image_tags(samples, probabilities.shape[1]).to(labels.device)
        # Of its own for each process and iteration, which a checkpoint need not hold.
        entropy = np.random.SeedSequence([self._seed, get_rank(), self._iter])
        generator = torch.Generator(labels.device)
        generator.manual_seed(int(entropy.generate_state(1)[0]))
        draws = torch.rand(labels.shape, generator=generator, device=labels.device)
        return complement_labels(
            labels, biased, probabilities, draws, tags, self.certainty, VOID
        )

    def _probabilities(self, inputs: Tensor) -> Tensor:
        """The teacher's, refined. Shape: (B, 3, H, W) to (B, C, H, W)."""
        size = tuple(inputs.shape[2:])
        meta = dict(
            ori_shape=size, img_shape=size, pad_shape=size, padding_size=[0, 0, 0, 0]
        )
        logits = self._teacher.module.encode_decode(inputs, [meta] * len(inputs))
        probabilities = logits.float().softmax(dim=1)
        if self.pamr:
            # PAMR knows no unit: the normalisation of the images does not matter. One
            # by one, for the weights of all neighbours are held in memory.
            for number, image in enumerate(inputs.float()):
                own = slice(number, number + 1)
                probabilities[own] = pamr(image[None], probabilities[own], **self.pamr)
        return probabilities

    def _image_tags(self, samples: list, classes: int) -> Tensor:
        """Which classes the whole images show. Shape: (B, C)."""
        tags = torch.zeros(len(samples), classes, dtype=torch.bool)
        for own, sample in zip(tags, samples):
            path = sample.get("seg_map_path")
            if path is None:
                continue
            if path not in self._tags:
                label = read_label_png(self._tag_file(path))
                label[np.isin(label, self.values)] = VOID
                self._tags[path] = check_labels(label, path, classes - 1, VOID)
            own[list(self._tags[path])] = True
        return tags

    def _tag_file(self, path: str) -> Path:
        if self.tag_dir is None:
            return Path(path)
        folder = next(f for f in self._folders if Path(path).is_relative_to(f))
        return Path(self.tag_dir, Path(path).relative_to(folder))

    def _log(self, filled: Tensor) -> None:
        """Log what became of a batch's biased pixels. Shape: (n,)."""
        if self._runner is None:
            return
        left_out = filled == VOID
        given_back = (filled > 0) & ~left_out
        for name, which in (("given_back", given_back), ("left_out", left_out)):
            self._runner.message_hub.update_scalar(
                f"train/teacher_{name}", which.float().mean().item()
            )


def _last_head(model: BaseModel) -> Any:
    """The head that predicts: of a cascade the last."""
    head = getattr(model, "decode_head", None)
    return head[-1] if isinstance(head, torch.nn.ModuleList) else head


def _gives_logits(model: BaseModel) -> bool:
    """Heads that classify masks give sums of products of probabilities."""
    if not hasattr(model, "encode_decode"):
        return False
    # Here: classification does without MMSegmentation.
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.segmentors import EncoderDecoder

    head = _last_head(model)
    return isinstance(model, EncoderDecoder) and isinstance(head, BaseDecodeHead)
