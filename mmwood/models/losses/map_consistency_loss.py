"""Consistency with a teacher's maps as a feature loss.

Peng et al., USAGE: A Unified Seed Area Generation Paradigm for Weakly Supervised
Semantic Segmentation, ICCV 2023.
"""

from torch import Tensor, nn

from mmwood.functional.map_consistency import map_divergence
from mmwood.registry import MODELS

#: How messages begin.
_FIELD = "mmwood.MapConsistencyLoss: "


@MODELS.register_module()
class MapConsistencyLoss(nn.Module):
    """Draw the maps of an image's classes to those of a teacher.

    For ``feature_losses`` of :class:`mmwood.CAMHead` and of :class:`mmwood.WOoDHead`,
    together with :class:`mmwood.TeacherMapHook`. The loss, ``loss_consistency``, is
    :func:`mmwood.functional.map_consistency.map_divergence`. OoD images have no class,
    and so no part in it.

    USAGE was never released: the divergence and its weight are ours.

    Args:
        weight: Of the loss.
        temperature: τ of the maps' softmax; that of ``pooling='softmax'``, where that
            pools.

    Raises:
        ValueError: A field is out of its range; in training: there is no teacher.

    Shape:
        - features: (B, D, h, w); maps, scores, teacher_scores: (B, C, h, w); labels:
          (B, C); is_ood: (B,), bool
    """

    #: What the head gives it beside features, maps, labels and is_ood.
    takes = ("scores", "teacher_scores")

    def __init__(self, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__()
        if not weight > 0:
            raise ValueError(f"{_FIELD}weight must be positive, but is {weight!r}")
        if not abs(temperature) > 0:
            raise ValueError(f"{_FIELD}temperature must not be 0: {temperature!r}")
        self.weight = weight
        self.temperature = temperature

    def forward(
        self,
        features: Tensor,
        maps: Tensor,
        labels: Tensor,
        is_ood: Tensor,
        scores: Tensor,
        teacher_scores: Tensor,
    ) -> dict[str, Tensor]:
        """The loss by name."""
        # Logarithms of small probabilities: not in half precision.
        found = map_divergence(
            scores.float(), teacher_scores.float(), labels, self.temperature
        )
        return dict(loss_consistency=self.weight * found)
