"""Registered models.

Losses, decode heads and backbones need mmengine alone. The classifiers need
mmpretrain, which imports torchvision: where either is absent everything else must
still work, so their absence is not an error until a config names a classifier.
"""

from .losses import *  # noqa: F403

try:
    from .classifiers import *  # noqa: F403
    from .heads import *  # noqa: F403
except ImportError as error:
    # Only a missing package is forgiven, never a mistake in our own modules.
    if (error.name or "").split(".")[0] not in ("mmpretrain", "torchvision"):
        raise
