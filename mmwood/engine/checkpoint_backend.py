"""Checkpoints that are either whole or absent."""

import os

from mmengine.fileio import LocalBackend, register_backend

from mmwood.fileio.files import atomic_write


@register_backend("mmwood")
class AtomicBackend(LocalBackend):
    """mmengine's local files, moved into place when they are whole.

    mmengine writes a checkpoint over what has its name. Where the disk is full, or the
    process is killed, half of it is left.

    Example:
        >>> default_hooks = dict(checkpoint=dict(
        ...     type='CheckpointHook', backend_args=dict(backend='mmwood')))
    """

    def put(self, obj: bytes, filepath: str | os.PathLike) -> None:
        """Write a file.

        Raises:
            OSError: It cannot be written, a full disk for instance.
        """
        with atomic_write(filepath) as temporary:
            temporary.write_bytes(obj)
