"""What a model's predictions say of each class, a score for an image.

Any model mines whose data samples hold one of

============================== ======================== ===============================
``pred_score``                 a classifier             the score itself
``pred_instances``             a detector               that of the surest box
``seg_logits, pred_sem_seg``   a segmentation network   see :data:`ScoreRule`
============================== ======================== ===============================
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from mmwood.utils.check import one_of

#: Score of a class in an image of a segmentation network: its largest probability of a
#: pixel, or the fraction of the image that it takes.
ScoreRule = Literal["peak", "area"]
_OPTIONS = "--score and --background are for segmentation networks"


class ClassScores:
    """Scores of classes from the data samples of a classifier or a detector.

    Args:
        names: The classes that the model knows.
        model: The model, to name it in messages.

    Attributes:
        names: The classes that have a score.
        rule: How results were scored, for their record.
    """

    def __init__(self, names: Sequence[str], model: nn.Module) -> None:
        self.names = list(names)
        self.rule: dict[str, Any] = {}
        self._model = type(model).__name__

    def __call__(self, sample: Any) -> Tensor:
        """The score of each of ``names``.

        Raises:
            ValueError: The sample holds none of what scores are taken from, or other
                classes.

        Shape:
            - output: (C,), double precision, on the CPU
        """
        if "pred_score" in sample:
            # Double precision: 0.7 as float32 lies below 0.7.
            scores = sample.pred_score.cpu().double()
        elif "pred_instances" in sample:
            found = sample.pred_instances
            scores = surest(found.scores, found.labels, len(self.names))
        else:
            raise self._lacking()
        if scores.shape != (len(self.names),):
            raise ValueError(
                f"the model's scores have the shape {tuple(scores.shape)}, but "
                f"{len(self.names)} class names are known, from the config's data set "
                f"or the checkpoint: {tuple(self.names)}"
            )
        return scores

    def _lacking(self) -> ValueError:
        return ValueError(
            "mining needs a classifier's pred_score, a detector's pred_instances or a "
            "segmentation network's seg_logits, and the predictions of "
            f"{self._model} have none of them"
        )


def surest(scores: Tensor, labels: Tensor, classes: int) -> Tensor:
    """The largest score of a box of each class; 0 where there is none.

    Raises:
        ValueError: A label is none of the classes'.

    Shape:
        - scores, labels: (n,); output: (classes,), double precision
    """
    scores, labels = scores.cpu().double(), labels.cpu().long()
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < classes:
        raise ValueError(
            f"the detector's labels are {int(labels.min())} to {int(labels.max())}, "
            f"but {classes} class names are known, from the config's data set or the "
            "checkpoint"
        )
    found = torch.zeros(classes, dtype=torch.double)
    return found.scatter_reduce(0, labels, scores, "amax")


class PixelScores(ClassScores):
    """Scores of classes from the data samples of a segmentation network.

    Args:
        names: The classes that the network knows, or of a network with one channel the
            one beside the background.
        model: Of MMSegmentation's interface, with ``decode_head``.
        rule: See :data:`ScoreRule`.
        background: The class that is no object. None: the one of that name, if there
            is one, and the first of a network with one channel.

    Raises:
        ValueError: ``rule`` is none, or 'peak' where the head's maps are no logits;
            there is no such ``background``.
    """

    def __init__(
        self,
        names: Sequence[str],
        model: nn.Module,
        rule: ScoreRule = "peak",
        background: str | None = None,
    ) -> None:
        super().__init__(names, model)
        one_of("--score", rule, ("peak", "area"))
        self._area = rule == "area"
        head: Any = model.decode_head
        # Of a cascade the last one predicts.
        head = head[-1] if isinstance(head, nn.ModuleList) else head
        self._single = getattr(head, "out_channels", None) == 1
        self._sigmoid = not self._area and _is_sigmoid(head)
        self._all = len(names)
        if background is not None:
            one_of("--background", background, names)
        else:
            known = [name for name in names if name.casefold() == "background"]
            known += [names[0]] if self._single and self._all == 2 else []
            background = known[0] if known else None
        self._objects = [c for c in range(self._all) if names[c] != background]
        self.names = [names[c] for c in self._objects]
        if not self.names:
            raise ValueError(f"the network knows no class but {background!r}")
        self.rule = dict(score=rule, background=background)

    def __call__(self, sample: Any) -> Tensor:
        """The score of each of ``names``; arguments as :class:`ClassScores`."""
        if "seg_logits" not in sample or "pred_sem_seg" not in sample:
            raise self._lacking()
        maps = sample.seg_logits.data.float()
        expected = (1,) if self._single else (self._all,)
        if maps.shape[:1] != expected or (self._single and self._all > 2):
            raise ValueError(
                f"the network predicts {len(maps)} channels, but {self._all} class "
                "names are known, from the config's data set or the checkpoint"
            )
        if self._area:
            # Of one channel, 1 is the object, whatever the number of names.
            labels = sample.pred_sem_seg.data.flatten().long()
            counts = torch.bincount(labels, minlength=max(2, self._all))
            scores = counts.double() / len(labels)
        elif self._single:
            # MMSegmentation has put it through the sigmoid.
            scores = torch.stack([1 - maps.amin(), maps.amax()]).double()
        else:
            p = maps.sigmoid() if self._sigmoid else maps.softmax(dim=0)
            scores = p.flatten(1).amax(dim=1).double()
        places = [1] if self._single and self._all == 1 else self._objects
        return scores[places].cpu()


def _is_sigmoid(head: Any) -> bool:
    """Whether a head's maps are trained for sigmoids, or else for a softmax."""
    losses = getattr(head, "loss_decode", None)
    losses = losses if isinstance(losses, nn.ModuleList) else [losses]
    # Of Dice's it says only how the loss itself makes probabilities.
    kinds = {
        bool(getattr(loss, "use_sigmoid", False))
        for loss in losses
        if loss is not None and "Dice" not in type(loss).__name__
    }
    if len(kinds) != 1:
        raise ValueError(
            f"--score peak: the maps of a {type(head).__name__} are no logits of "
            "classes: use --score area"
        )
    return kinds.pop()


def class_scores(
    model: nn.Module,
    names: Sequence[str],
    rule: ScoreRule | None = None,
    background: str | None = None,
) -> ClassScores:
    """What takes scores of classes from a model's data samples.

    Args:
        model: The model, without distributed wrappers.
        names: The classes that it knows.
        rule: See :data:`ScoreRule`; None is 'peak' of a segmentation network.
        background: See :class:`PixelScores`.

    Raises:
        ValueError: ``rule`` or ``background`` are given, and it is no segmentation
            network; see also :class:`PixelScores`.
    """
    if hasattr(model, "decode_head"):
        return PixelScores(names, model, rule or "peak", background)
    if rule is not None or background is not None:
        raise ValueError(f"{_OPTIONS}, and the model is a {type(model).__name__}")
    return ClassScores(names, model)
