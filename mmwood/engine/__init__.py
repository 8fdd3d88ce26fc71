"""From a config to a Runner; hooks, and what they share."""

from .checkpoint_backend import AtomicBackend as AtomicBackend
from .hooks import *  # noqa: F403
from .train_loop import EpochTrainLoop as EpochTrainLoop
