"""Imports of packages that an extra installs; it imports nothing of mmwood."""

from importlib import import_module
from types import ModuleType


def require(module: str, extra: str, purpose: str, hint: str = "") -> ModuleType:
    """Import a package that not everybody installs.

    Args:
        module: Its full name.
        extra: The extra of mmwood that installs it.
        purpose: What needs it, as the subject of a sentence.
        hint: What else can be done, as another sentence.

    Raises:
        ImportError: It is not installed; says which command installs it.

    Example:
        >>> masks = require("pycocotools.mask", "coco", "a COCO segmentation")
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{purpose} needs {module.partition('.')[0]} ({error}): run "
            f'`pip install "mmwood[{extra}]"`. {hint}'.rstrip()
        ) from error
