#!/usr/bin/env python
"""Where a classifier places out-of-distribution images (W-OoD's figure 7).

t-SNE of the pooled features of in-distribution images of some classes, and of the OoD
images that the first checkpoint takes for these classes: one panel a checkpoint, with
the same images in all of them. CONFIG has a mmwood.OoDMixDataset to train with.

Example:
    python tools/analysis_tools/tsne.py configs/wood/resnet50_wood_voc12aug.py \
        work_dirs/irn/epoch_5.pth work_dirs/wood/epoch_5.pth \
        --classes train boat --out tsne.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm import tqdm

from mmwood.fileio.tables import write_table
from mmwood.utils.command import (
    add_cfg_options,
    add_figure_option,
    load_config,
    refuse_below,
    run,
    script_parser,
)
from mmwood.visualization.charts import CLASS_COLOURS, save_embeddings
from mmwood.visualization.figures import numbers_path

if TYPE_CHECKING:
    from mmengine.dataset import BaseDataset
    from mmengine.runner import Runner
    from torch.utils.data import Subset


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="config file")
    parser.add_argument(
        "checkpoints", nargs="+", metavar="checkpoint", help="checkpoint files"
    )
    parser.add_argument(
        "--classes", nargs="+", required=True, help="names of classes of the data set"
    )
    parser.add_argument(
        "--max-images",
        type=int,
        default=300,
        help="draw at random if a class has more images, of either kind, than these",
    )
    parser.add_argument("--perplexity", type=float, default=30, help="of the t-SNE")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of drawing and t-SNE"
    )
    add_figure_option(parser, "its points go to a CSV")
    parser.add_argument("--work-dir", help="folder of logs (default: work_dirs/CONFIG)")
    add_cfg_options(parser)
    args = parser.parse_args()
    args.classes = list(dict.fromkeys(args.classes))
    if len(args.classes) > len(CLASS_COLOURS):
        parser.error(
            f"--classes: no more than {len(CLASS_COLOURS)} can be told apart by "
            f"colour, got {len(args.classes)}"
        )
    refuse_below(parser, args, ["max_images"])
    if args.perplexity <= 0:
        parser.error(f"--perplexity must be positive, got {args.perplexity}")
    return args


def load_weights(runner: "Runner", path: str, classes: Sequence[str]) -> None:
    """Load a checkpoint of the whole model, made for these classes."""
    from mmengine.runner import load_checkpoint

    from mmwood.engine import CheckpointGuardHook

    checkpoint = load_checkpoint(runner.model, path, map_location="cpu")
    guard = CheckpointGuardHook(min_share=1)
    guard.check(f"the checkpoint {path}", checkpoint, runner.model, whole=True)
    known = (checkpoint.get("meta", {}).get("dataset_meta") or {}).get("classes")
    if known is not None and tuple(known) != tuple(classes):
        raise ValueError(
            f"the checkpoint {path} was trained on the classes {tuple(known)}, the "
            f"data set has {tuple(classes)}"
        )


def in_distribution_images(
    dataset: "BaseDataset", wanted: Sequence[int]
) -> list[np.ndarray]:
    """For each wanted class, the images that show it and none of the others."""
    shown = [
        set(dataset.get_data_info(index)["gt_label"]).intersection(wanted)
        for index in range(len(dataset))
    ]
    return [np.flatnonzero([found == {label} for found in shown]) for label in wanted]


def subset(dataset: "BaseDataset", indices: Sequence[int]) -> "Subset":
    """Some images of an mmengine data set."""
    from torch.utils.data import Subset

    class ImageSubset(Subset):
        def get_data_info(self, idx: int) -> dict:
            return self.dataset.get_data_info(self.indices[idx])

    return ImageSubset(dataset, indices)


def draw(
    groups: Sequence[np.ndarray], limit: int, rng: np.random.Generator
) -> list[np.ndarray]:
    """At most ``limit`` of each group, in the order of the group."""
    return [
        group
        if len(group) <= limit
        else np.sort(rng.choice(group, size=limit, replace=False))
        for group in groups
    ]


def embed(
    features: np.ndarray, previous: np.ndarray | None, perplexity: float, seed: int
) -> np.ndarray:
    """t-SNE of features, from another embedding of the same images if there is one.

    Shape:
        - features: (N, D); previous: (N, 2); output: (N, 2) float32
    """
    from sklearn.manifold import TSNE

    start = dict(init="pca")
    if previous is not None:
        # Exaggeration would scatter the start: equal features would give two pictures.
        start = dict(init=previous, early_exaggeration=1.0)
    tsne = TSNE(perplexity=perplexity, random_state=seed, **start)
    return tsne.fit_transform(features)


def panel_titles(checkpoints: Sequence[str]) -> list[str]:
    """Stems of the checkpoints, with their folder where stems repeat."""
    stems = [Path(path).stem for path in checkpoints]
    if len(set(stems)) == len(stems):
        return stems
    titles = [
        f"{Path(path).absolute().parent.name}/{Path(path).stem}" for path in checkpoints
    ]
    if len(set(titles)) < len(titles):
        raise ValueError(
            f"the checkpoints {list(checkpoints)} have the same folder and name: give "
            "them different ones, they are the titles of the panels"
        )
    return titles


def embeddings(
    args: argparse.Namespace,
) -> tuple[dict, list[str], list[bool], list[str]]:
    """Points by panel; class, kind and path of the images.

    Raises:
        ValueError: The config, a class, a checkpoint or the perplexity does not fit.
    """
    from mmwood.engine import OoDClusterHook
    from mmwood.engine.features import extract_features
    from mmwood.engine.ood_size import ood_pipeline
    from mmwood.engine.runner import build_runner

    titles = panel_titles(args.checkpoints)
    cfg = load_config(args)
    loader = cfg.get("test_dataloader") or {}
    pipeline = loader.get("dataset", {}).get("pipeline")
    if pipeline is None:
        raise ValueError(
            f"{args.config} has no test_dataloader.dataset.pipeline: expected "
            "transforms without augmentation"
        )
    runner = build_runner(cfg)
    model, dataset = runner.model, runner.train_dataloader.dataset
    if not hasattr(dataset, "ood"):
        raise ValueError(
            f"{args.config}: train_dataloader.dataset must be a mmwood.OoDMixDataset, "
            f"it is a {type(dataset).__name__}"
        )
    classes = list(dataset.metainfo["classes"])
    unknown = [name for name in args.classes if name not in classes]
    if unknown:
        raise ValueError(f"--classes: {unknown} are not among {classes}")
    wanted = [classes.index(name) for name in args.classes]
    # As the centres of the clusters were made.
    hooks = [hook for hook in runner.hooks if isinstance(hook, OoDClusterHook)]
    resized, _ = ood_pipeline(
        pipeline,
        hooks[0].ood_size if hooks else "in_distribution",
        lambda: dataset.in_distribution,
        "default_hooks.ood_clusters.ood_size",
    )

    def features(part: "BaseDataset", label: str, ood: bool):
        return extract_features(
            model,
            part,
            resized if ood else pipeline,
            batch_size=loader.get("batch_size", 16),
            num_workers=loader.get("num_workers", 2),
            label=label,
        )

    rng = np.random.default_rng(args.seed)
    inside = draw(
        in_distribution_images(dataset.in_distribution, wanted), args.max_images, rng
    )
    for name, group in zip(args.classes, inside):
        if not len(group):
            raise ValueError(
                f"--classes: no in-distribution image shows {name} and none of the "
                "other chosen classes"
            )
    load_weights(runner, args.checkpoints[0], classes)
    first = features(dataset.ood, f"{titles[0]}, all OoD", ood=True)
    taken_for = first.scores.argmax(dim=1).numpy()
    outside = [np.flatnonzero(taken_for == label) for label in wanted]
    for name, group in zip(args.classes, outside):
        print(f"OoD images that {titles[0]} takes for {name}: {len(group)}")
    outside = draw(outside, args.max_images, rng)
    names = [
        name
        for groups in (inside, outside)
        for name, group in zip(args.classes, groups)
        for _ in group
    ]
    inside, outside = np.concatenate(inside).tolist(), np.concatenate(outside).tolist()
    if args.perplexity >= len(names):
        raise ValueError(
            f"--perplexity must be below the number of images, {len(names)}, got "
            f"{args.perplexity:g}"
        )
    images = [
        part.get_data_info(index)["img_path"]
        for part, indices in ((dataset.in_distribution, inside), (dataset.ood, outside))
        for index in indices
    ]
    points = {}
    panels = list(zip(titles, args.checkpoints))
    for title, path in tqdm(panels, desc="t-SNE", disable=None):
        load_weights(runner, path, classes)
        parts = [
            features(subset(part, indices), f"{title}, {kind}", kind == "OoD")
            for part, indices, kind in (
                (dataset.in_distribution, inside, "in distribution"),
                (dataset.ood, outside, "OoD"),
            )
            if indices
        ]
        z = np.concatenate([part.z.numpy() for part in parts])
        previous = list(points.values())[-1] if points else None
        points[title] = embed(z, previous, args.perplexity, args.seed)
    is_ood = [False] * len(inside) + [True] * len(outside)
    return points, names, is_ood, images


def main() -> None:
    args = parse_args()
    for path in args.checkpoints:
        if not Path(path).is_file():
            raise FileNotFoundError(f"checkpoint: there is no file {path}")
    numbers = numbers_path(args.out, ".csv")
    points, names, is_ood, images = embeddings(args)
    save_embeddings(points, names, is_ood, args.out)
    rows = [
        (title, image, name, int(ood), f"{x:.6g}", f"{y:.6g}")
        for title, panel in points.items()
        for image, name, ood, (x, y) in zip(images, names, is_ood, panel)
    ]
    write_table(numbers, ("panel", "image", "class", "ood", "x", "y"), rows)
    print(f"figure: {args.out}\npoints: {numbers}")


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv", "mmpretrain"))
