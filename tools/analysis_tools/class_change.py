#!/usr/bin/env python
r"""Which classes' seeds a change made better or worse (W-OoD's figure 6).

Example:
    python tools/analysis_tools/class_change.py \
        --base work_dirs/irn_{0,1,2}/seed_curve.json \
        --other work_dirs/wood_{0,1,2}/seed_curve.json --out change.png
"""

import argparse

from mmwood.fileio.files import write_json
from mmwood.fileio.scores import read_seed_result
from mmwood.utils.command import add_figure_option, run, script_parser
from mmwood.visualization.charts import (
    THRESHOLDS,
    class_changes,
    save_class_changes,
)
from mmwood.visualization.figures import numbers_path


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    for name, text in (("base", "before the change"), ("other", "after it")):
        parser.add_argument(
            f"--{name}",
            nargs="+",
            action="extend",
            required=True,
            metavar="seed_curve.json",
            help=f"what mmwood.SeedMetric wrote {text}, one file a run; with as many "
            "runs before as after, run i is compared with run i",
        )
    parser.add_argument(
        "--at", choices=THRESHOLDS, default="best", help="background threshold"
    )
    add_figure_option(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    numbers = numbers_path(args.out)
    base, other = (
        [read_seed_result(path, args.at) for path in paths]
        for paths in (args.base, args.other)
    )
    for path, result in zip([*args.base, *args.other], base + other):
        if set(result.class_iou) != set(base[0].class_iou):
            raise ValueError(
                f"{path} has the classes {list(result.class_iou)}, {args.base[0]} has "
                f"{list(base[0].class_iou)}: expected runs of one data set"
            )
    changes = class_changes(*([r.class_iou for r in part] for part in (base, other)))
    mious = ([dict(mIoU=r.miou) for r in part] for part in (base, other))
    miou = class_changes(*mious)["mIoU"]
    absent = [name for name in base[0].class_iou if name not in changes]
    runs = f"{len(base)} base and {len(other)} other runs"
    save_class_changes(changes, miou, args.out, f"{THRESHOLDS[args.at]}; {runs}")
    write_json(
        numbers,
        dict(
            at=args.at,
            base=args.base,
            other=args.other,
            mIoU=miou._asdict(),
            classes={name: change._asdict() for name, change in changes.items()},
            absent=absent,
        ),
    )
    if absent:
        print(f"{len(absent)} classes are absent from a run: {', '.join(absent)}")
    if len(base) != len(other):
        print(f"{runs} do not pair up: there are no error bars")
    print(f"figure: {args.out}\nnumbers: {numbers}")


if __name__ == "__main__":
    run(main)
