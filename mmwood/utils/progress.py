"""A bar with rate and time left, for whatever may take long."""

from collections.abc import Iterable
from typing import Any

from mmengine.dist import is_main_process
from tqdm import tqdm


def progress(items: Iterable | None, label: str, **options: Any) -> tqdm:
    """Iterate with a bar on standard error.

    It shows on terminals only, and on the main process only. A bar below another one
    goes away when it is full.

    Args:
        items: What to iterate over; None: the caller calls ``update``.
        label: What stands before the bar.
        **options: Others of tqdm, such as ``total`` where ``items`` has no length,
            or ``delay``, the seconds after which a bar is worth showing.

    Example:
        >>> sizes = [path.stat().st_size for path in progress(paths, 'sizes')]
    """
    # disable=None: tqdm is silent where standard error is no terminal.
    disable = None if is_main_process() else True
    return tqdm(items, desc=label, leave=None, disable=disable, **options)
