#!/usr/bin/env python
"""Find images that a classifier wrongly believes to show its classes.

Candidates should show none of them. Those whose probability reaches --threshold go to
a CSV manifest, class by class, highest first, for a person to look at. A run that was
ended continues where it was.
"""

import argparse
from pathlib import Path

from mmwood.utils.command import add_common_arguments, run


def integer_from(least: int):
    """A function that reads an integer of an option and refuses smaller ones."""

    def integer(text: str) -> int:
        value = int(text)
        if value < least:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {value}")
        return value

    return integer


def size(text: str) -> int | str:
    """A long side in pixels, or one of the words for it."""
    return text if text in ("in_distribution", "own") else integer_from(1)(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", help="config file of the in-distribution classifier")
    parser.add_argument("checkpoint", help="its checkpoint file")
    parser.add_argument(
        "--candidates",
        required=True,
        help="folder of images, or list of image files, one a line",
    )
    parser.add_argument(
        "--root", help="folder that the names of a list are relative to (default: its)"
    )
    parser.add_argument("--out", required=True, help="the manifest to write, a .csv")
    parser.add_argument(
        "--threshold", type=float, default=0.5, help="least probability (default: 0.5)"
    )
    parser.add_argument(
        "--top", type=integer_from(1), metavar="N", help="at most N rows a class"
    )
    parser.add_argument(
        "--max-per-image",
        type=integer_from(1),
        metavar="N",
        help="an image appears for its N most probable classes at most",
    )
    parser.add_argument(
        "--update",
        action="store_true",
        help="carry what was reviewed in the manifest over to the new one",
    )
    parser.add_argument(
        "--batch-size", type=integer_from(1), help="default: that of the config's test"
    )
    parser.add_argument(
        "--num-workers", type=integer_from(0), help="default: that of the config's test"
    )
    parser.add_argument(
        "--size",
        type=size,
        default="in_distribution",
        metavar="S",
        help="resize candidates so that the long side has S pixels; 'own': leave them "
        "as they are (default: in_distribution, the median long side of the images "
        "of train_dataloader, or what a resizing test pipeline says)",
    )
    add_common_arguments(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    from mmengine.dist import barrier, is_main_process

    from mmwood.engine.runner import build_runner, load_config
    from mmwood.fileio.files import remove_leftovers
    from mmwood.fileio.mining_results import shard_paths
    from mmwood.ood.candidates import write_candidate_list
    from mmwood.ood.config import use_candidates
    from mmwood.ood.results import (
        check_manifest,
        not_under_review,
        summary_tables,
        write_results,
    )

    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {args.checkpoint}")
    check_manifest(args.out, args.update)
    cfg = load_config(args)
    cfg.load_from = args.checkpoint
    folder = Path(cfg.work_dir, "mining")
    candidates = folder / "candidates.txt"
    use_candidates(
        cfg,
        candidates=str(candidates),
        threshold=args.threshold,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        size=args.size,
    )
    if args.amp:
        cfg.test_cfg.fp16 = True
    runner = build_runner(cfg)
    if is_main_process():
        # Before hours of work. It is looked at again when the manifest is written.
        with not_under_review(args.out):
            remove_leftovers(folder)
            write_candidate_list(
                args.candidates, candidates, args.root, frozen=bool(shard_paths(folder))
            )
    barrier()
    runner.test()
    if not is_main_process():
        return
    unreadable = Path(cfg.work_dir, "unreadable.txt")
    summary = write_results(
        folder,
        args.out,
        len(runner.test_dataloader.dataset),
        top=args.top,
        max_per_image=args.max_per_image,
        update=args.update,
        unreadable=unreadable,
    )
    print(summary_tables(summary))
    if summary["unreadable"]:
        print(f"{summary['unreadable']} images cannot be read; all are in {unreadable}")
        for item in summary["first_unreadable"]:
            print(f"  {item['image']}: {item['reason']}")
    if args.update:
        carried = sum(summary["states"].values()) - summary["states"]["unseen"]
        print(
            f"{carried} reviewed rows were carried over; {summary['not_found_again']} "
            "of them are not among the new ones and stand after these in their class"
        )
    if summary["highest"] is None:
        raise ValueError("none of the candidates can be read")
    if not summary["rows"]:
        print(
            f"no candidate reaches the threshold {args.threshold}: the highest "
            f"probability is {summary['highest']:.4f}. Lower --threshold, with another "
            "--work-dir"
        )
    print(f"wrote {args.out}")


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv", "mmpretrain"))
