"""An evaluator whose metrics have names."""

from collections.abc import Mapping, Sequence

from mmengine.evaluator import BaseMetric, Evaluator

from mmwood.registry import EVALUATOR
from mmwood.utils.config import without_names


@EVALUATOR.register_module()
class NamedEvaluator(Evaluator):
    """mmengine's Evaluator with metrics by name instead of in a list.

    So a config, or ``--cfg-options``, changes one field of one metric:
    ``test_evaluator.metrics.seeds.threshold=0.2``.

    Args:
        metrics: Name -> metric or the config of one; None leaves one out. Or a list.

    Raises:
        ValueError: A metric has no type: its name is misspelt.

    Example:
        >>> test_evaluator = dict(type='mmwood.NamedEvaluator', metrics=dict(
        ...     average_precision=dict(type='AveragePrecision'),
        ...     seeds=dict(type='mmwood.SeedMetric', threshold=0.15)))
    """

    def __init__(
        self, metrics: Mapping[str, dict | BaseMetric | None] | Sequence
    ) -> None:
        super().__init__(without_names(metrics, "metrics"))
