from .cam_visualization_hook import CAMVisualizationHook
from .checkpoint_guard_hook import CheckpointGuardHook
from .progress_bar_hook import ProgressBarHook
from .pseudo_label_hook import PseudoLabelHook

__all__ = [
    "CAMVisualizationHook",
    "CheckpointGuardHook",
    "ProgressBarHook",
    "PseudoLabelHook",
]
