#!/usr/bin/env python
"""A network as one file for other programs: ONNX or TorchScript.

NETWORK is a folder that tools/model_converters/publish_network.py wrote, or a config of
a segmentation network with --checkpoint. The file takes an image of any size, (H, W, 3)
uint8 RGB, and gives its labels, (H, W) uint8: all that comes before and after the
network is part of it. Before it gets its name, its labels are compared with torch's.

Example:
    python tools/export.py work_dirs/mine/network --out network.onnx --images photos
"""

import argparse
from pathlib import Path

from mmwood.utils.command import run, script_parser

#: Images that are compared, and the pixels of a side beyond which they are cut.
MOST, SIDE = 50, 1024


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("network", help="folder of a network, or a config file")
    parser.add_argument("--out", required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--format",
        choices=("onnx", "torchscript"),
        default="onnx",
        help="of the file: onnx (.onnx, the default) or torchscript (.pt)",
    )
    parser.add_argument("--checkpoint", help="weights, where NETWORK is a config")
    parser.add_argument(
        "--images",
        metavar="FOLDER",
        help=f"compare the labels of {MOST} of its images, and of drawn ones "
        "(default: of drawn ones alone)",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    import numpy as np

    from mmwood.engine.export import (
        SUFFIXES,
        export_network,
        refuse_foreign_export,
    )
    from mmwood.engine.network import load_network
    from mmwood.fileio.images import list_folder, read_picture

    suffix = SUFFIXES[args.format]
    if Path(args.out).suffix != suffix:
        raise ValueError(
            f"--out: {args.out} does not end in {suffix}, as files of --format "
            f"{args.format} do"
        )
    # Before a network is loaded.
    refuse_foreign_export(args.out, args.format)
    found = list_folder(args.images, "--images") if args.images else []
    # From all of the folder.
    found = found[:: -(-len(found) // MOST) or 1]
    network = load_network(args.network, args.checkpoint)

    def picture(path: str) -> np.ndarray:
        pixels = read_picture(path, network.decoding, shown=False)
        return np.ascontiguousarray(pixels[:SIDE, :SIDE])

    pictures = ((item.source, picture(item.source)) for item in found)
    result = export_network(network, args.out, args.format, pictures)
    drawn = result.images - len(found)
    compared = f"{drawn} drawn images"
    if found:
        compared = f"{len(found)} images of {args.images} and {compared}"
    print(
        f"{args.out}: {len(network.classes)} classes; on {compared} "
        f"{result.differ} of {result.pixels:,} labels differ from torch's"
    )


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv", "mmseg"))
