"""Metrics, registered with the prefix ``mmwood.``."""

from .ia_iou_metric import IAIoUMetric
from .named_evaluator import NamedEvaluator
from .seed_metric import SeedMetric

__all__ = ["IAIoUMetric", "NamedEvaluator", "SeedMetric"]
