#!/usr/bin/env python
"""How many out-of-distribution images it takes (W-OoD's figure 5).

Runs of several random seeds with one number of images make a band. Runs without OoD
images can be a second curve. What to train is in configs/wood/README.md.

Example:
    python tools/analysis_tools/ood_amount.py --out amount.png \
        --run 0=work_dirs/irn/seed_curve.json 20=work_dirs/wood_20/seed_curve.json
    python tools/analysis_tools/ood_amount.py --images in --spread quartiles \
        --base 1000=work_dirs/plain_1000/seed_curve.json \
        --run 1000=work_dirs/wood_1000/seed_curve.json --out small.png
"""

import argparse
from typing import get_args

from mmwood.fileio.files import write_json
from mmwood.fileio.scores import read_seed_result
from mmwood.utils.command import add_figure_option, run, script_parser
from mmwood.visualization.charts import (
    THRESHOLDS,
    Images,
    Spread,
    amount_curve,
    save_amount_curve,
)
from mmwood.visualization.figures import numbers_path


def numbered_run(text: str) -> tuple[int, str]:
    """Number of images and path, from N=PATH."""
    amount, _, path = text.partition("=")
    if not amount.isdecimal() or not path:
        raise argparse.ArgumentTypeError(
            "expected N=PATH with N the number of images, such as "
            f"20=work_dirs/wood_20/seed_curve.json, got {text!r}"
        )
    return int(amount), path


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    for name, text in (("run", ""), ("base", " without OoD images")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            type=numbered_run,
            required=name == "run",
            default=None if name == "run" else [],
            metavar="N=seed_curve.json",
            help=f"number of images and what mmwood.SeedMetric wrote{text} with so "
            "many; one random seed or more a number",
        )
    parser.add_argument(
        "--images",
        choices=get_args(Images),
        default="ood",
        help="which images N counts: OoD ones or in-distribution ones",
    )
    parser.add_argument(
        "--spread",
        choices=get_args(Spread),
        default="std",
        help="what of several random seeds is drawn: mean and standard deviation, or "
        "median and quartiles",
    )
    parser.add_argument(
        "--at", choices=THRESHOLDS, default="best", help="background threshold"
    )
    add_figure_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    numbers = numbers_path(args.out)
    curve, base = (
        amount_curve([(n, read_seed_result(path, args.at).miou) for n, path in runs])
        for runs in (args.run, args.base)
    )
    look = dict(spread=args.spread, images=args.images)
    save_amount_curve(curve, args.out, THRESHOLDS[args.at], base, **look)
    content = dict(at=args.at, images=args.images)
    parts = dict(amounts=(curve, args.run), base=(base, args.base))
    for name, (part, runs) in parts.items():
        content[name] = [
            dict(item._asdict(), runs=[path for n, path in runs if n == item.images])
            for item in part
        ]
    write_json(numbers, content)
    print(f"figure: {args.out}\nnumbers: {numbers}")


if __name__ == "__main__":
    run(main)
