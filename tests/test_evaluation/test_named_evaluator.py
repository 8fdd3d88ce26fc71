"""Metrics by name, in a Runner's own way of building evaluators."""

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from mmwood.engine.runner import build_runner
from mmwood.evaluation import IAIoUMetric, SeedMetric


def test_metrics_by_name():
    cfg = Config(
        dict(
            test_evaluator=dict(
                type="mmwood.NamedEvaluator",
                metrics=dict(
                    seeds=dict(type="mmwood.SeedMetric", threshold=0.15),
                    instances=dict(type="mmwood.IAIoUMetric"),
                ),
            )
        )
    )
    # As --cfg-options does it.
    cfg.merge_from_dict({"test_evaluator.metrics.seeds.threshold": 0.2})
    evaluator = Runner.build_evaluator(None, cfg.test_evaluator)
    assert [type(metric) for metric in evaluator.metrics] == [SeedMetric, IAIoUMetric]
    assert evaluator.metrics[0].threshold == 0.2
    cfg.merge_from_dict({"test_evaluator.metrics.instances": None})
    (seeds,) = Runner.build_evaluator(None, cfg.test_evaluator).metrics
    assert isinstance(seeds, SeedMetric)


@pytest.mark.parametrize(
    "metrics",
    [
        [dict(type="mmwood.SeedMetric")],
        dict(type="mmwood.SeedMetric"),
        dict(seeds=SeedMetric()),
    ],
    ids=["list", "one", "built"],
)
def test_metrics_without_names(metrics):
    evaluator = dict(type="mmwood.NamedEvaluator", metrics=metrics)
    (seeds,) = Runner.build_evaluator(None, evaluator).metrics
    assert isinstance(seeds, SeedMetric)


def test_a_stock_metric_merged_into_ours_is_refused(small_config, tmp_path):
    cfg = Config.fromfile(small_config)
    cfg.merge_from_dict(dict(test_evaluator=dict(type="IoUMetric"), launcher="none"))
    cfg.work_dir = str(tmp_path)
    message = r"test_evaluator: IoUMetric is no evaluator, .*dict\(_delete_=True, type="
    with pytest.raises(ValueError, match=message):
        build_runner(cfg)


def test_an_index_is_refused():
    evaluator = dict(type="mmwood.NamedEvaluator", metrics=dict())
    cfg = Config(dict(test_evaluator=evaluator))
    cfg.merge_from_dict({"test_evaluator.0.threshold": 0.2})
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        Runner.build_evaluator(None, cfg.test_evaluator)
