"""What a config names."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any


def type_name(config: Any) -> str:
    """The name of a config's type without scope and module, or ''.

    Args:
        config: With a ``type`` that is a name ('mmwood.CAMHead'), a dotted path or, as
            in Python-style configs, a class or function. Of something that is built
            already it is the name of its class.

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
    return without_names(metrics, "metrics")


def without_names(items: Sequence | Mapping[str, Any] | Any, field: str) -> list:
    """What a config lists, which it may write as a dictionary of names.

    Configs replace a list as a whole, but merge dictionaries: so that a config, or
    ``--cfg-options``, changes one field of one item by its name.

    Args:
        items: A list, or name -> item, in order, or a single item. An item that is None
            is left out.
        field: The config's field, for the error's message.

    Raises:
        ValueError: A named item has no type: its name is misspelt.

    Example:
        >>> without_names(dict(load=dict(type='LoadImage'), flip=None), 'pipeline')
        [{'type': 'LoadImage'}]
    """
    if isinstance(items, Mapping) and not isinstance(items.get("type"), (str, type)):
        there = [n for n, item in items.items() if not _lacks_type(item)]
        for name, item in items.items():
            if _lacks_type(item):
                raise ValueError(
                    f"{field}.{name}: has no type; the names in {field} are "
                    f"{', '.join(there) or 'none'}"
                )
        items = [*items.values()]
    items = items if isinstance(items, (list, tuple)) else [items]
    return [item for item in items if item is not None]


def _lacks_type(item: Any) -> bool:
    if isinstance(item, Mapping):
        return not type_name(item)
    return isinstance(item, (str, int, float, list, tuple))
