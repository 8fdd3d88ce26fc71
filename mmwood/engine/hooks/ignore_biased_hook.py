"""Pixels that the label filter removed are void in training."""

from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn

from mmwood.engine.weights import unwrap
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import BIASED, VOID
from mmwood.registry import HOOKS
from mmwood.utils.config import leaf_datasets


@HOOKS.register_module()
class IgnoreBiasedHook(Hook):
    """Let no loss see 254, the pixels that ``tools/filter_labels.py`` removed.

    In a training with label maps that its manifest says to hold them, those of a batch
    that are 254 become 255 right before the loss. A hook that gives these pixels labels
    of its own does so before, whatever the order in the config. The log says that they
    are left out. ``tools/train.py`` adds this hook to any config.

    Example:
        >>> custom_hooks = [dict(type='mmwood.IgnoreBiasedHook')]
    """

    # A pre-hook that is registered later runs later.
    priority = "VERY_LOW"

    def before_train(self, runner: Runner) -> None:
        """Look whether label maps hold removed pixels."""
        folders = [
            folder
            for leaf in leaf_datasets(runner.train_dataloader.dataset)
            if (folder := biased_folder(leaf)) is not None
        ]
        if not folders:
            return
        unwrap(runner).register_forward_pre_hook(_as_void, with_kwargs=True)
        runner.logger.info(
            f"{', '.join(folders)}: pixels that the label filter removed from objects "
            f"({BIASED}) have no part in the loss, unless another hook labels them"
        )


def biased_folder(dataset: object) -> str | None:
    """The folder of a data set's label maps, if the label filter made them."""
    folder = (getattr(dataset, "data_prefix", None) or {}).get("seg_map_path")
    if not folder:
        return None
    # The folder may be a link, or one of several in labels/.
    made = (LabelFolder(path).holds_biased for path in Path(folder).resolve().parents)
    return folder if any(made) else None


def _as_void(model: nn.Module, args: tuple, kwargs: dict) -> None:
    mode = kwargs.get("mode", args[2] if len(args) > 2 else "tensor")
    samples = kwargs.get("data_samples", args[1] if len(args) > 1 else None)
    if mode != "loss":
        return
    for sample in samples or ():
        if "gt_sem_seg" in sample:
            label = sample.gt_sem_seg.data
            sample.gt_sem_seg.data = torch.where(
                label == BIASED, torch.full_like(label, VOID), label
            )
