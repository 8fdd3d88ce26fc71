from .checkpoint_backend import *  # noqa: F403
from .hooks import *  # noqa: F403
