#!/usr/bin/env python
r"""Take out of pseudo labels what only goes together with an object (MARS).

Rails are labelled as train; they are background of other images, too. Features of a
network tell them apart, and pixels that are nearer to background than to the class
become 254: not background, but nobody knows what. Training leaves them out.

CONFIG names the images and their tags (test_dataloader.dataset) and the backbone
(model); LABELS is a folder of labels with a manifest.json. Labels that are there and
whole are kept, so a run that was ended continues where it was.

Examples:
    python tools/filter_labels.py configs/classification/resnet50_voc12aug.py \
        work_dirs/resnet50_irn_voc12aug/pseudo_labels --out work_dirs/filtered \
        --checkpoint work_dirs/resnet50_voc12aug/epoch_5.pth
    python tools/filter_labels.py my_dinov2.py my_labels --out filtered --multiple 14
"""

import argparse
from typing import TYPE_CHECKING

from mmwood.utils.command import (
    add_cfg_options,
    load_config,
    refuse_below,
    run,
    script_parser,
)
from mmwood.utils.tables import number_table

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from mmengine.dataset import BaseDataset

    from mmwood.engine.label_filter import FilterSummary

#: Those of :data:`mmwood.functional.debias.Rule`, without torch.
RULES = ("crf", "nearest", "otsu")


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="config of images, tags and a backbone")
    parser.add_argument("labels", help="folder of the labels, with manifest.json")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument(
        "--checkpoint",
        help="weights of the model (default: those that the backbone's init_cfg names)",
    )
    parser.add_argument(
        "--features",
        metavar="DIR",
        help="folder to keep the features in (0.1 to 1 MB an image), which runs with "
        "other settings find (default: they are computed twice)",
    )
    parser.add_argument(
        "--modules",
        nargs="+",
        default=[],
        metavar="NAME",
        help="modules of the backbone whose outputs are joined, as layer3 layer4 "
        "(default: its last output)",
    )
    parser.add_argument(
        "--multiple",
        type=int,
        default=32,
        metavar="PIXELS",
        help="images are resized to multiples of the network's stride or patch "
        "(default: 32)",
    )
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="resize images by this before (default: 1)",
    )
    parser.add_argument(
        "--rule",
        choices=RULES,
        default="nearest",
        help="what decides: nearest, nearer to the class than to background, for any "
        "features; crf, the published one, for STEGO's (default: nearest)",
    )
    parser.add_argument(
        "--alpha",
        type=float,
        default=0.40,
        metavar="FRACTION",
        help="of a class's centres, those farthest from background (default: 0.40)",
    )
    parser.add_argument(
        "--centers", type=int, default=2, help="of a class in an image (default: 2)"
    )
    parser.add_argument(
        "--background-centers",
        type=int,
        default=2,
        help="of the background in an image (default: 2)",
    )
    parser.add_argument(
        "--nearest",
        type=_fraction_or_all,
        default=0.05,
        metavar="FRACTION",
        help="of all background centres, those that count for a vector; all: the "
        "published (default: 0.05)",
    )
    parser.add_argument(
        "--no-center",
        action="store_true",
        help="do not subtract the mean feature; published",
    )
    parser.add_argument(
        "--components",
        type=int,
        metavar="N",
        help="project features on as many principal components of the centres",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of K-means (default: 0)"
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, help="images at once (default: 8)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="loading processes"
    )
    parser.add_argument(
        "--device", help="cpu, cuda, ... (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--show-dir", metavar="DIR", help="draw images before and after"
    )
    parser.add_argument(
        "--interval",
        type=int,
        default=50,
        metavar="N",
        help="draw every Nth image (default: 50)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove the labels in --out, whatever made them, and make all anew",
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    refuse_below(parser, args, ["batch_size", "interval"])
    refuse_below(parser, args, ["workers"], 0)
    return args


def _fraction_or_all(text: str) -> float | None:
    return None if text == "all" else float(text)


def panels(
    folder: str, interval: int, dataset: "BaseDataset", ids: list[str]
) -> "Callable[[int, np.ndarray, np.ndarray], None]":
    """What draws every so many images, with their masks where they have any."""
    from mmwood.datasets.transforms.loading import loaded_rgb
    from mmwood.fileio.images import refuse_foreign_drawing, save_picture
    from mmwood.fileio.label_folder import LabelFolder
    from mmwood.fileio.labels import read_label_png
    from mmwood.visualization.panels import filter_panel

    target = LabelFolder(folder, "--show-dir")

    def draw(index: int, before: "np.ndarray", after: "np.ndarray") -> None:
        if index % interval:
            return
        path = target.picture(ids[index])
        refuse_foreign_drawing(path)
        image = loaded_rgb(dataset[index]["img"])
        mask = dataset.get_data_info(index).get("seg_map_path")
        truth = None if mask is None else read_label_png(mask, "mask")
        save_picture(filter_panel(image, before, after, truth), path)

    return draw


def table(summary: "FilterSummary", classes: list[str]) -> str:
    """Pixels and what was removed of each class."""
    columns = ["class", "pixels", "removed", "images without the class now"]
    sums = [part.sum() for part in (summary.pixels, summary.removed, summary.emptied)]
    rows = [*zip(classes, summary.pixels, summary.removed, summary.emptied)]
    return str(
        number_table(
            columns,
            [
                [name, pixels, f"{removed / max(pixels, 1):.1%}", emptied]
                for name, pixels, removed, emptied in [*rows, ("all", *sums)]
            ],
        )
    )


def main() -> None:
    args = parse_args()

    from mmengine.device import get_device

    from mmwood.engine.dense_features import (
        DenseFeatures,
        load_backbone,
        whole_images,
    )
    from mmwood.engine.label_filter import FilterSettings, LabelFilter
    from mmwood.fileio.label_folder import LabelFolder

    cfg = load_config(args)
    loader = cfg.get("test_dataloader") or {}
    if "dataset" not in loader or "model" not in cfg:
        raise ValueError(f"{args.config} has no test_dataloader.dataset, or no model")
    model = load_backbone(cfg, args.checkpoint, args.device or get_device())
    network = DenseFeatures(model, args.modules, args.multiple, args.scale)
    dataset = whole_images(loader["dataset"])
    settings = FilterSettings(
        rule=args.rule,
        alpha=args.alpha,
        centers=args.centers,
        background_centers=args.background_centers,
        center=not args.no_center,
        nearest=args.nearest,
        components=args.components,
        seed=args.seed,
    )
    out = LabelFolder(args.out, "--out")
    label_filter = LabelFilter(
        dataset,
        LabelFolder(args.labels, "LABELS"),
        out,
        network,
        settings,
        LabelFolder(args.features, "--features") if args.features else None,
        args.batch_size,
        args.workers,
        args.overwrite,
    )
    draw = None
    if args.show_dir is not None:
        draw = panels(args.show_dir, args.interval, dataset, label_filter.ids)
    summary = label_filter.run(draw)
    print(table(summary, label_filter.classes))
    print(
        f"{out.root}: {summary.made} label maps made, {summary.were_there} were there"
    )


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
