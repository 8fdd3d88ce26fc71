"""Cluster centres for W-OoD, made at the start of a training."""

from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import IterBasedTrainLoop, Runner, load_checkpoint
from torch import Tensor

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.engine.batches import refuse_other_batches
from mmwood.engine.features import Features, extract_features
from mmwood.engine.ood_size import (
    OoDSize,
    check_ood_size,
    ood_pipeline,
    size_note,
)
from mmwood.engine.weights import model_copies, unwrap
from mmwood.fileio.decoding import PICTURE
from mmwood.fileio.files import file_sha256, write_json
from mmwood.fileio.tables import write_table
from mmwood.functional.ood_distance import (
    Init,
    in_distribution_centers,
    mean_in_distance,
    ood_centers,
)
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least, one_of
from mmwood.utils.config import leaf_dataset

from .checkpoint_guard_hook import CheckpointGuardHook

Method = Literal["kmeans", "predicted"]


@HOOKS.register_module()
class OoDClusterHook(Hook):
    """Make the centres of :class:`mmwood.WOoDHead` (Lee et al., CVPR 2022).

    Before training, the pooled features z of all in-distribution and OoD images are
    computed without augmentation, in evaluation mode. The centre of a class is the mean
    z of the images that show it; the OoD centres are those of K-means on the z of the
    OoD images, or their means by wrongly predicted class. A head with
    ``distance_scale='start'`` gets its unit of distances from the same features. Under
    several processes each computes a part of the features. A resumed run has its
    centres in the checkpoint.

    ::

        out_dir/
          clusters.json    method, random seed, sizes, what they were made from, and
                           distance_scale, where it was measured
          members.csv      image, cluster, distance, class, probability

    Args:
        method: 'kmeans', or 'predicted': one cluster for each class that is the largest
            score of some OoD image.
        clusters: K of K-means.
        init: Where K-means starts: 'k-means++', or 'first', as in the released program,
            which depends on the order of the OoD images; see
            :func:`mmwood.functional.ood_distance.ood_centers`.
        checkpoint: Weights to compute z with. None: those that the training starts
            from (``load_from``).
        interval: Make the centres anew after every so many epochs, with the weights
            that are trained, of that time; 0: never. A training that counts iterations
            needs ``by_epoch=False``.
        by_epoch: Whether ``interval`` counts epochs or iterations.
        pipeline: Transforms of one image, without augmentation. None: those of
            ``test_dataloader`` in the config.
        batch_size, num_workers: Of the loading; see
            :func:`mmwood.engine.features.extract_features`.
        ood_size: Of the OoD images whose features are taken: a long side in pixels (500
            in the released program, whose in-distribution images have it),
            'in_distribution', the median one of these images, or 'own'; see
            :mod:`mmwood.engine.ood_size`.
        seed: Random seed of K-means.
        out_dir: Folder for the files. None is ``ood_clusters`` in the work dir.

    Raises:
        ValueError: The head is no :class:`mmwood.WOoDHead`, or the training data set no
            :class:`mmwood.OoDMixDataset`; fewer OoD images than clusters; a class that
            no image shows; batches of another size than the sampler makes; an
            ``interval`` in epochs of a training that has none; another ``method`` or
            ``init``, or ``clusters``, ``interval`` or ``ood_size`` that are too small;
            an ``ood_size`` where the pipeline resizes already.

    Example:
        >>> default_hooks = dict(
        ...     ood_clusters=dict(type='mmwood.OoDClusterHook', clusters=50))
    """

    # After a hook such as MMPretrain's EMAHook has chosen the weights to start from.
    priority = "LOW"

    def __init__(
        self,
        method: Method = "kmeans",
        clusters: int = 50,
        init: Init = "k-means++",
        checkpoint: str | None = None,
        interval: int = 0,
        by_epoch: bool = True,
        pipeline: list | None = None,
        batch_size: int = 16,
        num_workers: int = 2,
        ood_size: OoDSize = "in_distribution",
        seed: int = 0,
        out_dir: str | None = None,
    ) -> None:
        one_of("mmwood.OoDClusterHook: method", method, get_args(Method))
        one_of("mmwood.OoDClusterHook: init", init, get_args(Init))
        at_least("mmwood.OoDClusterHook: clusters", clusters, 1, integer=True)
        at_least("mmwood.OoDClusterHook: interval", interval, 0, integer=True)
        check_ood_size("mmwood.OoDClusterHook: ood_size", ood_size)
        self.method = method
        self.clusters = clusters
        self.init = init
        self.checkpoint = checkpoint
        self.interval = interval
        self.by_epoch = by_epoch
        self.pipeline = pipeline
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.ood_size = ood_size
        self.seed = seed
        self.out_dir = out_dir

    def before_train(self, runner: Runner) -> None:
        """Make the centres, unless a resumed run has them."""
        model = unwrap(runner)
        self._check(runner, model)
        if runner.iter > 0 and len(model.head.ood_centers):
            return
        # Before minutes of work that would be in vain.
        images = len(runner.train_dataloader.dataset.ood)
        if self.method == "kmeans" and images < self.clusters:
            raise ValueError(
                f"mmwood.OoDClusterHook: {images} OoD images cannot be "
                f"{self.clusters} clusters: set clusters to {images} or less"
            )
        if self.checkpoint is None:
            start = runner.cfg.get("load_from")
            if start is None:
                runner.logger.warning(
                    "mmwood.OoDClusterHook: the features are those of a network that "
                    "no classifier was loaded into; set load_from or checkpoint"
                )
            self._make_centers(runner, start, measure=True)
            return
        trained = {key: value.clone() for key, value in model.state_dict().items()}
        loaded = load_checkpoint(model, self.checkpoint, map_location="cpu")
        for hook in runner.hooks:
            if isinstance(hook, CheckpointGuardHook):
                name = f"mmwood.OoDClusterHook.checkpoint {self.checkpoint}"
                hook.check(name, loaded, model)
        self._make_centers(runner, self.checkpoint, measure=True)
        head = model.head
        centers = [head.in_centers.clone(), head.ood_centers.clone()]
        if _scales(model):
            centers.append(head.measured_scale.clone())
        model.load_state_dict(trained)
        self._set_centers(runner, *centers)

    def _check(self, runner: Runner, model: BaseModel) -> None:
        """Refuse a model, data set, sampler or loop that this hook cannot work with."""
        loader = runner.train_dataloader
        if not hasattr(model.head, "set_centers"):
            raise ValueError(
                "mmwood.OoDClusterHook makes the centres of mmwood.WOoDHead, but "
                f"model.head is a {type(model.head).__name__}"
            )
        if not hasattr(loader.dataset, "ood"):
            raise ValueError(
                "mmwood.OoDClusterHook needs train_dataloader.dataset to be a "
                f"mmwood.OoDMixDataset, it is a {type(loader.dataset).__name__}"
            )
        refuse_other_batches(loader)
        by_iter = isinstance(runner.train_loop, IterBasedTrainLoop)
        if self.interval and self.by_epoch and by_iter:
            raise ValueError(
                f"mmwood.OoDClusterHook.interval is {self.interval} epochs, but "
                "train_cfg counts iterations: set by_epoch=False, and interval to "
                "iterations"
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Make the centres anew after every so many epochs."""
        if self.by_epoch and self.every_n_epochs(runner, self.interval):
            self._make_centers(runner)

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Make the centres anew after every so many iterations."""
        if not self.by_epoch and self.every_n_train_iters(runner, self.interval):
            self._make_centers(runner)

    def _make_centers(
        self, runner: Runner, checkpoint: str | None = None, measure: bool = False
    ) -> None:
        """Make the centres and, to ``measure``, the unit of distances."""
        dataset = runner.train_dataloader.dataset
        pipeline = self._pipeline(runner)
        resized, long_side = ood_pipeline(
            pipeline,
            self.ood_size,
            lambda: dataset.in_distribution,
            "mmwood.OoDClusterHook.ood_size",
        )
        runner.logger.info(size_note(long_side))
        options = (self.batch_size, self.num_workers)
        inside, outside = (
            extract_features(
                unwrap(runner), images, steps, *options, f"features of {d}"
            )
            for images, steps, d in (
                (dataset.in_distribution, pipeline, "D_in"),
                (dataset.ood, resized, "D_ood"),
            )
        )
        classes = dataset.metainfo["classes"]
        empty = [classes[c] for c in torch.where(inside.labels.sum(0) == 0)[0]]
        if empty:
            raise ValueError(
                f"no in-distribution image shows {', '.join(empty)}: such classes have "
                "no centre. Leave them out of the data set's classes"
            )
        # One process computes, so that all have the same centres to the bit.
        results: list[Any] = [None]
        if is_main_process():
            results = [self._cluster(inside, outside)]
        broadcast_object_list(results)
        in_centers, centers, members, numbers, scale = results[0]
        made_from: dict[str, Any] = dict(checkpoint=checkpoint)
        made_from["ood_long_side"] = long_side
        if measure and _scales(unwrap(runner)):
            self._set_centers(runner, in_centers, centers, scale)
            made_from["distance_scale"] = scale.item()
            weight = unwrap(runner).head.distance_weight
            runner.logger.info(
                f"distances are divided by {scale:.5g}, the mean distance of images to "
                f"the centres of their classes: model.head.distance_weight={weight:g} "
                f"is {weight / scale:.3g} without distance_scale"
            )
        else:
            self._set_centers(runner, in_centers, centers)
        names = None
        if numbers is not None:
            names = [classes[number] for number in numbers]
            unused = [name for name in classes if name not in names]
            if unused:
                runner.logger.info(
                    "classes that the classifier sees in no OoD image, so that they "
                    f"have no OoD cluster: {', '.join(unused)}"
                )
        if is_main_process():
            if (decoding := decoding_of(dataset.ood)) != PICTURE:
                made_from["decoding"] = vars(decoding)
            self._write(runner, outside, classes, centers, members, names, made_from)

    def _pipeline(self, runner: Runner) -> list:
        if self.pipeline is not None:
            return self.pipeline
        dataset = leaf_dataset((runner.cfg.get("test_dataloader") or {}).get("dataset"))
        if "pipeline" not in dataset:
            raise ValueError(
                "mmwood.OoDClusterHook needs transforms without augmentation: the "
                "config has no test_dataloader.dataset.pipeline, so set the hook's "
                "pipeline"
            )
        return dataset["pipeline"]

    def _cluster(
        self, inside: Features, outside: Features
    ) -> tuple[Tensor, Tensor, Tensor, list[int] | None, Tensor]:
        """Centres (C, D), (K, D), clusters of images (M,), their classes, a scale."""
        in_centers = in_distribution_centers(inside.z, inside.labels)
        scale = mean_in_distance(inside.z, inside.labels, in_centers)
        if self.method == "kmeans":
            centers = ood_centers(outside.z, self.clusters, self.seed, self.init)
            # A member belongs to the nearest centre, in K-means by definition.
            distances = torch.cdist(outside.z.double(), centers.double())
            return in_centers, centers, distances.argmin(dim=1), None, scale
        numbers, members = outside.scores.argmax(dim=1).unique(return_inverse=True)
        groups = torch.nn.functional.one_hot(members, len(numbers))
        centers = in_distribution_centers(outside.z, groups)
        return in_centers, centers, members, numbers.tolist(), scale

    def _set_centers(self, runner: Runner, *made: Tensor) -> None:
        # EMAHook made its copy of the model when there were no centres. Where it
        # averages buffers too, it averages equal ones.
        for model in model_copies(runner):
            model.head.set_centers(*made)

    def _write(
        self,
        runner: Runner,
        outside: Features,
        classes: tuple[str, ...],
        centers: Tensor,
        members: Tensor,
        names: list[str] | None,
        made_from: dict,
    ) -> None:
        checkpoint = made_from["checkpoint"]
        folder = Path(self.out_dir or Path(runner.work_dir, "ood_clusters"))
        distances = (outside.z - centers[members]).norm(dim=1)
        top = outside.scores.max(dim=1)
        columns = ("image", "cluster", "distance", "class", "probability")
        rows = (
            (image, int(cluster), f"{distance:.6g}", classes[number], f"{score:.6f}")
            for image, cluster, distance, number, score in zip(
                outside.images, members, distances, top.indices, top.values
            )
        )
        write_table(folder / "members.csv", columns, rows)
        sizes = np.bincount(members, minlength=len(centers)).tolist()
        content = dict(
            format="mmwood OoD clusters 1",
            method=self.method,
            init=self.init,
            seed=self.seed,
            epoch=runner.epoch,
            **made_from,
            checkpoint_sha256=file_sha256(checkpoint)
            if checkpoint and Path(checkpoint).is_file()
            else None,
            images=len(outside.images),
            sizes=sizes,
            names=names,
        )
        write_json(folder / "clusters.json", content)
        runner.logger.info(
            f"{len(sizes)} OoD clusters of {len(outside.images)} images, the smallest "
            f"of {min(sizes)}, the largest of {max(sizes)} (see {folder})"
        )


def _scales(model: BaseModel) -> bool:
    """Whether the head divides distances by what was measured at the start."""
    return getattr(model.head, "measured_scale", None) is not None
