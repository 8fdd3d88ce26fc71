"""What config, data and model say of each other, compared before the first step."""

import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dataset import BaseDataset, InfiniteSampler
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.optim import _ParamScheduler
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch import nn

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.engine.batches import refuse_other_batches
from mmwood.engine.weights import unwrap
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import BIASED, read_label_png
from mmwood.registry import HOOKS
from mmwood.utils.config import leaf_datasets

from .ignore_biased_hook import biased_folder

#: What metrics need of each image, by the names of their classes.
NEEDS = dict(
    gt_label=(
        "Accuracy",
        "AveragePrecision",
        "ConfusionMatrix",
        "MultiLabelMetric",
        "SingleLabelMetric",
    ),
    seg_map_path=("IAIoUMetric", "IoUMetric", "SeedMetric"),
)


@HOOKS.register_module()
class StartCheckHook(Hook):
    """Refuse what would fail late, or train or test something else without a word.

    - A head has the number of classes of the data set, in training, validation and
      test, with or without a checkpoint.
    - A data set of the label maps that :class:`mmwood.PseudoLabelHook` wrote has their
      classes in their order (``manifest.json``), for a segmentation network after
      background.
    - No masks to measure with hold pixels that the label filter removed.
    - What resizes images of bands is not Pillow, which would take four for colours and
      how much there is of them.
    - An epoch has at least one step, a sampler of OoD images makes batches of the
      dataloader's size, images to learn classes from have labels, and the masks of a
      segmentation network show a class: 255 is void, no object.
    - No learning rate is 0 before the training ends. A training that is resumed with
      another length follows the schedule of the new length.

    Metrics that need labels or masks that the data set does not give are left out, and
    the log says so.

    ``tools/train.py`` and ``tools/test.py`` add this hook to any config.

    Raises:
        ValueError: One of these does not hold.

    Example:
        >>> default_hooks = dict(start_check=dict(type='mmwood.StartCheckHook'))
    """

    # Before hooks that compute with images, weights or metrics.
    priority = "VERY_HIGH"

    def __init__(self) -> None:
        self._follow = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Leave schedules of another length out of what is resumed."""
        theirs, ours = checkpoint.get("param_schedulers"), runner.param_schedulers
        if not runner.cfg.get("resume") or not theirs:
            return
        if not isinstance(theirs, list) or not isinstance(ours, list):
            return
        ends = [scheduler.get("end") for scheduler in theirs]
        if ends != [getattr(scheduler, "end", None) for scheduler in ours]:
            del checkpoint["param_schedulers"]
            self._follow = True

    def before_train(self, runner: Runner) -> None:
        """Check training and validation."""
        refuse_empty_epoch(runner.train_dataloader)
        refuse_other_batches(runner.train_dataloader)
        if self._follow:
            self._follow = False
            _follow_schedules(runner)
        _check_schedules(runner)
        _check_training_labels(runner)
        model = unwrap(runner)
        if hasattr(getattr(model, "head", None), "check_preprocessor"):
            model.head.check_preprocessor(model.data_preprocessor)
        _check_data(runner, runner.train_dataloader.dataset, "train_dataloader")
        if runner.val_loop is not None:
            self.before_val(runner)

    def before_val(self, runner: Runner) -> None:
        """Check validation."""
        _check_data(runner, runner.val_dataloader.dataset, "val_dataloader")
        _refuse_biased(runner.val_dataloader.dataset, "val_dataloader")
        _leave_out_metrics(runner, runner.val_loop, "val_evaluator")

    def before_test(self, runner: Runner) -> None:
        """Check the test."""
        _check_data(runner, runner.test_dataloader.dataset, "test_dataloader")
        _refuse_biased(runner.test_dataloader.dataset, "test_dataloader")
        _leave_out_metrics(runner, runner.test_loop, "test_evaluator")


def refuse_empty_epoch(loader: Any) -> None:
    """Refuse a training of which no epoch has a step.

    Raises:
        ValueError: There are fewer images than a batch, and ``drop_last`` leaves such
            a batch out; or there is no image.
    """
    # Infinite samplers fill batches from several rounds.
    if isinstance(loader.sampler, InfiniteSampler) or len(loader):
        return
    images, own = f"{len(loader.dataset)} images", len(loader.sampler)
    if (processes := get_world_size()) > 1:
        images += f", {own} for each of {processes} processes"
    raise ValueError(
        f"train_dataloader.batch_size is {loader.batch_size}, but the data set has "
        f"{images}: with "
        "train_dataloader.drop_last=True no step is left; set a smaller batch_size, or "
        "drop_last=False"
    )


def _refuse_pillow(pipeline: Any, field: str) -> None:
    """Refuse to have images of other bands than three resized by Pillow."""
    if decoding_of(pipeline).channels == 3:
        return
    parts = [pipeline]
    while parts:
        part = parts.pop()
        if getattr(part, "backend", None) == "pillow":
            raise ValueError(
                f"{field}: {type(part).__name__} has backend='pillow', which is for "
                "pictures: images of bands need backend='cv2'"
            )
        parts += getattr(part, "transforms", None) or getattr(part, "subroutines", [])
        parts += [part.resize] if hasattr(part, "resize") else []


def _refuse_biased(dataset: BaseDataset, field: str) -> None:
    """Refuse to measure with labels that are no truth: metrics know no 254."""
    for leaf in leaf_datasets(dataset):
        folder = biased_folder(leaf)
        if folder is not None:
            raise ValueError(
                f"{field}.dataset.data_prefix.seg_map_path: {folder} are filtered "
                f"pseudo labels, in which {BIASED} are removed pixels: name the true "
                "masks"
            )


def _check_data(runner: Runner, dataset: BaseDataset, loader: str) -> None:
    """Compare classes with the model's heads, and with what made the masks."""
    for leaf in leaf_datasets(dataset):
        _refuse_pillow(getattr(leaf, "pipeline", None), f"{loader}.dataset.pipeline")
    classes = getattr(dataset, "metainfo", {}).get("classes") or ()
    for name, head in _heads(runner) if classes else ():
        if head.num_classes != len(classes):
            raise ValueError(
                f"model.{name}.num_classes is {head.num_classes}, but "
                f"{loader}.dataset has {len(classes)} classes: {tuple(classes)}"
            )
    for leaf in leaf_datasets(dataset):
        _check_mask_classes(leaf, f"{loader}.dataset")
        _refuse_masks_without_class(leaf, f"{loader}.dataset")


def _heads(runner: Runner) -> Iterator[tuple[str, nn.Module]]:
    """The model's heads that know a number of classes, by name."""
    for name, child in unwrap(runner, tta=True).named_children():
        if "head" not in name:
            continue
        # Cascades and several auxiliary heads are lists.
        several = isinstance(child, nn.ModuleList)
        for number, head in enumerate(child if several else [child]):
            # Heads of boundaries have classes of their own.
            own = hasattr(head, "boundary_threshold")
            if isinstance(getattr(head, "num_classes", None), int) and not own:
                yield f"{name}.{number}" if several else name, head


def _check_mask_classes(dataset: BaseDataset, field: str) -> None:
    """Refuse label maps of other classes than the data set names."""
    folder = (getattr(dataset, "data_prefix", None) or {}).get("seg_map_path")
    labels = LabelFolder(Path(folder or "").parent, field)
    if not folder or not labels.manifest_path.is_file():
        return
    manifest = labels.manifest()
    made = manifest["classes"] if manifest.get("format") == PSEUDO_LABELS else None
    named = dataset.metainfo.get("classes")
    if getattr(dataset, "label_map", None):
        # The data set's own classes are the masks'; others are made of them.
        named = dataset.METAINFO["classes"]
    if not made or not named:
        return
    # A segmentation network has a class for background, which is label 0.
    ground = hasattr(dataset, "reduce_zero_label") and not dataset.reduce_zero_label
    if [*named][ground:] != [*made] or (ground and named[0] in made):
        expected = ("background", *made) if ground else tuple(made)
        raise ValueError(
            f"{field}: the classes are {tuple(named)}, but the label maps of "
            f"data_prefix.seg_map_path={folder} are of {expected}, in this order "
            f"({labels.manifest_path})"
        )


def _refuse_masks_without_class(dataset: BaseDataset, field: str) -> None:
    """Refuse a segmentation data set all of whose masks are background and void.

    Masks are read up to the first that shows a class.
    """
    if getattr(dataset, "label_map", None) or not hasattr(dataset, "reduce_zero_label"):
        return
    void = dataset.ignore_index
    nothing = {0, void} | ({BIASED} if biased_folder(dataset) else set())
    met = set()
    for index in range(len(dataset)):
        path = dataset.get_data_info(index).get("seg_map_path")
        if path is None or not Path(path).is_file():
            return
        try:
            met |= set(np.unique(read_label_png(path)).tolist())
        except ValueError:
            # Not for us to judge: the pipeline may read masks of other kinds.
            return
        if met - nothing:
            return
    if BIASED in met:
        raise ValueError(
            f"{field}.data_prefix.seg_map_path: the label filter left no class in any "
            f"of {len(dataset)} masks"
        )
    if void in met:
        raise ValueError(
            f"{field}.data_prefix.seg_map_path: none of {len(dataset)} masks shows a "
            f"class: they hold 0, the background, and {void}, which is void, as paint "
            "programs write objects: write 1 for the first class"
        )


def _gives(dataset: BaseDataset, key: str) -> bool:
    """Whether a data set gives its images what metrics need; True where unknown."""
    return all(
        key in leaf.get_data_info(0)
        for leaf in leaf_datasets(dataset)
        # Others may call labels and masks by other names.
        if hasattr(leaf, "seg_map_suffix") and len(leaf)
    )


def _check_training_labels(runner: Runner) -> None:
    dataset = runner.train_dataloader.dataset
    sources = {getattr(leaf, "label_source", None) for leaf in leaf_datasets(dataset)}
    if all(name != "head" for name, _ in _heads(runner)):
        return
    if "none" in sources:
        raise ValueError(
            "train_dataloader.dataset.label_source='none' gives images without "
            "labels: model.head has nothing to learn from them"
        )
    tagged = [leaf for leaf in leaf_datasets(dataset) if hasattr(leaf, "label_source")]
    infos = (leaf.get_data_info(i) for leaf in tagged for i in range(len(leaf)))
    if tagged and not any(info.get("gt_label", True) for info in infos):
        raise ValueError(
            f"train_dataloader.dataset: none of {sum(map(len, tagged))} images shows a "
            "class: model.head has nothing to learn from them"
        )


def _leave_out_metrics(runner: Runner, loop: BaseLoop, field: str) -> None:
    """Take metrics out of a loop that need what its data set does not give."""
    evaluator = loop.evaluator
    for key, names in NEEDS.items():
        needy = [
            metric
            for metric in evaluator.metrics
            if any(kind.__name__ in names for kind in type(metric).__mro__)
            # It writes predictions alone.
            and not getattr(metric, "format_only", False)
        ]
        if not needy or _gives(loop.dataloader.dataset, key):
            continue
        what = "labels" if key == "gt_label" else "masks (data_prefix.seg_map_path)"
        runner.logger.warning(
            f"{field}: {', '.join(type(metric).__name__ for metric in needy)} left "
            f"out, because the data set gives no {what}"
        )
        evaluator.metrics = [m for m in evaluator.metrics if m not in needy]


def _check_schedules(runner: Runner) -> None:
    """Refuse rates that are 0 before the training ends."""
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    schedules = runner.param_schedulers or []
    if isinstance(schedules, dict):
        schedules = [scheduler for own in schedules.values() for scheduler in own]
    for scheduler in schedules:
        if not hasattr(scheduler, "end") or (scheduler.by_epoch and not by_epoch):
            continue
        # Momentum and weight decay may well be 0.
        if scheduler.param_name != "lr":
            continue
        unit = "epochs" if scheduler.by_epoch else "iterations"
        length = runner.max_epochs if scheduler.by_epoch else runner.max_iters
        name = type(scheduler).__name__
        if scheduler.end > length:
            runner.logger.warning(
                f"param_scheduler: {name} would end after {scheduler.end} {unit}, but "
                f"the training ends after {length}: it stops before its schedule does"
            )
        if scheduler.end < length and _ends_at_zero(scheduler):
            raise ValueError(
                f"param_scheduler: {name} brings the rate to 0 after {scheduler.end} "
                f"{unit}, but the training has {length}: leave out its `end`, which is "
                "then the training's"
            )


def _ends_at_zero(scheduler: _ParamScheduler) -> bool:
    """Whether what it leaves, and no later one can change, is 0."""
    half_period = getattr(scheduler, "T_max", scheduler.end - scheduler.begin)
    if scheduler.begin + half_period > scheduler.end:
        return False
    lowest = getattr(scheduler, "eta_min", getattr(scheduler, "end_factor", None))
    return lowest == 0


def _follow_schedules(runner: Runner) -> None:
    """Bring the rates to where a training of the new length would be."""
    groups = runner.optim_wrapper.param_groups
    for scheduler in runner.param_schedulers:
        name = scheduler.param_name
        for group in groups:
            group[name] = group.get(f"initial_{name}", group[name])
    schedules: Sequence[_ParamScheduler] = runner.build_param_scheduler(
        runner.cfg.param_scheduler
    )
    by_epoch = isinstance(runner.train_loop, EpochBasedTrainLoop)
    with warnings.catch_warnings():
        # Of schedules that step before optimizers do.
        warnings.simplefilter("ignore", UserWarning)
        for step in range(1, runner.iter + 1):
            ended = by_epoch and step % len(runner.train_dataloader) == 0
            for scheduler in schedules:
                if not scheduler.by_epoch or ended:
                    scheduler.step()
    runner.param_schedulers = schedules
    runner.logger.info(
        "param_scheduler: the training has another length than the one that is "
        "resumed, and follows the schedule of the new one"
    )
