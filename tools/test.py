#!/usr/bin/env python
"""Test a checkpoint: scores, class activation maps, seeds, masks and their metrics."""

import argparse
import sys
from pathlib import Path
from typing import Any

from mmwood.fileio.files import write_json
from mmwood.fileio.scores import refuse_other_content
from mmwood.utils.command import add_common_arguments, load_config, run
from mmwood.utils.config import type_name

NEEDS = ("model", "test_dataloader", "test_cfg", "test_evaluator")


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--out", help="write the metrics to this JSON file")
    parser.add_argument(
        "--tta",
        action="store_true",
        help="test with the config's tta_model and tta_pipeline (scales and flips)",
    )
    parser.add_argument(
        "--show-dir", help="draw pictures of the results to this folder"
    )
    parser.add_argument(
        "--interval", type=int, default=1, help="draw every INTERVAL-th image"
    )
    add_common_arguments(parser)
    return parser.parse_args()


def plain(value: Any) -> Any:
    """A metric's value as numbers, and lists and dictionaries of them."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    # Tensors, arrays and NumPy's numbers.
    return value.tolist() if hasattr(value, "tolist") else value


def main() -> None:
    args = parse_args()
    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {args.checkpoint}")
    if args.out is not None:
        # Before hours of work.
        refuse_other_content(args.out)
    cfg = load_config(args, needs=NEEDS)
    cfg.load_from = args.checkpoint

    # After all that can be refused without torch.
    from mmengine.dist import is_main_process

    from mmwood.engine.runner import (
        build_runner,
        save_results,
        show_results,
        use_tta,
    )

    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show_dir is not None:
        show_results(cfg, args.show_dir, args.interval)
    if args.tta:
        use_tta(cfg)
    elif type_name(cfg.get("tta_model")) == "AdvCAM":
        print("AdvCAM needs --tta: without it these are plain maps", file=sys.stderr)
    save_results(cfg)
    metrics = build_runner(cfg).test()
    if args.out is not None and is_main_process():
        write_json(args.out, plain(metrics))


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
