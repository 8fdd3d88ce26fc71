#!/usr/bin/env python
"""How many out-of-distribution images it takes (W-OoD's figure 5).

Example:
    python tools/analysis_tools/ood_amount.py --out amount.png \
        --run 0=work_dirs/irn/seed_curve.json 20=work_dirs/wood_20/seed_curve.json
"""

import argparse

from mmwood.fileio.files import write_json
from mmwood.fileio.scores import read_seed_result
from mmwood.utils.command import png_path, run, script_parser
from mmwood.visualization.charts import (
    THRESHOLDS,
    amount_curve,
    save_amount_curve,
)
from mmwood.visualization.figures import numbers_path


def numbered_run(text: str) -> tuple[int, str]:
    """Number of OoD images and path, from N=PATH."""
    amount, _, path = text.partition("=")
    if not amount.isdecimal() or not path:
        raise argparse.ArgumentTypeError(
            "expected N=PATH with N the number of OoD images, such as "
            f"20=work_dirs/wood_20/seed_curve.json, got {text!r}"
        )
    return int(amount), path


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument(
        "--run",
        nargs="+",
        action="extend",
        type=numbered_run,
        required=True,
        metavar="N=seed_curve.json",
        help="number of OoD images and what mmwood.SeedMetric wrote with so many; "
        "repeats of a number are averaged",
    )
    parser.add_argument(
        "--at", choices=THRESHOLDS, default="best", help="background threshold"
    )
    parser.add_argument(
        "--out",
        type=png_path,
        required=True,
        help="figure (PNG) to write; its numbers go to a JSON file of the same name",
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    numbers = numbers_path(args.out)
    curve = amount_curve(
        [(amount, read_seed_result(path, args.at).miou) for amount, path in args.run]
    )
    save_amount_curve(curve, args.out, THRESHOLDS[args.at])
    amounts = [
        dict(
            amount._asdict(), runs=[path for n, path in args.run if n == amount.images]
        )
        for amount in curve
    ]
    write_json(numbers, dict(at=args.at, amounts=amounts))
    print(f"figure: {args.out}\nnumbers: {numbers}")


if __name__ == "__main__":
    run(main)
