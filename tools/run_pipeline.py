#!/usr/bin/env python
"""Run a pipeline: from tags to masks in one command.

A stage that is finished and whose inputs are as they were is skipped, so the same
command continues where a run ended, and after a change runs again what depends on it.

Examples:
    python tools/run_pipeline.py configs/pipelines/demo.py
    python tools/run_pipeline.py configs/pipelines/own_images.py --data my_images
"""

import argparse
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mmwood.own_images.command import add_source_options
from mmwood.utils.command import refuse_below, run, script_parser
from mmwood.utils.locations import find_config, tool_command

if TYPE_CHECKING:
    from mmwood.pipeline.graph import Pipeline

TOOLS = Path(__file__).resolve().parent
OWN_IMAGES = "configs/pipelines/own_images.py"


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="a pipeline, as in configs/pipelines/")
    parser.add_argument(
        "--work-dir", type=Path, help="in place of the config's work_dir"
    )
    which = parser.add_argument_group("what to run (default: all that is not done)")
    which.add_argument(
        "--from",
        dest="start",
        metavar="STAGE",
        help="run this stage and all that need it again",
    )
    which.add_argument(
        "--until", metavar="STAGE", help="run only STAGE and what it depends on"
    )
    which.add_argument(
        "--only", metavar="STAGE", help="run this stage again and no other one"
    )
    which.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would run and why, and run nothing",
    )
    which.add_argument(
        "--status", action="store_true", help="print how far it is, and run nothing"
    )
    parser.add_argument(
        "--with",
        dest="switches",
        nargs="+",
        default=(),
        metavar="NAME",
        help="what else it does, as if the config said so: upper_bound (train the "
        "segmentation network with the true masks, too, to compare with), "
        "ood_in_network (train one with the OoD images as background, too)",
    )
    parser.add_argument(
        "--exclude",
        type=Path,
        metavar="CSV",
        help="a review of its masks (tools/review_masks.py): networks do not learn "
        "from what was rejected",
    )
    parser.add_argument(
        "--gpus",
        type=int,
        default=1,
        metavar="N",
        help="processes of each stage, one a GPU (or on the CPU)",
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="stages that may run at the same time, where none needs the other "
        "(default: the config's jobs, or 1)",
    )
    own = parser.add_argument_group(
        "one's own images (configs/pipelines/own_images.py): configs for them are "
        "written to WORK_DIR/configs, and run"
    )
    own.add_argument(
        "--data",
        type=Path,
        metavar="FOLDER",
        help="folder of images with tags.csv (columns image,labels); it is only read",
    )
    add_source_options(own)
    own.add_argument(
        "--backbone",
        metavar="NAME",
        help="efficientnet-lite0, resnet18, resnet50, resnet101, wide-resnet38 or "
        "timm:NAME (default: the first on a CPU; on a GPU resnet50, and resnet101 for "
        "the segmentation network)",
    )
    own.add_argument(
        "--no-label-filter",
        action="store_true",
        help="let the network learn from the pseudo masks as they are",
    )
    own.add_argument(
        "--short",
        action="store_true",
        help="one epoch and four iterations, to see whether everything runs; the masks "
        "are worth nothing",
    )
    own.add_argument(
        "--eject", action="store_true", help="write the configs and run nothing"
    )
    review = parser.add_argument_group("review stages wait for a person, unless")
    review.add_argument(
        "--auto", action="store_true", help="the stage's rules decide: nobody looks"
    )
    review.add_argument(
        "--reviewed",
        action="store_true",
        help="what was looked at so far is enough",
    )
    args = parser.parse_args()
    if args.only and (args.start or args.until):
        parser.error("--only goes with neither --from nor --until")
    if args.auto and args.reviewed:
        parser.error("--auto and --reviewed exclude each other")
    if args.data is None:
        of_data = ("tags", "candidates", "masks", "corrected", "levels", "bands")
        for name in (*of_data, "backbone", "no_label_filter", "short", "eject"):
            if getattr(args, name):
                option = name.replace("_", "-")
                parser.error(f"--{option} needs --data FOLDER, the images")
    refuse_below(parser, args, ["gpus", "jobs"])
    return args


def status(pipeline: "Pipeline") -> str:
    """A table of the stages."""
    from prettytable import PrettyTable

    table = PrettyTable(["stage", "state", "seconds", "peak MB", "disk MB", "started"])
    table.align = "r"
    table.align["stage"] = table.align["state"] = "l"
    totals = [0.0, 0, 0]
    for name, stage in pipeline.stages.items():
        state = stage.state(pipeline)
        text = state.name if not state.reason else f"{state.name}: {state.reason}"
        record = pipeline.records.read(name) or {}
        numbers = ["", "", "", ""]
        if "seconds" in record:
            size = record["outputs"]["bytes"] / 1e6
            numbers = [
                f"{record['seconds']:.0f}",
                record["peak_memory_mb"],
                f"{size:.1f}",
                record["started"],
            ]
            totals[0] += record["seconds"]
            totals[1] = max(totals[1], record["peak_memory_mb"])
            totals[2] += size
        table.add_row([name, text, *numbers])
    table.add_divider()
    table.add_row(["all", "", f"{totals[0]:.0f}", totals[1], f"{totals[2]:.1f}", ""])
    return str(table)


def plan_for_data(args: argparse.Namespace) -> Path:
    """Plan a pipeline for the folder that --data names, and say how."""
    from mmwood.fileio.decoding import check_decoding
    from mmwood.own_images.plan import plan_own_images

    template = find_config(OWN_IMAGES).resolve()
    if find_config(args.config).resolve() != template:
        raise ValueError(f"--data: {args.config} plans nothing; {template} does")
    plan = plan_own_images(
        template.parents[1],
        args.data,
        args.work_dir,
        args.tags,
        args.candidates,
        args.masks,
        args.untagged,
        args.backbone,
        args.short,
        check_decoding(args.levels, args.bands, "--"),
        args.corrected,
        not args.no_label_filter,
    )
    if args.status:
        return plan.pipeline
    print(f"{plan}\n{'configs':26}{plan.pipeline.parent}", flush=True)
    if args.eject:
        exclude = [] if args.exclude is None else ["--exclude", str(args.exclude)]
        command = tool_command("run_pipeline.py", [str(plan.pipeline), *exclude])
        print(f"Change them as you like, then: {command}")
    return plan.pipeline


def run_stages(args: argparse.Namespace) -> None:
    """Do what the options ask for, and say what was done."""
    from mmwood.pipeline.graph import load_pipeline
    from mmwood.pipeline.run import make_plan, run_plan

    start = time.monotonic()
    if args.data is not None:
        args.config = plan_for_data(args)
        args.work_dir = None
        if args.eject:
            return
    pipeline = load_pipeline(
        args.config, TOOLS, args.work_dir, args.switches, args.exclude
    )
    if args.status:
        print(status(pipeline))
        return
    plan = make_plan(pipeline, args.start, args.until, args.only)
    if args.dry_run:
        for name in pipeline.stages:
            if name in plan.reasons:
                print(f"run   {name}: {plan.reasons[name]}")
            elif name in plan.done:
                print(f"skip  {name}: done")
        return
    if plan.done:
        print(f"done before: {', '.join(plan.done)}", flush=True)
    jobs = args.jobs or pipeline.jobs
    ran = run_plan(pipeline, plan, args.gpus, jobs, args.auto, args.reviewed, fork=True)
    print(
        f"{len(ran)} stages ran in {(time.monotonic() - start) / 60:.1f} minutes; "
        f"everything is in {pipeline.work_dir}"
    )
    for name, stage in pipeline.stages.items():
        if "page" in stage.leaves:
            print(f"report: {pipeline.path(name, 'page')}")


def main() -> None:
    args = parse_args()

    from mmwood.pipeline.run import StageError

    # As Ctrl+C: stages end with the pipeline.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run_stages(args)
    except StageError as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit("\nended; start again to continue")


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
