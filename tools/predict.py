#!/usr/bin/env python
r"""Masks of images: a folder in, label PNGs and a table out.

NETWORK is a folder that tools/model_converters/publish_network.py wrote, or a config of
a segmentation network with --checkpoint. Images of any size: large ones are done in
overlapping tiles. A run that was ended continues where it was.

With --format, the masks of all images are also written as annotations that people can
correct in their tool (docs/annotation_tools.md).

Examples:
    python tools/predict.py work_dirs/mine/network photos --out masks --overlays
    python tools/predict.py work_dirs/mine/network photos --out masks \
        --format label-studio
"""

import argparse
import os
from functools import partial
from pathlib import Path, PurePosixPath

from mmwood.converters.command import add_address_option, bar, formats
from mmwood.utils.command import refuse_below, run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("network", help="folder of a network, or a config file")
    parser.add_argument(
        "images",
        nargs="+",
        help="a folder, with all its folders; a list (.txt), one path a line, from the "
        "list's folder; or image files",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder to write to"
    )
    parser.add_argument("--checkpoint", help="weights, where NETWORK is a config")
    parser.add_argument(
        "--overlays", action="store_true", help="draw the masks on the images too"
    )
    parser.add_argument(
        "--format",
        type=partial(formats, others=["png"]),
        default=["png"],
        metavar="NAMES",
        help="also write coco, label-studio or cvat, separated by commas; label PNGs "
        "(png) are always written (default: png)",
    )
    add_address_option(parser)
    parser.add_argument(
        "--tta",
        action="store_true",
        help="the mean over the scales and flips of the config's tta_pipeline",
    )
    parser.add_argument(
        "--crf",
        action="store_true",
        help="refine with a dense CRF; not of images that need tiles",
    )
    parser.add_argument(
        "--tile",
        type=int,
        default=1024,
        metavar="PIXELS",
        help="longest side that goes through the network at once (default: 1024)",
    )
    parser.add_argument(
        "--overlap",
        type=int,
        metavar="PIXELS",
        help="what tiles share at least (default: a quarter of --tile)",
    )
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes (default: 1)"
    )
    parser.add_argument(
        "--device", help="cpu, cuda, ... (default: a GPU if there is one)"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove the predictions in the folder, whatever made them, and make all "
        "anew",
    )
    args = parser.parse_args()
    refuse_below(parser, args, ["workers"])
    if args.overlap is None:
        args.overlap = args.tile // 4
    return args


def main() -> None:
    args = parse_args()

    import torch
    from mmengine.device import get_device

    from mmwood.converters.annotations import (
        LabelFile,
        first_class,
        make_labels,
        refuse_changed,
        write_annotations,
    )
    from mmwood.converters.label_studio import local_address
    from mmwood.engine.predict import PredictionFiles, list_images, predict_images
    from mmwood.engine.predictor import load_predictor
    from mmwood.fileio.label_folder import LabelFolder

    images = list_images(args.images, args.out)
    options = dict(
        network=args.network,
        checkpoint=args.checkpoint,
        tile=args.tile,
        overlap=args.overlap,
        tta=args.tta,
        crf=args.crf,
    )
    device = args.device or get_device()
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"--device: {device} cannot be used: {reason}") from error
    alone = args.workers == 1
    # Several processes load it each, and this one to know what it is.
    predictor = load_predictor(**options, device=device if alone else "cpu")
    network = predictor.network
    files = PredictionFiles(
        images,
        LabelFolder(args.out, "--out"),
        partial(load_predictor, **options, device=device),
        network.classes,
        network.palette,
        args.overlays,
        predictor if alone else None,
        network.decoding,
    )
    folder = files.folder
    labels = []
    if args.format != ["png"]:
        first = first_class(network.classes)
        labels = make_labels(network.classes[first:], first, network.palette)
    refuse_changed(folder.root, args.format, args.overwrite)
    found = predict_images(files, predictor.description(), args.workers, args.overwrite)
    print(
        f"{args.out}: {found.made} label maps made, {found.were_there} were there; "
        "predictions.csv says what they show, contact_sheet.png shows the least sure"
    )
    # The folder that all names start from.
    root = Path(os.path.abspath(images[0].path))
    root = root.parents[len(PurePosixPath(images[0].name).parts) - 1]
    written = write_annotations(
        folder.root,
        [LabelFile(image.name, folder.label(image.image_id)) for image in found.images],
        labels,
        args.format,
        args.image_url or local_address(root.name),
        args.overwrite,
        bar("formats"),
    )
    if written:
        print(f"for annotation tools: {', '.join(path.name for path in written)}")
    if found.faults:
        raise ValueError(
            f"{len(found.faults)} of {len(images)} images could not be predicted; they "
            "are named above, and the same command tries them again"
        )


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv", "mmseg"))
