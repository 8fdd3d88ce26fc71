#!/usr/bin/env python
"""Run every stage with one and with two processes and compare what they leave.

Each stage runs on a few built-in images, as a user starts it: tools/train.py against
tools/dist_train.sh, and so on. Files must be equal to the byte, and metrics but for
rounding.

Two processes train with half the batch each. Samplers deal the images of a batch out in
turn, so that both halves together are the batch of one process, and the mean of their
gradients is its gradient but for rounding. Augmentation, dropout and statistics of
batches differ between processes, so these configs have none: images are resized to one
size, batch norm is fixed, and the segmentor's loss divides by all pixels instead of the
valid ones of each process. The optimizer is SGD (Adam divides by the gradient, and so
makes rounding large where that is almost 0). Weights may then differ by a hundredth of
what the training has changed, layer by layer: rounding that a few steps amplify stays
near a thousandth at most, and a loss that is averaged wrongly differs by much more.
"""

import argparse
import hashlib
import json
import math
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.config import Config
from prettytable import PrettyTable
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"
CONFIGS = ROOT / "configs/demo"
SIDE = 64
#: A number of images that no batch and no number of processes divides.
IMAGES = dict(train=17, val=7, ood=13)
#: In the unit of the metric, mostly percent.
METRIC_TOLERANCE = 1e-4

LISTS = "data/ImageSets/Segmentation"
SCORES = "seeds/1/pseudo_labels"
CLASSIFIER = "classifier/1/epoch_2.pth"
RESIZE = dict(type="Resize", scale=(SIDE, SIDE))


@dataclass
class Stage:
    """What is run, and what is compared of it.

    Attributes:
        title: What it is.
        tool: One of tools/, with its options; ``{out}`` is the folder of the run.
            Under several processes its ``dist_*.sh`` starts it.
        needs: The stages whose results it reads.
        config: Makes its config, if it has one of its own.
        files: Patterns of the files that must be equal to the byte.
        metrics: Patterns of the JSON files whose numbers must be equal but for
            rounding.
        weights: The first and the last checkpoint of a training.
        halved: The options that give each of two processes half a batch.
        several: Options with which the tool starts several processes itself.
    """

    title: str
    tool: tuple[str, ...]
    needs: tuple[str, ...] = ()
    config: Callable[[], Config] | None = None
    files: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    weights: tuple[str, str] | None = None
    halved: tuple[str, ...] = ()
    several: tuple[str, ...] | None = None


def demo_config(name: str, changes: dict) -> Config:
    """A config of the demo with other settings, none of which are random."""
    cfg = Config.fromfile(CONFIGS / f"{name}.py")
    loader = dict(num_workers=0, persistent_workers=False)
    common = dict(
        train_dataloader=dict(loader, batch_size=4),
        test_dataloader=dict(loader, batch_size=1),
        val_cfg=None,
        val_dataloader=None,
        val_evaluator=None,
        model=dict(backbone=dict(norm_eval=True)),
        default_hooks=dict(checkpoint=dict(max_keep_ckpts=-1)),
    )
    for settings in (common, changes):
        cfg.merge_from_dict(settings)
    # It is for one process only, which would then round otherwise than two.
    cfg.default_hooks.pop("channels_last", None)
    sgd = dict(type="SGD", lr=0.02, momentum=0.9)
    cfg.optim_wrapper = dict(type="OptimWrapper", optimizer=sgd)
    cfg.param_scheduler = []
    return cfg


def image_level(name: str, changes: dict) -> Config:
    """A config of :func:`demo_config` for image-level labels."""
    data = dict(dataset=dict(data_root="data"))
    cfg = demo_config(
        name,
        dict(
            train_cfg=dict(max_epochs=2),
            train_dataloader=data,
            test_dataloader=data,
            default_hooks=dict(pseudo_label=dict(save_scores=["strided", "full"])),
        ),
    )
    cfg.merge_from_dict(changes)
    return cfg


def classifier() -> Config:
    pipeline = [dict(type="mmwood.LoadImage"), RESIZE, dict(type="PackInputs")]
    dataset = dict(pipeline=pipeline)
    return image_level("classifier", dict(train_dataloader=dict(dataset=dataset)))


def wood() -> Config:
    start = classifier()
    mix = dict(
        _delete_=True,
        type="mmwood.OoDMixDataset",
        in_distribution=start.train_dataloader.dataset,
        ood=dict(type="mmwood.OoDDataset", ann_file="OoD/list.txt", data_root="data"),
        pipeline=start.train_dataloader.dataset.pipeline,
    )
    start.merge_from_dict(
        dict(
            model=dict(head=dict(type="mmwood.WOoDHead", distance_weight=0.3)),
            train_dataloader=dict(
                batch_size=8,
                dataset=mix,
                sampler=dict(
                    _delete_=True,
                    type="mmwood.OoDRatioSampler",
                    in_per_batch=4,
                    ood_per_batch=4,
                ),
            ),
            default_hooks=dict(
                ood_clusters=dict(
                    type="mmwood.OoDClusterHook",
                    clusters=3,
                    # The last bit of a feature depends on the batch.
                    batch_size=1,
                    num_workers=0,
                )
            ),
            load_from=CLASSIFIER,
        )
    )
    return start


def irn() -> Config:
    scores = dict(score_dir=SCORES, score_checkpoint=CLASSIFIER)
    pipeline = [
        dict(type="mmwood.LoadImage"),
        dict(type="mmwood.AffinityLabel", foreground=0.5, background=0.2, refine=None),
        RESIZE,
        dict(type="PackInputs", algorithm_keys=["gt_seg_map"]),
    ]
    return image_level(
        "irn",
        dict(
            model=dict(
                backbone=dict(init_cfg=dict(checkpoint=CLASSIFIER)),
                test_cfg=dict(pad_to=2 * SIDE),
            ),
            train_dataloader=dict(dataset=dict(scores, pipeline=pipeline)),
            test_dataloader=dict(dataset=scores),
            default_hooks=dict(displacement_mean=dict(batch_size=1, num_workers=0)),
        ),
    )


def labels() -> Config:
    """As IRN's, with labels that take some work."""
    cfg = irn()
    step = cfg.train_dataloader.dataset.pipeline[1]
    step.refine = dict(method="pamr", iterations=5, dilations=[1, 2, 4])
    return cfg


def segmentor() -> Config:
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="LoadAnnotations"),
        RESIZE,
        dict(type="PackSegInputs"),
    ]
    train = dict(
        ann_file=f"{LISTS}/train.txt",
        # Pseudo masks would not differ in kind.
        data_prefix=dict(
            img_path="data/JPEGImages", seg_map_path="data/SegmentationClass"
        ),
        pipeline=pipeline,
    )
    switch = dict(
        _delete_=True,
        type="mmwood.EWCHook",
        mode="switch",
        switch_at=3,
        weight=1.0,
        num_workers=0,
    )
    return demo_config(
        "segmentor_sbce",
        dict(
            model=dict(
                data_preprocessor=dict(size=(SIDE, SIDE)),
                backbone=dict(init_cfg=dict(checkpoint=CLASSIFIER)),
                decode_head=dict(loss_decode=dict(avg_non_ignore=False)),
            ),
            train_cfg=dict(max_iters=6),
            train_dataloader=dict(dataset=train),
            test_dataloader=dict(dataset=dict(data_root="data")),
            default_hooks=dict(checkpoint=dict(interval=1), ewc=switch),
            load_from=None,
        ),
    )


HALF = "train_dataloader.batch_size=2"
PSEUDO = ("pseudo_labels/**/*", "seed_curve.json")
EPOCHS = ("epoch_1.pth", "epoch_2.pth")
TEST = ("--work-dir", "{out}", "--out", "{out}/metrics.json")
STAGES = {
    "classifier": Stage(
        "classifier, training",
        ("train.py", "configs/classifier.py", "--work-dir", "{out}"),
        config=classifier,
        weights=EPOCHS,
        halved=(HALF,),
    ),
    "wood": Stage(
        "W-OoD: clusters, training",
        ("train.py", "configs/wood.py", "--work-dir", "{out}"),
        needs=("classifier",),
        config=wood,
        files=("ood_clusters/*",),
        weights=EPOCHS,
        halved=(
            "train_dataloader.batch_size=4",
            "train_dataloader.sampler.in_per_batch=2",
            "train_dataloader.sampler.ood_per_batch=2",
        ),
    ),
    "mining": Stage(
        "mining of OoD candidates",
        (
            *("mine_ood.py", "configs/classifier.py", CLASSIFIER, "--threshold", "0.3"),
            *("--candidates", "data/OoD/list.txt", "--root", "data"),
            *("--work-dir", "{out}", "--out", "{out}/ood.csv"),
        ),
        needs=("classifier",),
        files=("ood.csv", "ood.json", "unreadable.txt"),
    ),
    "seeds": Stage(
        "maps and seeds, --tta",
        ("test.py", "configs/classifier.py", CLASSIFIER, "--tta", *TEST),
        needs=("classifier",),
        files=PSEUDO,
        metrics=("metrics.json",),
    ),
    "labels": Stage(
        "IRN's labels, workers",
        ("make_affinity_labels.py", "configs/labels.py", "--out", "{out}"),
        needs=("seeds",),
        config=labels,
        files=("**/*",),
        several=("--workers", "2"),
    ),
    "irn": Stage(
        "IRN, training",
        ("train.py", "configs/irn.py", "--work-dir", "{out}"),
        needs=("seeds",),
        config=irn,
        weights=EPOCHS,
        halved=(HALF,),
    ),
    "masks": Stage(
        "IRN, pseudo masks",
        ("test.py", "configs/irn.py", "irn/1/epoch_2.pth", *TEST),
        needs=("irn",),
        files=PSEUDO,
        metrics=("metrics.json",),
    ),
    "segmentor": Stage(
        "segmentor: CE, Fisher, SB-CE and EWC",
        ("train.py", "configs/segmentor.py", "--work-dir", "{out}"),
        needs=("classifier",),
        config=segmentor,
        weights=("iter_1.pth", "iter_6.pth"),
        halved=(HALF,),
    ),
    "segmentor_test": Stage(
        "segmentor, test",
        ("test.py", "configs/segmentor.py", "segmentor/1/iter_6.pth", *TEST),
        needs=("segmentor",),
        metrics=("metrics.json", "ia_iou.json"),
    ),
}


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=list(STAGES),
        default=list(STAGES),
        metavar="STAGE",
        help=f"compare these only, of {', '.join(STAGES)}",
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=1e-2,
        help="largest difference of a layer's weights (norm), as a fraction of what "
        "training changed (default: 0.01; rounding gives 0.001 or less)",
    )
    parser.add_argument(
        "--work-dir", type=Path, help="keep all files in this folder, which is new"
    )
    return parser.parse_args()


def run(
    work: Path, name: str, processes: int, stage: Stage, more: tuple[str, ...] = ()
) -> None:
    """Run a stage, with more options; an error ends the program and shows its own."""
    out = f"{name}/{processes}"
    tool, *options = (part.format(out=out) for part in stage.tool)
    start = [sys.executable, "-W", "ignore", str(TOOLS / tool)]
    if processes > 1 and stage.several is not None:
        options += stage.several
    elif processes > 1:
        # train.py, test.py and mine_ood.py.
        script = f"dist_{Path(tool).stem.partition('_')[0]}.sh"
        start = ["bash", str(TOOLS / script)]
        # After the config, and the checkpoint where there is one.
        options.insert(next(n for n, o in enumerate(options) if o[:2] == "--"), "2")
        if stage.halved:
            options += ["--cfg-options", *stage.halved]
    options += more
    result = subprocess.run(
        [*start, *options],
        cwd=work,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    (work / f"{name}_{processes}.log").write_text(result.stdout)
    if result.returncode:
        end = "\n".join(result.stdout.splitlines()[-60:])
        sys.exit(
            f"{end}\nThe stage {name} failed with {processes} process(es): "
            f"{' '.join([*start, *options])}"
        )


def draw_data(work: Path) -> None:
    """The built-in images that all stages read, in ``data``."""
    counts = [f"--{split}={count}" for split, count in IMAGES.items()]
    draw = TOOLS / "dataset_converters/context_shapes.py"
    subprocess.run(
        [sys.executable, draw, work / "data", f"--size={SIDE}", *counts],
        env=environment(),
        stdout=subprocess.DEVNULL,
        check=True,
    )


def environment() -> dict[str, str]:
    """One thread a process, and a free port for the scripts."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return dict(
        os.environ,
        PYTHONPATH=f"{TOOLS.parent}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
        OMP_NUM_THREADS="1",
        # The scripts call `python`.
        PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        PORT=str(port),
        PYTHONWARNINGS="ignore",
    )


def same_files(work: Path, name: str) -> tuple[int, int]:
    """How many files there are, and how many of them are equal."""
    hashes = [
        {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
            for pattern in STAGES[name].files
            for path in folder.glob(pattern)
            if path.is_file()
        }
        for folder in (work / name / "1", work / name / "2")
    ]
    names = hashes[0].keys() | hashes[1].keys()
    return len(names), sum(hashes[0].get(n) == hashes[1].get(n) for n in names)


def metric_difference(work: Path, name: str) -> float:
    """The largest difference of any number; infinite where one is missing."""
    largest = 0.0
    for file in STAGES[name].metrics:
        one, two = (
            dict(numbers(json.loads((work / name / n / file).read_text())))
            for n in ("1", "2")
        )
        for key in one.keys() | two.keys():
            a, b = one.get(key, math.inf), two.get(key, -math.inf)
            if not (math.isnan(a) and math.isnan(b)):
                largest = max(largest, abs(a - b))
    return largest


def numbers(content: object, place: str = "") -> Iterator[tuple[str, float]]:
    """All numbers of a JSON value, each with its place."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from numbers(value, f"{place}/{key}")
    elif isinstance(content, list):
        for number, value in enumerate(content):
            yield from numbers(value, f"{place}/{number}")
    elif isinstance(content, (int, float)):
        yield place, float(content)


def weight_difference(work: Path, name: str) -> tuple[float, str]:
    """The largest difference of a layer, as a fraction of its change, and its name."""
    first, last = STAGES[name].weights
    start, one, two = (
        torch.load(work / name / path, map_location="cpu", weights_only=False)[
            "state_dict"
        ]
        for path in (f"1/{first}", f"1/{last}", f"2/{last}")
    )
    if one.keys() != two.keys():
        return math.inf, "names of the layers"
    fractions = {}
    for key, value in one.items():
        difference = (two[key].double() - value.double()).norm().item()
        # IRN's mean displacement is measured at the end alone: NaN at the start.
        change = (value.double() - start[key].double().nan_to_num()).norm().item()
        if difference == 0:
            fractions[key] = 0.0
        else:
            # What is not trained must not differ at all, and NaN is a difference.
            fraction = difference / change if change else math.nan
            fractions[key] = math.inf if math.isnan(fraction) else fraction
    worst = max(fractions, key=fractions.__getitem__)
    return fractions[worst], worst


def compare(work: Path, name: str, tolerance: float) -> tuple[list[str], bool]:
    """A row of the table, and whether all is within its tolerance."""
    stage = STAGES[name]
    files, equal = same_files(work, name)
    row = [stage.title, str(files or "-"), str(equal) if files else "-"]
    good = equal == files and bool(files) == bool(stage.files)
    if stage.metrics:
        difference = metric_difference(work, name)
        good = good and difference <= METRIC_TOLERANCE
        row.append(f"{difference:.1e}")
    else:
        row.append("-")
    if stage.weights:
        difference, layer = weight_difference(work, name)
        good = good and difference <= tolerance
        row.append(f"{difference:.1e} ({layer})")
    else:
        row.append("-")
    return [*row, "yes" if good else "NO"], good


def main() -> None:
    args = parse_args()
    needed = set(args.stages)
    for name in reversed(STAGES):
        if name in needed:
            needed.update(STAGES[name].needs)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        if args.work_dir is not None:
            work = args.work_dir.resolve()
            if work.exists() and any(work.iterdir()):
                sys.exit(f"--work-dir: {work} is not empty")
        (work / "configs").mkdir(parents=True, exist_ok=True)
        draw_data(work)
        rows, failed, start = [], [], time.monotonic()
        for name in tqdm([n for n in STAGES if n in needed], disable=None):
            if STAGES[name].config is not None:
                STAGES[name].config().dump(work / f"configs/{name}.py")
            run(work, name, 1, STAGES[name])
            if name in args.stages:
                run(work, name, 2, STAGES[name])
                row, good = compare(work, name, args.tolerance)
                rows.append(row)
                if not good:
                    failed.append(name)
    table = PrettyTable(
        [
            *("stage", "files", "equal", "metrics differ by"),
            *("weights differ by, of their change", "good"),
        ],
        align="l",
    )
    table.add_rows(rows)
    print(table)
    print(f"One against two processes, {time.monotonic() - start:.0f} s")
    if failed:
        sys.exit(f"not the same: {', '.join(failed)}")


if __name__ == "__main__":
    main()
