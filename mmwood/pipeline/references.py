"""References in the texts of a pipeline: {stage.attribute}, {input} or one of OWN."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

#: References that every stage has: its own folder and the pipeline's.
OWN = ("dir", "work_dir")

_REFERENCE = re.compile(r"\{(\w+)(?:\.(\w+))?\}")


def references(text: str) -> list[tuple[str, str | None]]:
    """Names, and their attributes, that a text refers to."""
    return [(name, attribute or None) for name, attribute in _REFERENCE.findall(text)]


def resolve(value: Any, lookup: Callable[[str, str | None], str]) -> Any:
    """A value with every reference in its texts replaced."""
    if isinstance(value, str):
        return _REFERENCE.sub(lambda m: lookup(m[1], m[2]), value)
    if isinstance(value, Mapping):
        return {key: resolve(item, lookup) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [resolve(item, lookup) for item in value]
    return value


def texts(value: Any) -> Iterator[str]:
    """The texts in dicts and lists; keys are none."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts([*value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
