"""Metrics, registered with the prefix ``mmwood.``."""

from .false_positive_metric import FalsePositiveMetric
from .ia_iou_metric import IAIoUMetric
from .named_evaluator import NamedEvaluator
from .seed_metric import SeedMetric

__all__ = ["FalsePositiveMetric", "IAIoUMetric", "NamedEvaluator", "SeedMetric"]
