#!/usr/bin/env python
"""Train a classifier, an IRN or a segmentation network from its config."""

import argparse

from mmwood.utils.command import add_common_arguments, load_config, run
from mmwood.utils.last_checkpoint import last_checkpoint

NEEDS = ("model", "train_dataloader", "train_cfg", "optim_wrapper")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="CHECKPOINT",
        help="continue from this checkpoint, or from the latest one in the work dir",
    )
    parser.add_argument(
        "--no-validate", action="store_true", help="do not evaluate during training"
    )
    parser.add_argument(
        "--auto-scale-lr",
        action="store_true",
        help="scale the learning rate with the real batch size",
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args, needs=NEEDS)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.auto_scale_lr:
        if "base_batch_size" not in cfg.get("auto_scale_lr", {}):
            raise ValueError(
                "--auto-scale-lr: the config has no auto_scale_lr.base_batch_size"
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        cfg.resume = True
        cfg.load_from = None if args.resume == "auto" else args.resume
    if not cfg.get("resume") and last_checkpoint(cfg.work_dir) is not None:
        raise ValueError(
            f"--work-dir: {cfg.work_dir} holds the checkpoints of a training: continue "
            "it with --resume, or name another folder, since a new one would replace "
            "them"
        )

    # After all that can be refused without it.
    import torch

    from mmwood.engine.runner import build_runner

    if args.amp:
        if not torch.cuda.is_available():
            raise ValueError("--amp: training with mixed precision needs a GPU")
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    build_runner(cfg).train()


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
