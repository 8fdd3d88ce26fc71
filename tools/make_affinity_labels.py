#!/usr/bin/env python
"""Make the labels that IRN is trained with, once and in parallel.

CONFIG is IRN's: the pipeline of its train_dataloader.dataset has a
mmwood.AffinityLabel, and score_dir names the score maps. Labels that are there and
whole are kept, so a run that was ended continues where it was. Training reads them when
the AffinityLabel's `folder` names their folder.

Example:
    python tools/make_affinity_labels.py CONFIG --workers 8
"""

import argparse
from typing import TYPE_CHECKING

from mmwood.utils.command import (
    add_cfg_options,
    load_config,
    refuse_below,
    run,
    script_parser,
)
from mmwood.utils.config import leaf_datasets, type_name

if TYPE_CHECKING:
    from mmengine.config import Config, ConfigDict
    from mmengine.dataset import BaseDataset

    from mmwood.fileio.label_folder import LabelFolder


class LabelFiles:
    """A data set that writes its images' labels instead of returning them.

    Args:
        dataset: A data set whose pipeline ends with a mmwood.AffinityLabel.
        folder: Folder to write to.
    """

    def __init__(self, dataset: "BaseDataset", folder: "LabelFolder") -> None:
        self.dataset = dataset
        self.folder = folder

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[bool, float]:
        """Whether the label was there, and which fraction of it is void."""
        from mmwood.fileio.labels import VOID, read_label_png, save_label_png

        path = self.folder.label(self.dataset.get_data_info(index)["img_id"])
        try:
            label = read_label_png(path)
        except (OSError, ValueError):
            label = None
        is_there = label is not None
        if not is_there:
            label = self.dataset[index]["gt_seg_map"]
            save_label_png(label, path)
        return is_there, float((label == VOID).mean())


def parse_args() -> argparse.Namespace:
    parser = script_parser(__doc__)
    parser.add_argument("config", help="config file of an IRN")
    parser.add_argument(
        "--out",
        metavar="DIR",
        help="folder to write to (default: the AffinityLabel's `folder`)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes (default: the config's train_dataloader.num_workers)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove the labels in the folder, whatever made them, and make all anew",
    )
    add_cfg_options(parser)
    args = parser.parse_args()
    refuse_below(parser, args, ["workers"], 0)
    return args


def label_steps(cfg: "Config") -> tuple["ConfigDict", str | None]:
    """The config's data set up to its AffinityLabel, which then reads no folder.

    Returns:
        The data set's config, without wrappers, and the AffinityLabel's ``folder``.

    Raises:
        ValueError: The config has no such data set.
    """
    found = [*leaf_datasets(cfg.get("train_dataloader", {}).get("dataset", {}))]
    if len(found) != 1:
        raise ValueError(
            f"train_dataloader.dataset: it joins {len(found)} data sets; make the "
            "labels of one at a time"
        )
    (dataset,) = found
    pipeline = dataset.get("pipeline", [])
    for number, step in enumerate(pipeline):
        if type_name(step) == "AffinityLabel":
            folder = step.get("folder")
            dataset.pipeline = [*pipeline[:number], {**step, "folder": None}]
            return dataset, folder
    raise ValueError(
        "train_dataloader.dataset.pipeline: the config has no mmwood.AffinityLabel"
    )


def main() -> None:
    args = parse_args()

    from mmengine.registry import init_default_scope
    from torch.utils.data import DataLoader
    from tqdm import tqdm

    # Here, and not by a registry, which would swallow what breaks an import.
    import mmwood.datasets  # noqa: F401
    from mmwood.fileio.files import file_sha256
    from mmwood.fileio.label_folder import AFFINITY_LABELS, LabelFolder
    from mmwood.registry import DATASETS

    cfg = load_config(args)
    init_default_scope(cfg.get("default_scope", "mmengine"))
    dataset_cfg, folder = label_steps(cfg)
    folder = args.out or folder
    if folder is None:
        raise ValueError(
            "--out: name a folder to write to, here or as `folder` of the config's "
            "mmwood.AffinityLabel"
        )
    folder = LabelFolder(folder, "--out")
    dataset = DATASETS.build(dataset_cfg)
    score_dir = getattr(dataset, "score_dir", None)
    if score_dir is None:
        raise ValueError(
            "train_dataloader.dataset.score_dir: name the folder of the score maps"
        )
    manifest = dict(
        format=AFFINITY_LABELS,
        settings=dataset.pipeline.transforms[-1].settings,
        classes=list(dataset.metainfo["classes"]),
        scores_sha256=file_sha256(LabelFolder(score_dir).manifest_path),
    )
    folder.compare(manifest, "make all anew with --overwrite", args.overwrite)
    folder.begin(manifest, args.overwrite)

    workers = args.workers
    if workers is None:
        workers = cfg.train_dataloader.get("num_workers", 0)
    # A worker of a DataLoader computes with one thread.
    loader = DataLoader(
        LabelFiles(dataset, folder), batch_size=None, num_workers=workers
    )
    were_there, void = 0, 0.0
    for is_there, ignored in tqdm(loader, desc="labels", disable=None):
        were_there += is_there
        void += ignored
    images = len(dataset)
    folder.finish(manifest, images)
    print(
        f"{folder.root}: {images - were_there} labels made, {were_there} were there; "
        f"{void / images:.1%} of an image's pixels are ignored on average"
    )


if __name__ == "__main__":
    run(main, needs=("mmengine", "mmcv"))
