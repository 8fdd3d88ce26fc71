"""Hooks, registered with the prefix ``mmwood.``."""

from .cam_visualization_hook import CAMVisualizationHook
from .channels_last_hook import ChannelsLastHook
from .checkpoint_guard_hook import CheckpointGuardHook
from .displacement_mean_hook import DisplacementMeanHook
from .ewc_hook import EWCHook
from .ignore_biased_hook import IgnoreBiasedHook
from .ood_cluster_hook import OoDClusterHook
from .ood_mining_hook import OoDMiningHook
from .progress_bar_hook import ProgressBarHook
from .pseudo_label_hook import PseudoLabelHook
from .start_check_hook import StartCheckHook
from .teacher_label_hook import TeacherLabelHook
from .teacher_map_hook import TeacherMapHook
from .test_scores_hook import TestScoresHook

__all__ = [
    "CAMVisualizationHook",
    "ChannelsLastHook",
    "CheckpointGuardHook",
    "DisplacementMeanHook",
    "EWCHook",
    "IgnoreBiasedHook",
    "OoDClusterHook",
    "OoDMiningHook",
    "ProgressBarHook",
    "PseudoLabelHook",
    "StartCheckHook",
    "TeacherLabelHook",
    "TeacherMapHook",
    "TestScoresHook",
]
