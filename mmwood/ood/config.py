"""From a model's config to a test over candidate images.

With the in-distribution classifier, p_c(x) is the sigmoid of the score of class c. An
image x is kept for c where p_c(x) reaches 0.5, highest first (Lee et al., CVPR 2022).
"""

from copy import deepcopy
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS, init_default_scope
from mmengine.runner import CheckpointLoader

from mmwood.engine.class_scores import ScoreRule
from mmwood.engine.ood_size import OoDSize, ood_pipeline
from mmwood.engine.runner import CHECKS
from mmwood.fileio.lists import read_class_names
from mmwood.registry import import_locations
from mmwood.utils.config import (
    leaf_dataset,
    leaf_datasets,
    type_name,
    without_names,
)

#: Hooks that a config keeps; others write what nobody wants of candidates.
KEPT_HOOKS = (
    "CheckpointGuardHook",
    "LoggerHook",
    "ProgressBarHook",
    "StartCheckHook",
)


def use_candidates(
    cfg: Config,
    candidates: str,
    threshold: float = 0.5,
    batch_size: int | None = None,
    num_workers: int | None = None,
    size: OoDSize = "in_distribution",
    score: ScoreRule | None = None,
    background: str | None = None,
) -> None:
    """Make the config's test one over candidate images, without maps and metrics.

    Args:
        cfg: The model's config; ``load_from`` is its checkpoint.
        candidates: What :func:`mmwood.ood.candidates.write_candidate_list` writes, or
            will have written when the test starts.
        threshold: Least probability; see :class:`mmwood.OoDMiningHook`.
        batch_size: Of each process. None: as in the config.
        num_workers: The same.
        size: Of the images that the classifier sees, see
            :data:`mmwood.engine.ood_size.OoDSize`. The in-distribution images are
            those of ``train_dataloader``.
        score: Of a segmentation network; see :class:`mmwood.OoDMiningHook`.
        background: The same.

    Raises:
        ValueError: The config has no test pipeline, or one that ``size`` cannot be
            put into; the in-distribution images are needed and not there; nobody names
            the classes.
    """
    loader = cfg.get("test_dataloader") or ConfigDict()
    dataset = leaf_dataset(loader.get("dataset"))
    pipeline = _of_images(without_names(dataset.get("pipeline") or (), "pipeline"))
    if not pipeline:
        raise ValueError(
            "the config has no test_dataloader.dataset.pipeline to load candidates with"
        )
    pipeline, long_side = ood_pipeline(
        pipeline, size, lambda: _in_distribution(cfg), "--size"
    )
    names = class_names(cfg)
    batch_size = batch_size or loader.get("batch_size", 1)
    if num_workers is None:
        num_workers = loader.get("num_workers", 0)
    cfg.test_dataloader = dict(
        batch_size=batch_size,
        num_workers=num_workers,
        pin_memory=loader.get("pin_memory", False),
        sampler=dict(type="DefaultSampler", shuffle=False, round_up=False),
        collate_fn=dict(type="pseudo_collate"),
        dataset=dict(
            type="mmwood.CandidateDataset",
            ann_file=candidates,
            metainfo=dict(classes=names),
            pipeline=pipeline,
        ),
    )
    cfg.test_evaluator = []
    cfg.test_cfg = cfg.get("test_cfg") or dict()
    cfg.resume = False
    if type_name(cfg.model) == "CAMClassifier":
        cfg.model.test_cfg = dict(cfg.model.get("test_cfg") or {}, cam_labels="none")
    hooks = {
        name: hook
        for name, hook in (cfg.get("default_hooks") or {}).items()
        # A check that is None is switched off.
        if (type_name(hook) in KEPT_HOOKS if hook else name in CHECKS)
    }
    hooks["ood_mining"] = dict(
        type="mmwood.OoDMiningHook",
        out_dir=str(Path(candidates).parent),
        threshold=threshold,
        size=long_side,
        score=score,
        background=background,
    )
    cfg.default_hooks = hooks
    cfg.custom_hooks = []


def _of_images(pipeline: list) -> list:
    """A pipeline for images in any store that have no annotations."""
    return [
        dict(step, type="mmwood.LoadImage")
        if type_name(step) == "LoadImageFromFile"
        else step
        for step in pipeline
        if not type_name(step).endswith("Annotations")
    ]


def class_names(cfg: Config) -> list[str]:
    """The names of a classifier's classes, from its config or else its checkpoint.

    They are what a data set of the config names in ``classes`` or
    ``metainfo.classes``, or what ``load_from`` keeps of the data set that it was
    trained on.

    Raises:
        FileNotFoundError: ``classes`` names a file that is not there.
        ValueError: There are none, or one occurs twice.
    """
    for loader in ("test_dataloader", "train_dataloader"):
        dataset = leaf_dataset((cfg.get(loader) or {}).get("dataset"))
        names = dataset.get("classes") or dataset.get("metainfo", {}).get("classes")
        if names:
            root, field = dataset.get("data_root") or "", f"{loader}.dataset.classes"
            return list(read_class_names(names, root, field))
    checkpoint = CheckpointLoader.load_checkpoint(cfg.load_from, map_location="cpu")
    known = checkpoint.get("meta", {}).get("dataset_meta") or {}
    names = known.get("classes") or known.get("CLASSES")
    if not names:
        raise ValueError(
            "neither test_dataloader.dataset.classes of the config nor the checkpoint "
            f"{cfg.load_from} (meta.dataset_meta) names the classes: add the former"
        )
    return list(names)


def _in_distribution(cfg: Config) -> BaseDataset:
    """What the classifier was trained with; the images themselves are not opened."""
    config = deepcopy((cfg.get("train_dataloader") or {}).get("dataset") or {})
    config = config.get("in_distribution", config)
    for dataset in leaf_datasets(config):
        if type_name(dataset) == "ImageLevelDataset":
            dataset["check"] = "none"
    import_locations()
    init_default_scope(cfg.get("default_scope", "mmpretrain"))
    try:
        return DATASETS.build(config)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            "--size: candidates are resized as the in-distribution images of "
            f"train_dataloader.dataset, which are not there ({error}): name the long "
            "side that these have, or 'own' for candidates as they are"
        ) from error
