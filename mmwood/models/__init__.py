"""Registered models.

Losses need mmengine alone, backbones mmcv also, decode heads and segmentors mmseg. The
classifiers need mmpretrain, which imports torchvision: where one is absent everything
else must still work, so its absence is not an error until a config names what needs it.
"""

from .losses import *  # noqa: F403
from .relation_networks import *  # noqa: F403

try:
    from .backbones import *  # noqa: F403
    from .decode_heads import *  # noqa: F403
    from .segmentors import *  # noqa: F403
except ImportError as error:
    # mmseg imports ftfy and regex, but not every release of it installs them.
    if (error.name or "").split(".")[0] not in ("mmcv", "mmseg", "ftfy", "regex"):
        raise

try:
    from .classifiers import *  # noqa: F403
    from .heads import *  # noqa: F403
except ImportError as error:
    # Only a missing package is forgiven, never a mistake in our own modules.
    if (error.name or "").split(".")[0] not in ("mmpretrain", "torchvision"):
        raise
