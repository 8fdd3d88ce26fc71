#!/usr/bin/env python
"""What an image costs in every stage: CPU time, memory and bytes on disk.

The networks are the published ones (configs of PASCAL VOC 2012, random weights), the
images 500 x 375 pixels, drawn. Each stage runs in a process of its own with one thread.
Time is CPU time of that process, which others on the machine change less than they
change the time that passes; the first run is not counted. Memory is the peak with one
image, and what a further image of a batch adds. docs/scaling.md multiplies these
numbers.
"""

import argparse
import csv
import logging
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate, pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import (
    DATASETS,
    MODELS,
    DefaultScope,
    init_default_scope,
)
from PIL import Image
from prettytable import PrettyTable

from mmwood.converters.context_shapes import generate
from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import LabelFolder, ScoreMaps, save_score_maps
from mmwood.fileio.labels import save_label_png
from mmwood.fileio.mining_results import Finding, Shard
from mmwood.functional.cam import seed_from_cam
from mmwood.ood.candidates import write_candidate_list
from mmwood.ood.results import write_results
from mmwood.utils.config import without_names

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
SIZE = (500, 375)
CLASSES = ("aeroplane", "bird", "boat", "car", "sheep", "train")
#: A unit of ru_maxrss in megabytes: bytes on macOS, kibibytes elsewhere.
UNIT = (2**20 if sys.platform == "darwin" else 2**10) / 1e6
#: Images of lists, which are cheap.
LISTED = 20000


class Data:
    """The drawn images, below one folder.

    Args:
        root: The folder.
        images: How many.
    """

    def __init__(self, root: Path, images: int) -> None:
        self.root = root
        self.images = images

    def draw(self) -> None:
        """Draw the images and their masks, and maps as of a fair classifier."""
        generate(self.root / "drawn", train=self.images, val=1, ood=1, size=SIZE[0])
        for number, info in enumerate(self.infos()):
            drawn = self.root / "drawn"
            with Image.open(drawn / f"JPEGImages/train_{number:06d}.jpg") as image:
                picture = image.convert("RGB").resize(SIZE)
            with Image.open(
                drawn / f"SegmentationClass/train_{number:06d}.png"
            ) as image:
                mask = np.array(image.resize(SIZE, Image.Resampling.NEAREST))
            mask[mask > len(CLASSES)] = 0
            picture.save(self.root / f"{info['img_id']}.jpg", quality=90)
            save_label_png(mask, info["seg_map_path"])
            classes = np.setdiff1d(np.unique(mask), [0]).astype(np.int64) - 1
            full = np.stack([_soft(mask == c + 1) for c in classes])
            maps = ScoreMaps(
                classes=classes,
                scores=np.ones(20, dtype=np.float32),
                strided=full[:, ::4, ::4].astype(np.float16),
                full=full.astype(np.float16),
            )
            save_score_maps(info["score_path"], maps)

    def infos(self) -> list[dict]:
        """What a data set says of each image."""
        names = [f"image_{number}" for number in range(self.images)]
        return [
            dict(
                img_id=name,
                img_path=str(self.root / f"{name}.jpg"),
                seg_map_path=str(self.root / f"{name}.png"),
                score_path=str(LabelFolder(self.root).scores(name)),
                gt_label=[number % len(CLASSES)],
                sample_idx=number,
                seg_fields=[],
                reduce_zero_label=False,
            )
            for number, name in enumerate(names)
        ]


def _soft(mask: np.ndarray) -> np.ndarray:
    """A mask with soft borders, from 0 to 1."""
    small = Image.fromarray(mask.astype(np.uint8) * 255).resize((32, 24))
    return np.asarray(small.resize(SIZE, Image.Resampling.BICUBIC)) / 255.0


# ---------------------------------------------------------------------------
# Stages: functions of (data, batch) that give a function of one run over `batch`
# images.
# ---------------------------------------------------------------------------
def load_config(name: str) -> Config:
    cfg = Config.fromfile(CONFIGS / name)
    init_default_scope(cfg.default_scope)
    cfg.model.backbone.pop("init_cfg", None)
    return cfg


def build(cfg: Config) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS.build(cfg.model)


def loaded(data: Data, pipeline: list, count: int, collate: Callable) -> dict:
    steps = Compose(pipeline)
    return collate([steps(dict(info)) for info in data.infos()[:count]])


def training(config: str):
    """A step of a training: loss, gradients and the optimizer's step."""

    def stage(data: Data, batch: int) -> Callable[[], object]:
        cfg = load_config(config)
        model = build(cfg).train()
        steps = train_pipeline(cfg)
        is_seg = cfg.default_scope == "mmseg"
        collate = pseudo_collate if is_seg else default_collate
        inputs = loaded(data, steps, batch, collate)
        wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
        return lambda: model.train_step(inputs, wrapper)

    return stage


def train_pipeline(cfg: Config) -> list:
    """The training's, with labels made on the way instead of read."""
    steps = without_names(cfg.train_dataloader.dataset.pipeline, "pipeline")
    for number, step in enumerate(steps):
        if step.type == "mmwood.AffinityLabel":
            steps[number] = dict(step, folder=None, refine=None, maps="full")
    return steps


def loading(config: str):
    """Decoding and augmentation of a training, by a loading process."""

    def stage(data: Data, batch: int) -> Callable[[], object]:
        cfg = load_config(config)
        steps = Compose(train_pipeline(cfg))
        return lambda: [steps(dict(info)) for info in data.infos()[:batch]]

    return stage


def prediction(config: str, tta: bool = False, **test_cfg: object):
    """Loading, the network and what follows, one image after the other."""

    def stage(data: Data, batch: int) -> Callable[[], object]:
        cfg = load_config(config)
        if test_cfg:
            cfg.model.test_cfg = dict(cfg.model.get("test_cfg") or {}, **test_cfg)
        pipeline = cfg.test_dataloader.dataset.pipeline
        if tta:
            cfg.model = dict(cfg.tta_model, module=cfg.model)
            pipeline = cfg.tta_pipeline
        model = build(cfg).eval()

        @torch.no_grad()
        def run() -> None:
            for info in data.infos()[:batch]:
                sample = Compose(pipeline)(dict(info))
                model.test_step(pseudo_collate([sample]))

        return run

    return stage


def affinity_labels(method: str):
    def stage(data: Data, batch: int) -> Callable[[], object]:
        cfg = load_config("irn/resnet50_irn_voc12aug.py")
        steps = cfg.train_dataloader.dataset.pipeline
        refine = dict(method=method)
        steps = Compose([steps.load, dict(steps.label, folder=None, refine=refine)])
        return lambda: [steps(dict(info)) for info in data.infos()[:batch]]

    return stage


def writing(data: Data, batch: int) -> Callable[[], object]:
    """Score maps, strided, and the label: what PseudoLabelHook writes."""
    maps = [np.load(info["score_path"]) for info in data.infos()[:batch]]
    maps = [ScoreMaps(**{key: file[key] for key in file.files}) for file in maps]

    def run() -> None:
        for number, item in enumerate(maps):
            cam = torch.from_numpy(item.full).float()
            label = seed_from_cam(cam, torch.from_numpy(item.classes), 0.15).numpy()
            save_label_png(label, data.root / f"written/labels/{number}.png")
            strided = ScoreMaps(item.classes, item.scores, item.strided)
            folder = LabelFolder(data.root / "written")
            save_score_maps(folder.scores(str(number)), strided)

    return run


def seed_metric(data: Data, batch: int) -> Callable[[], object]:
    from mmengine.structures import PixelData
    from mmpretrain.structures import DataSample

    from mmwood.evaluation import SeedMetric

    metric = SeedMetric()
    metric.dataset_meta = dict(classes=list(CLASSES))
    samples = []
    for info in data.infos()[:batch]:
        file = np.load(info["score_path"])
        with Image.open(info["seg_map_path"]) as image:
            mask = torch.from_numpy(np.array(image))[None]
        sample = DataSample()
        sample.set_field(torch.from_numpy(file["full"]), "cam")
        sample.set_field(torch.from_numpy(file["classes"]), "cam_classes")
        sample.set_field(PixelData(data=mask), "gt_sem_seg")
        samples.append(sample.to_dict())
    return lambda: metric.process({}, samples)


def ia_iou(data: Data, batch: int) -> Callable[[], object]:
    from mmwood.evaluation import IAIoUMetric

    metric = IAIoUMetric()
    metric.dataset_meta = dict(classes=["background", *CLASSES])
    samples = []
    for info in data.infos()[:batch]:
        with Image.open(info["seg_map_path"]) as image:
            mask = torch.from_numpy(np.array(image))[None]
        moved = mask.roll(5, dims=2)
        samples.append(
            dict(
                img_path=info["img_path"],
                pred_sem_seg=dict(data=moved),
                gt_sem_seg=dict(data=mask),
            )
        )
    return lambda: metric.process({}, samples)


CLASSIFIER = "classification/resnet50_voc12aug.py"
IRN = "irn/resnet50_irn_voc12aug.py"
SEGMENTOR = "sbce/deeplabv2_r101_voc_task-b.py"
#: Stage by name: what it is, the stage, and whether the images of a batch are in memory
#: together.
STAGES: dict[str, tuple[str, Callable, bool]] = {
    "classifier_load": (
        "classifier, training: loading, crop 512",
        loading(CLASSIFIER),
        False,
    ),
    "classifier": (
        "classifier, training: step, ResNet-50, crop 512",
        training(CLASSIFIER),
        True,
    ),
    "mining": (
        "mining; W-OoD's features: one pass",
        prediction(CLASSIFIER, cam_labels="none"),
        False,
    ),
    "cam": ("maps: 4 scales and flips", prediction(CLASSIFIER, tta=True), False),
    "write": ("maps: label and strided scores written", writing, False),
    "seed_metric": ("maps: SeedMetric, 100 thresholds", seed_metric, False),
    "labels_crf": ("IRN's labels: dense CRF", affinity_labels("crf"), False),
    "labels_pamr": ("IRN's labels: PAMR", affinity_labels("pamr"), False),
    "irn": ("IRN, training: step, crop 512", training(IRN), True),
    "masks": ("pseudo masks: edges, random walk", prediction(IRN), False),
    "walk": ("the same without the walk (0 steps)", prediction(IRN, steps=0), False),
    "segmentor_load": (
        "segmentor, training: loading, crop 321",
        loading(SEGMENTOR),
        False,
    ),
    "segmentor": (
        "segmentor, training: step, ResNet-101, crop 321",
        training(SEGMENTOR),
        True,
    ),
    "segmentor_test": ("segmentor, test: one scale", prediction(SEGMENTOR), False),
    "ia_iou": ("segmentor, test: IAIoUMetric", ia_iou, False),
}


def peak() -> float:
    """Peak memory of this process in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def measure(name: str, root: Path, images: int, repeats: int) -> dict:
    """CPU seconds an image, peak memory, and memory of a further image."""
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    data = Data(root, images)
    DefaultScope.get_instance("rates", scope_name="mmpretrain")
    title, stage, together = STAGES[name]
    run = stage(data, 1)
    run()
    first = peak()
    if images > 1:
        run = stage(data, images)
        run()
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        run()
        seconds.append((time.process_time() - start) / images)
    more = None
    if together and images > 1:
        more = (peak() - first) / (images - 1)
    return dict(
        title=title,
        cpu_seconds=statistics.median(seconds),
        peak_mb=first,
        mb_per_further_image=more,
    )


def measure_lists(root: Path) -> dict:
    """Time, memory and bytes of lists: of a data set, of candidates, of mining."""
    logging.disable(logging.WARNING)
    init_default_scope("mmpretrain")
    folder = root / "listed"
    folder.mkdir()
    for number in range(LISTED):
        os.link(root / "image_0.jpg", folder / f"{number:08d}.jpg")
    with open(folder / "tags.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "labels"])
        for number in range(LISTED):
            writer.writerow([f"{number:08d}.jpg", CLASSES[number % len(CLASSES)]])
    cfg = dict(
        type="mmwood.ImageLevelDataset",
        ann_file="tags.csv",
        classes=list(CLASSES),
        data_root=str(folder),
        data_prefix=dict(img_path=""),
    )
    results = {}
    # What is imported and cached at the first use is not counted.
    DATASETS.build(dict(cfg, check="header"))
    for check in ("none", "header"):
        start = time.process_time()
        dataset = DATASETS.build(dict(cfg, check=check))
        results[f"dataset_{check}_us"] = (time.process_time() - start) / LISTED * 1e6
    results["dataset_kept_bytes"] = len(dataset.data_bytes) / LISTED
    tracemalloc.start()
    DATASETS.build(dict(cfg, check="none"))
    results["dataset_peak_bytes"] = tracemalloc.get_traced_memory()[1] / LISTED
    tracemalloc.stop()

    start = time.process_time()
    write_candidate_list(folder, root / "candidates.txt")
    results["candidates_us"] = (time.process_time() - start) / LISTED * 1e6
    size = (root / "candidates.txt").stat().st_size
    results["candidates_bytes"] = size / LISTED
    # One in ten candidates fools the classifier.
    part = Shard(root / "mining/part_0000_0000.sqlite", dict(classes=list(CLASSES)))
    start = time.process_time()
    for first in range(0, LISTED, 16):
        part.add(
            Finding(
                number,
                str(folder / f"{number:08d}.jpg"),
                top=0.5,
                classes=[(number % len(CLASSES), 0.75)] if number % 10 == 0 else [],
                sha256="0" * 64,
            )
            for number in range(first, min(first + 16, LISTED))
        )
    part.close()
    results["mining_us"] = (time.process_time() - start) / LISTED * 1e6
    results["mining_bytes"] = part.path.stat().st_size / LISTED
    start = time.process_time()
    summary = write_results(
        part.path.parent, root / "ood.csv", LISTED, unreadable=root / "unreadable.txt"
    )
    results["manifest_us"] = (time.process_time() - start) / LISTED * 1e6
    results["manifest_bytes_per_row"] = (root / "ood.csv").stat().st_size / summary[
        "rows"
    ]
    return results


def file_sizes(root: Path, images: int) -> dict:
    """Bytes of the files of an image."""
    data = Data(root, images)
    sizes: dict[str, list[float]] = {"jpeg": [], "label_png": [], "map_pixels": []}
    for key in ("strided", "full", "overhead"):
        sizes[f"scores_{key}"] = []
    for info in data.infos():
        sizes["jpeg"].append(Path(info["img_path"]).stat().st_size)
        sizes["label_png"].append(Path(info["seg_map_path"]).stat().st_size)
        with np.load(info["score_path"]) as file:
            strided, full = file["strided"].nbytes, file["full"].nbytes
            maps = len(file["classes"])
        sizes["scores_strided"].append(strided / maps)
        sizes["scores_full"].append(full / maps)
        whole = Path(info["score_path"]).stat().st_size
        sizes["scores_overhead"].append(whole - strided - full)
        sizes["map_pixels"].append(maps)
    return {key: statistics.mean(values) for key, values in sizes.items()}


def in_process(function: Callable, *arguments: object) -> dict:
    """A function's result from a process of its own, which has its own peak."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, arguments)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=2, help="of a batch (default: 2)")
    parser.add_argument("--repeats", type=int, default=1, help="timed runs of a stage")
    parser.add_argument(
        "--stages",
        nargs="+",
        choices=[*STAGES, "lists"],
        default=[*STAGES, "lists"],
        metavar="STAGE",
        help=f"measure these only, of {', '.join(STAGES)} and lists",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers")
    args = parser.parse_args()
    if args.images < 1 or args.repeats < 1:
        parser.error("--images and --repeats must be at least 1")
    os.environ["OMP_NUM_THREADS"] = "1"
    results: dict[str, dict] = {}
    table = PrettyTable(
        ["stage", "CPU s an image", "images an hour", "peak MB", "MB a further image"],
        align="r",
    )
    table.align["stage"] = "l"
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        Data(root, args.images).draw()
        for name in args.stages:
            if name == "lists":
                continue
            try:
                row = in_process(measure, name, root, args.images, args.repeats)
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
                continue
            results[name] = row
            more = row["mb_per_further_image"]
            print(f"{row['title']}: {row['cpu_seconds']:.3g} s", file=sys.stderr)
            table.add_row(
                [
                    row["title"],
                    f"{row['cpu_seconds']:.3g}",
                    f"{3600 / row['cpu_seconds']:,.0f}",
                    f"{row['peak_mb']:,.0f}",
                    "-" if more is None else f"{more:,.0f}",
                ]
            )
        results["files"] = file_sizes(root, args.images)
        if "lists" in args.stages:
            results["lists"] = in_process(measure_lists, root)
    print(f"Batches of {args.images}, one thread, {torch.__version__}")
    print(table)
    for title in ("files", "lists"):
        for key, value in results.get(title, {}).items():
            print(f"{title}: {key} {value:,.1f}")
    if args.json is not None:
        write_json(args.json, results)


if __name__ == "__main__":
    main()
