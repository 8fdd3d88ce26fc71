"""An evaluator whose metrics have names."""

from collections.abc import Mapping

from mmengine.evaluator import BaseMetric, Evaluator

from mmwood.registry import EVALUATOR

__all__ = ["NamedEvaluator"]


@EVALUATOR.register_module()
class NamedEvaluator(Evaluator):
    """mmengine's Evaluator with metrics by name instead of in a list.

    So a config, or ``--cfg-options``, changes one field of one metric:
    ``test_evaluator.metrics.seeds.threshold=0.2``.

    Args:
        metrics: Name -> metric or the config of one; None leaves one out.

    Example:
        >>> test_evaluator = dict(type='mmwood.NamedEvaluator', metrics=dict(
        ...     average_precision=dict(type='AveragePrecision'),
        ...     seeds=dict(type='mmwood.SeedMetric', threshold=0.15)))
    """

    def __init__(self, metrics: Mapping[str, dict | BaseMetric | None]) -> None:
        super().__init__([m for m in metrics.values() if m is not None])
