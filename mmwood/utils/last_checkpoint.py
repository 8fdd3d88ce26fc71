"""Which checkpoint a training wrote last."""

import os
from pathlib import Path


def last_checkpoint(work_dir: str | os.PathLike) -> Path | None:
    """The checkpoint that mmengine's file ``last_checkpoint`` names.

    Returns:
        The path as mmengine wrote it, which does not follow a folder that was moved;
        None where nothing has been written yet.
    """
    try:
        return Path(Path(work_dir, "last_checkpoint").read_text("utf-8").strip())
    except FileNotFoundError:
        return None
