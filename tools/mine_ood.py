#!/usr/bin/env python
r"""Find images that a model wrongly believes to show its classes.

The model is a classifier, a segmentation network or a detector: a config of MMPretrain,
MMSegmentation or MMDetection, and a checkpoint. A classifier of timm needs no config:
    python tools/mine_ood.py --timm efficientnet_lite0 model.pth --classes names.txt \
        --candidates images --out ood.csv
`--timm NAME --help` shows the options of that.

Candidates should show none of them. Those whose probability reaches --threshold go to
a CSV manifest, class by class, highest first, for a person to look at. A run that was
ended continues where it was.

Scores that any other model gave go to such a manifest with --scores, without a config:
    python tools/mine_ood.py --scores scores.csv --out ood.csv
`--scores FILE --help` shows the options of that.
"""

import argparse
from pathlib import Path

from mmwood.utils.command import add_common_arguments, load_config, run, script_parser

#: With --score area: a hundredth of an image.
LEAST_AREA = 0.01


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


def names(option: str) -> bool:
    """Whether the command line has an option that other options depend on."""
    # No abbreviations: --score is none of --scores.
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(option, nargs="?", const="", dest="value")
    return parser.parse_known_args()[0].value is not None


def reads_scores() -> bool:
    """Whether the command line names scores, for which OpenMMLab is not needed."""
    return names("--scores")


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--scores",
        metavar="PATH",
        help="what another model gave: a table (.csv, .parquet) with the columns "
        "image, class, score; COCO's results (.json); or a folder of YOLO's .txt with "
        "confidences",
    )
    (add_score_options if reads_scores() else add_model_options)(parser)
    parser.add_argument("--out", required=True, help="the manifest to write, a .csv")
    parser.add_argument(
        "--threshold",
        type=float,
        help="least probability, or fraction of an image (default: 0.5, and "
        f"{LEAST_AREA} with --score area)",
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
    args = parser.parse_args()
    if args.threshold is None:
        by_area = getattr(args, "score", None) == "area"
        args.threshold = LEAST_AREA if by_area else 0.5
    return args


def add_score_options(parser: argparse.ArgumentParser) -> None:
    """Add what goes with scores of another model."""
    parser.add_argument(
        "--root",
        metavar="FOLDER",
        help="folder that the names of images are relative to (default: that of the "
        "scores); with YOLO's .txt the images' folder",
    )
    parser.add_argument(
        "--annotations",
        metavar="JSON",
        help="COCO file that names the images and categories of COCO's results",
    )
    parser.add_argument(
        "--classes",
        metavar="FILE",
        help="names of the classes in their order, one a line, or a data.yaml; needed "
        "with YOLO's .txt (default: the alphabet)",
    )
    parser.add_argument(
        "--features",
        metavar="NPZ",
        help="what your model makes of the images, so that alike ones are reviewed "
        "together: arrays image, names as in the scores, and features, their rows",
    )
    parser.add_argument(
        "--work-dir",
        help="folder of unreadable.txt (default: work_dirs/NAME of --out)",
    )


def add_timm_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network of timm mines."""
    parser.add_argument("checkpoint", help="its weights, .pth or .safetensors")
    parser.add_argument(
        "--classes",
        required=True,
        metavar="FILE",
        help="names of the classes in the order of the network's outputs, one a line, "
        "or a data.yaml",
    )
    parser.add_argument(
        "--activation",
        choices=["softmax", "sigmoid"],
        default="softmax",
        help="of the network's outputs: softmax if an image shows one class, sigmoid "
        "if it may show several (default: softmax)",
    )


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """Add what says which network of a config mines."""
    parser.add_argument("config", help="config file of the in-distribution model")
    parser.add_argument("checkpoint", help="its checkpoint file")
    parser.add_argument(
        "--score",
        choices=["peak", "area"],
        help="of a segmentation network: a class's largest probability of a pixel, or "
        "the fraction of the image that it takes (default: peak)",
    )
    parser.add_argument(
        "--background",
        metavar="CLASS",
        help="of a segmentation network: the class that is no object (default: the "
        "one that is called background, if there is one)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add what goes with a model."""
    parser.add_argument(
        "--timm",
        metavar="NAME",
        help="a classifier of timm, such as efficientnet_lite0, in place of CONFIG",
    )
    (add_timm_options if names("--timm") else add_config_options)(parser)
    parser.add_argument(
        "--candidates",
        required=True,
        help="folder of images or of shards (.tar, .parquet), a shard, a pattern such "
        "as 'shards/*.tar', an address such as s3://bucket/images, or a list of image "
        "files or addresses, one a line",
    )
    parser.add_argument(
        "--root",
        help="folder that the names of a list, or of a column of paths, are relative "
        "to (default: its)",
    )
    parser.add_argument(
        "--column",
        default="image",
        help="column of Parquet with the bytes or the paths of images (default: image)",
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


def main() -> None:
    args = parse_args()
    if args.scores is None:
        mine(args)
    else:
        read(args)


def read(args: argparse.Namespace) -> None:
    """Make the manifest of scores."""
    from mmwood.fileio.image_scores import read_scores
    from mmwood.ood.results import check_manifest
    from mmwood.ood.scores import write_scores

    check_manifest(args.out, args.update)
    scores = read_scores(args.scores, args.root, args.annotations, args.classes)
    work_dir = args.work_dir or Path("work_dirs", Path(args.out).stem)
    unreadable = Path(work_dir, "unreadable.txt")
    summary = write_scores(
        scores,
        args.scores,
        args.out,
        threshold=args.threshold,
        top=args.top,
        max_per_image=args.max_per_image,
        update=args.update,
        unreadable=unreadable,
        features=args.features,
        root=args.root,
    )
    for note in scores.notes:
        print(note)
    if summary["joined"]:
        print(
            f"{summary['joined']} scores were joined with a larger one of the same "
            "image and class"
        )
    report(args, summary, unreadable)


def mine(args: argparse.Namespace) -> None:
    """Make the manifest by a model."""
    from mmengine.dist import barrier, is_main_process

    from mmwood.engine.runner import build_runner
    from mmwood.fileio.files import remove_leftovers
    from mmwood.fileio.mining_results import shard_paths
    from mmwood.ood.candidates import write_candidate_list
    from mmwood.ood.config import use_candidates
    from mmwood.ood.results import (
        check_manifest,
        not_under_review,
        write_results,
    )

    if not Path(args.checkpoint).is_file():
        raise FileNotFoundError(f"checkpoint: there is no file {args.checkpoint}")
    check_manifest(args.out, args.update)
    cfg = read_model(args)
    folder = Path(cfg.work_dir, "mining")
    candidates = folder / "candidates.txt"
    use_candidates(
        cfg,
        candidates=str(candidates),
        threshold=args.threshold,
        batch_size=args.batch_size,
        num_workers=args.num_workers,
        size=args.size,
        score=getattr(args, "score", None),
        background=getattr(args, "background", None),
    )
    if args.amp:
        cfg.test_cfg.fp16 = True
    runner = build_runner(cfg)
    if is_main_process():
        # Before hours of work. It is looked at again when the manifest is written.
        with not_under_review(args.out):
            for written in (folder, Path(cfg.work_dir, "found")):
                remove_leftovers(written)
            write_candidate_list(
                args.candidates,
                candidates,
                args.root,
                frozen=bool(shard_paths(folder)),
                column=args.column,
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
    report(args, summary, unreadable)


def read_model(args: argparse.Namespace):
    """The config of the model that mines."""
    if args.timm is None:
        cfg = load_config(args)
        cfg.load_from = args.checkpoint
        return cfg

    from mmwood.fileio.image_scores import read_names
    from mmwood.ood.timm_config import timm_config

    args.config = args.timm
    classes = [*read_names(args.classes).values()]
    config = timm_config(args.timm, args.checkpoint, classes, args.activation)
    return load_config(args, config=config)


def report(args: argparse.Namespace, summary: dict, unreadable: Path) -> None:
    """Print what the summary says.

    Raises:
        ValueError: No candidate can be read.
    """
    from mmwood.ood.results import summary_tables

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
        end = "" if args.scores else ", with another --work-dir"
        print(
            f"no candidate reaches the threshold {args.threshold}: the highest "
            f"probability is {summary['highest']:.4f}. Lower --threshold{end}"
        )
    print(f"wrote {args.out}")


if __name__ == "__main__":
    run(main, needs=() if reads_scores() else ("mmengine", "mmcv", "mmpretrain"))
