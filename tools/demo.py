#!/usr/bin/env python
"""The main job on the built-in data: a segmentation network from tags alone.

Run it from the root of the repository, as `make demo` does.
"""

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from prettytable import PrettyTable

from mmwood.stack import StackError, check_stack

TOOLS = Path(__file__).resolve().parent
CONFIGS = TOOLS.parent / "configs/demo"
DATA = "data/context_shapes"
RUNS = {"seeds without OoD": "plain", "seeds with OoD": "wood"}
MASKS = "pseudo masks with OoD"
LOSSES = {"CE": "segmentor_ce", "SB-CE and EWC": "segmentor_sbce"}
SCORES = ("mIoU", "IA-mIoU", "IA_S", "IA_M")


def stage(title: str, log: Path, tool: str, *arguments: object) -> None:
    """Run one of the tools; its progress bar shows, its output goes to a file."""
    print(f"\n{title}", flush=True)
    start = time.monotonic()
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as file:
        # Errors share standard error with the bar, so they are seen.
        result = subprocess.run(
            [sys.executable, "-W", "ignore", TOOLS / tool, *map(str, arguments)],
            stdout=file,
            check=False,
        )
    if result.returncode:
        sys.exit(f"This step failed; its output is in {log}")
    print(f"done in {time.monotonic() - start:.0f} s (log: {log})", flush=True)


def train(title: str, work: Path, name: str, *options: object) -> Path:
    """Train a config of the demo; gives its checkpoint."""
    folder = work / name
    log = work / f"logs/{name}.log"
    config = CONFIGS / f"{name}.py"
    stage(title, log, "train.py", config, "--work-dir", folder, *options)
    return Path((folder / "last_checkpoint").read_text().strip())


def label_table(curves: dict[str, dict]) -> PrettyTable:
    """Quality of the labels at the configured and at the best threshold."""
    table = PrettyTable(
        ["background threshold", "labels", "mIoU", "precision", "recall", "F1"]
    )
    table.align = "r"
    for key, note in (("configured", "configured"), ("best", "best, by the masks")):
        for name, curve in curves.items():
            point = curve[key]
            values = [point[score] for score in ("mIoU", "precision", "recall", "F1")]
            table.add_row(
                [f"{point['threshold']:.2f} ({note})", name]
                + [f"{value:.1f}" for value in values]
            )
    return table


def score_table(metrics: dict[str, dict]) -> PrettyTable:
    """Quality of the networks: by pixels, by instances, and by size of the instance."""
    table = PrettyTable(["trained with", *SCORES])
    table.align = "r"
    for name, scores in metrics.items():
        table.add_row([name, *(f"{scores[key]:.1f}" for key in SCORES)])
    return table


def main() -> None:
    try:
        check_stack(needs=("mmengine", "mmcv", "mmpretrain", "mmseg"))
    except StackError as error:
        sys.exit(str(error))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work-dir", type=Path, default=Path("work_dirs/demo"))
    work = parser.parse_args().work_dir
    for folder in (
        "classifier",
        "plain",
        "mining",
        "wood",
        "seeds_plain",
        "seeds_wood",
        "irn",
        "masks",
        "segmentor",
        *LOSSES.values(),
        *(f"{run}_test" for run in LOSSES.values()),
        "logs",
    ):
        shutil.rmtree(work / folder, ignore_errors=True)
    start = time.monotonic()
    stage(
        "1/14 Draw the built-in images: objects, seven in ten on their own context,\n"
        "     and out-of-distribution (OoD) images, which show contexts alone",
        work / "logs/data.log",
        "dataset_converters/context_shapes.py",
        *(DATA, "--correlation", 0.7),
    )
    classifier = train(
        "2/14 Train a classifier on the image tags alone", work, "classifier"
    )
    stage(
        "3/14 Mine: which OoD images does it take for its objects?",
        work / "logs/mining.log",
        *("mine_ood.py", CONFIGS / "classifier.py", classifier),
        *("--candidates", f"{DATA}/OoD/list.txt", "--root", DATA),
        *("--out", work / "ood.csv", "--work-dir", work / "mining"),
    )
    mined = json.loads((work / "ood.json").read_text())
    print(f"{mined['images']} of {mined['candidates']}, with p of at least 0.5")
    begin = ("--no-validate", "--cfg-options", f"load_from={classifier}")
    train(
        "4/14 Go on for some epochs without OoD images, to compare with",
        *(work, "plain", *begin),
    )
    train(
        "5/14 Go on for as many with the mined OoD images (W-OoD)",
        *(work, "wood", *begin),
        f"train_dataloader.dataset.ood.ann_file={work}/ood.csv",
    )
    curves = {}
    for number, (name, run) in enumerate(RUNS.items(), start=6):
        stage(
            f"{number}/14 Maps and {name}, against the true masks",
            work / f"logs/seeds_{run}.log",
            *("test.py", CONFIGS / f"{run}.py"),
            (work / run / "last_checkpoint").read_text().strip(),
            *("--tta", "--work-dir", work / f"seeds_{run}"),
        )
        curve = work / f"seeds_{run}/seed_curve.json"
        curves[name] = json.loads(curve.read_text())
    wood = (work / "wood/last_checkpoint").read_text().strip()
    inputs = [
        f"{loader}.dataset.{field}"
        for loader in ("train_dataloader", "test_dataloader")
        for field in (
            f"score_dir={work}/seeds_wood/pseudo_labels",
            f"score_checkpoint={wood}",
        )
    ]
    inputs.append(f"model.backbone.init_cfg.checkpoint={wood}")
    irn = train(
        "8/14 Learn from the sure parts of these maps where objects end (IRN)",
        *(work, "irn", "--cfg-options", *inputs),
    )
    stage(
        "9/14 Pseudo masks: maps walk at random until they meet an edge",
        work / "logs/masks.log",
        *("test.py", CONFIGS / "irn.py", irn, "--work-dir", work / "masks"),
        *("--show-dir", work / "masks/pictures", "--interval", 25),
        *("--cfg-options", *inputs),
    )
    curves[MASKS] = json.loads((work / "masks/seed_curve.json").read_text())
    masks = f"{work}/masks/pseudo_labels/labels"
    data = f"train_dataloader.dataset.data_prefix.seg_map_path={masks}"
    segmentor = train(
        "10/14 Train a segmentation network on the pseudo masks (DeepLab-v2's head)",
        *(work, "segmentor", "--no-validate", "--cfg-options", data),
        f"model.backbone.init_cfg.checkpoint={wood}",
    )
    begin = ("--no-validate", "--cfg-options", data, f"load_from={segmentor}")
    held = f"custom_hooks.0.file={work}/segmentor/ewc.safetensors"
    titles = (
        "Go on with it as before, with cross-entropy (CE)",
        "Go on from there too, with small objects weighted up (SB-CE: size-balanced\n"
        "      cross-entropy), and what it knows held fast (EWC)",
    )
    metrics = {}
    for number, (name, run) in zip((11, 13), LOSSES.items()):
        options = () if run == "segmentor_ce" else (held,)
        title = f"{number}/14 {titles[len(metrics)]}"
        checkpoint = train(title, *(work, run, *begin, *options))
        tested = work / f"{run}_test"
        stage(
            f"{number + 1}/14 Test it on images that no stage has seen",
            work / f"logs/{run}_test.log",
            *("test.py", CONFIGS / f"{run}.py", checkpoint, "--work-dir", tested),
            *("--out", tested / "metrics.json"),
            *("--show-dir", tested / "pictures", "--interval", 10),
        )
        metrics[name] = json.loads((tested / "metrics.json").read_text())
    folders = [f"{name}={work}/seeds_{run}/pseudo_labels" for name, run in RUNS.items()]
    folders.append(f"{MASKS}={work}/masks/pseudo_labels")
    picture = work / "comparison.png"
    stage(
        "Draw the first image of each class that stands alone",
        work / "logs/comparison.log",
        *("analysis_tools/compare_seeds.py", *folders, "--out", picture),
        *("--images", f"{DATA}/JPEGImages", "--masks", f"{DATA}/SegmentationClass"),
    )
    print(f"\nLabels of the training images, in percent\n{label_table(curves)}")
    right = [curve["configured"]["precision"] for curve in curves.values()]
    print(
        f"With OoD images {right[1]:.0f} instead of {right[0]:.0f} of 100 seed pixels "
        f"are right, and {right[2]:.0f} of the pseudo masks, as means over the classes."
    )
    print(
        f"\nSegmentation of the validation images, in percent\n{score_table(metrics)}"
    )
    print(
        "mIoU counts pixels; IA-mIoU counts instances: all, small ones (IA_S, below "
        "32 x 32\npixels) and medium ones (IA_M)."
    )
    print(f"Took {(time.monotonic() - start) / 60:.1f} minutes.")
    print(f"Picture: {picture} (image | map and label of each kind | ground truth)")
    print(f"What the network of the pseudo masks saw: {work}/masks/pictures")
    print(f"What the networks find: {work}/segmentor_*_test/pictures")
    print(f"Label files: {work}/seeds_*/pseudo_labels, {work}/masks/pseudo_labels")


if __name__ == "__main__":
    main()
