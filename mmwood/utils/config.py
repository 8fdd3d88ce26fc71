"""What a config names."""

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config

__all__ = [
    "leaf_dataset",
    "leaf_datasets",
    "metric_configs",
    "replace_fields",
    "type_name",
]


def type_name(config: Any) -> str:
    """The name of a config's type without scope and module.

    Args:
        config: With a ``type`` that is a name ('mmwood.CAMHead'), a dotted path or, as
            in Python-style configs, a class or function. Of something that is built
            already it is the name of its class.

    Returns:
        The name; '' where there is no type.

    Example:
        >>> type_name(dict(type='mmwood.CAMHead'))
        'CAMHead'
    """
    if config is None:
        return ""
    if not isinstance(config, dict):
        return type(config).__name__
    kind = config.get("type") or ""
    # Lazy imports that are not resolved yet are written as their path.
    return str(getattr(kind, "__name__", kind)).rpartition(".")[2]


def leaf_datasets(dataset: Any) -> Iterator[Any]:
    """The data sets, or the configs of them, that wrappers hold.

    Args:
        dataset: A data set, or a wrapper with ``dataset`` or ``datasets``
            (``RepeatDataset``, ``ConcatDataset``, ...); built, or the config of one.

    Yields:
        Parts of ``dataset`` itself, so that they can be changed in place.

    Example:
        >>> voc = dict(type='PascalVOCDataset')
        >>> [*leaf_datasets(dict(type='ConcatDataset', datasets=[voc, voc]))]
        [{'type': 'PascalVOCDataset'}, {'type': 'PascalVOCDataset'}]
    """
    parts, part = (
        dataset.get(name) if isinstance(dataset, dict) else getattr(dataset, name, None)
        for name in ("datasets", "dataset")
    )
    if parts is None and part is None:
        yield dataset
        return
    for held in [part] if parts is None else parts:
        yield from leaf_datasets(held)


def leaf_dataset(config: Any) -> dict:
    """The config of the data set that wrappers hold; the first of several.

    Args:
        config: Of a data set, or of a wrapper with ``dataset`` or ``datasets``.

    Returns:
        The part of ``config`` itself, so that it can be changed in place; an empty
        dict where there is none, or a data set that is built already.

    Example:
        >>> voc = dict(type='PascalVOCDataset')
        >>> leaf_dataset(dict(type='RepeatDataset', times=2, dataset=voc)) is voc
        True
    """
    if not isinstance(config, dict):
        return {}
    first: Any = next(leaf_datasets(config), {})
    return first if isinstance(first, dict) else {}


def metric_configs(evaluator: Any) -> list[Any]:
    """The configs of an evaluator's metrics.

    Args:
        evaluator: A config's ``val_evaluator`` or ``test_evaluator``: one metric, a
            list, or an evaluator whose ``metrics`` are a list or have names.

    Returns:
        Parts of ``evaluator`` itself, so that they can be changed in place.

    Example:
        >>> seeds = dict(type='mmwood.SeedMetric')
        >>> evaluator = dict(type='mmwood.NamedEvaluator', metrics=dict(seeds=seeds))
        >>> metric_configs(evaluator) == metric_configs([seeds]) == [seeds]
        True
    """
    metrics = evaluator or []
    if isinstance(metrics, dict) and "metrics" in metrics:
        metrics = metrics["metrics"]
        if isinstance(metrics, dict) and "type" not in metrics:
            metrics = [*metrics.values()]
    metrics = metrics if isinstance(metrics, (list, tuple)) else [metrics]
    return [metric for metric in metrics if metric is not None]


def replace_fields(pipeline: list, transforms: Mapping[str, Mapping] | None) -> list:
    """A pipeline in which some transforms have other fields.

    Args:
        pipeline: Configs of transforms.
        transforms: Type of a transform, without scope -> its fields to replace, merged
            as configs are.

    Raises:
        ValueError: The pipeline has no transform of such a type, or several.

    Example:
        >>> replace_fields([dict(type='mmseg.RandomCrop', crop_size=512)],
        ...                dict(RandomCrop=dict(crop_size=256)))
        [{'type': 'mmseg.RandomCrop', 'crop_size': 256}]
    """
    replaced = list(pipeline)
    for name, fields in (transforms or {}).items():
        found = [n for n, step in enumerate(pipeline) if type_name(step) == name]
        if len(found) != 1:
            raise ValueError(
                f"transforms.{name}: the pipeline has {len(found)} transforms of this "
                f"type; it has {', '.join(map(type_name, pipeline)) or 'none'}"
            )
        cfg = Config(dict(step=pipeline[found[0]]))
        cfg.merge_from_dict(dict(step=fields))
        replaced[found[0]] = cfg.step
    return replaced
