#!/usr/bin/env python
r"""Write a trained segmentation network as a folder that works anywhere.

It holds one self-contained config, the weights without the training's state, classes
and colours, and a README with numbers, origin and licences. tools/predict.py and
MMSegmentation's inferencer take it.

Example:
    python tools/model_converters/publish_network.py CONFIG CHECKPOINT \
        --out work_dirs/mine/network --metrics val=work_dirs/mine/metrics.json
"""

import argparse

from mmwood.utils.command import named_path, run, script_parser


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="config file that it was trained with")
    parser.add_argument("checkpoint", help="checkpoint file")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder to write")
    parser.add_argument(
        "--metrics",
        nargs="+",
        default=[],
        type=named_path,
        metavar="NAME=FILE",
        help="what to call a test, and the JSON that tools/test.py --out wrote",
    )
    parser.add_argument(
        "--supervision",
        metavar="TEXT",
        help="what it was trained with (default: what the training data tell)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace another network in the folder"
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()

    from mmwood.engine.network import publish_network
    from mmwood.fileio.scores import read_metrics

    metrics = {name: read_metrics(path) for name, path in args.metrics}
    manifest = publish_network(
        args.config,
        args.checkpoint,
        args.out,
        supervision=args.supervision,
        metrics=metrics,
        overwrite=args.overwrite,
    )
    size = f"{len(manifest['classes'])} classes"
    print(
        f"{args.out}: {size}; use it with tools/predict.py {args.out} IMAGES --out DIR"
    )


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv", "mmseg"))
