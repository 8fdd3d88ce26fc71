"""What a config names."""

from typing import Any

__all__ = ["leaf_dataset", "type_name"]


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
    while isinstance(config, dict):
        if "dataset" in config:
            config = config["dataset"]
        elif config.get("datasets"):
            config = config["datasets"][0]
        else:
            return config
    return {}
