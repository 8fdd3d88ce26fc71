"""Write seeds and score maps during a test, each once and whole."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.dist import barrier, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from mmwood.engine.batches import all_batches, take_batches
from mmwood.engine.image_ids import ImageIds
from mmwood.engine.pseudo_labels import save_pseudo_label
from mmwood.engine.weights import weights_sha256
from mmwood.fileio.coco import encode_mask, merge_instances
from mmwood.fileio.files import file_sha256, read_json, text_sha256, write_json
from mmwood.fileio.label_folder import (
    MAPS,
    PSEUDO_LABELS,
    LabelFolder,
    ScoreMaps,
    load_score_maps,
)
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least
from mmwood.utils.config import leaf_datasets, type_name
from mmwood.utils.progress import progress


@HOOKS.register_module()
class PseudoLabelHook(Hook):
    """Write a label map, and if asked the score maps, of every tested image.

    ::

        out_dir/
          manifest.json          what made the files
          labels/IMAGE_ID.png    palette PNG: 0 background, c + 1 class c
          scores/IMAGE_ID.npz    see mmwood.fileio.label_folder
          instances/IMAGE_ID.json, instances.json    see save_instances

    A run that was ended continues where it was: batches whose files are all there and
    whole are not computed again, and the result is the same to the byte. Metrics
    then take the finished images' maps from the score files; without 'full' maps
    there, images are computed again when there are metrics. Files of other weights,
    another config or class list are never mixed in. A test after a training by the
    same Runner makes all anew: its weights are in no file that could be compared.

    An image's id is what its data set says (``img_id``), or its path without suffix
    from the folder of the images. Two images that would share a file are refused.

    Which classes an image's label map may hold is the model's business: its own
    image-level labels, or the predicted ones with
    ``model.test_cfg=dict(cam_labels='predicted')``.

    Args:
        out_dir: Folder to write to. None is ``pseudo_labels`` in the work dir.
        threshold: Score of the background. It is part of the manifest.
        ignore_band: Pixels whose score is less than this far from the background's
            become 255.
        save_scores: Which maps to keep: 'strided', 'full' or both.
        save_instances: Whether to write the instances that a :class:`mmwood.IRN`
            finds (``model.test_cfg.instances``): one file an image, and all of them
            as COCO annotations with run lengths in ``instances.json``. Fragments of
            score 0 are left out.
        overwrite: Remove what is in the folder, whichever checkpoint made it, and
            make everything anew. A folder without a manifest is never touched.

    Raises:
        ImportError: ``save_instances`` needs pycocotools.
        ValueError: The folder holds files of another checkpoint, config or class
            list, or files without a manifest; two images would share a file;
            ``threshold`` is not in [0, 1), or ``ignore_band`` below 0; ``save_scores``
            names other maps; a distributed sampler repeats images (``round_up``); the
            model finds no instances.

    Example:
        >>> default_hooks = dict(
        ...     pseudo_label=dict(type='mmwood.PseudoLabelHook', threshold=0.15,
        ...                       save_scores=['strided']))
    """

    def __init__(
        self,
        out_dir: str | None = None,
        threshold: float = 0.15,
        ignore_band: float = 0.0,
        save_scores: Sequence[str] = (),
        save_instances: bool = False,
        overwrite: bool = False,
    ) -> None:
        at_least("mmwood.PseudoLabelHook: threshold", threshold, 0, below=1)
        at_least("mmwood.PseudoLabelHook: ignore_band", ignore_band, 0)
        unknown = set(save_scores) - set(MAPS)
        if isinstance(save_scores, str) or unknown:
            raise ValueError(
                "mmwood.PseudoLabelHook: save_scores must be a list of "
                f"{MAPS}, got {save_scores!r}"
            )
        self.out_dir = out_dir
        if save_instances:
            # A missing package must not wait for the first instance.
            encode_mask(np.zeros((1, 1), dtype=bool))
        self.threshold = threshold
        self.ignore_band = ignore_band
        self.save_instances = save_instances
        self.save_scores = tuple(name for name in MAPS if name in save_scores)
        self.overwrite = overwrite
        self._trained = False

    def after_train(self, runner: Runner) -> None:
        """Remember that the weights are not those of ``load_from`` any more."""
        self._trained = True

    def before_test(self, runner: Runner) -> None:
        """Compare the folder with this run and leave out what is finished."""
        loader = all_batches(runner)
        if get_world_size() > 1 and getattr(loader.sampler, "round_up", False):
            raise ValueError(
                "test_dataloader.sampler.round_up must be False: it gives some images "
                "to two processes"
            )
        self._ids = ImageIds(loader.dataset, "default_hooks.pseudo_label")
        self._folder = LabelFolder(
            self.out_dir or Path(runner.work_dir, "pseudo_labels"),
            "default_hooks.pseudo_label.out_dir",
        )
        self._description = self._describe(runner)
        overwrite = self.overwrite or self._is_of_another_training()
        remedy = "set overwrite=True to make all anew"
        # One file or another: weights are compared by what they are.
        wanted = dict(self._description)
        del wanted["checkpoint_sha256"]
        self._folder.compare(wanted, remedy, overwrite)
        barrier()
        if is_main_process():
            self._folder.begin(self._description, overwrite)
        barrier()
        self._skip_finished(runner, loader)

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence = ()
    ) -> None:
        """Write the files of a batch."""
        for sample in outputs:
            name = self._ids(sample)
            if name in self._finished:
                continue
            if self.save_instances:
                write_json(self._folder.instances(name), _instance_part(sample, name))
            maps = ScoreMaps(
                classes=sample.cam_classes.cpu().numpy(),
                scores=sample.pred_score.float().cpu().numpy(),
                full=sample.cam.cpu().numpy(),
                strided=sample.cam_strided.cpu().numpy()
                if "strided" in self.save_scores
                else None,
            )
            save_pseudo_label(
                self._folder,
                name,
                maps,
                self.save_scores,
                self.threshold,
                self.ignore_band,
            )

    def after_test(self, runner: Runner) -> None:
        """Say in the manifest that nothing is missing."""
        barrier()
        dataset: Any = all_batches(runner).dataset
        if not is_main_process():
            return
        if self.save_instances:
            names = progress(self._ids, "join", total=len(self._ids), delay=1)
            found = (read_json(self._folder.instances(name)) for name in names)
            joined = merge_instances(found, dataset.metainfo["classes"])
            write_json(self._folder.instance_file, joined)
        self._folder.finish(self._description, len(dataset))

    def _is_of_another_training(self) -> bool:
        """Whether the folder holds what this run's training has outdated."""
        if not self._trained or not self._folder.manifest_path.is_file():
            return False
        found = self._folder.manifest()
        own = self._description["weights_sha256"]
        return found.get("weights_sha256") != own

    def _describe(self, runner: Runner) -> dict:
        """What determines the bytes of the files, and what a reader needs to know."""
        cfg = runner.cfg.to_dict()
        datasets = [*leaf_datasets(cfg["test_dataloader"]["dataset"])]
        pipelines = [dataset.get("pipeline", []) for dataset in datasets]
        settings = dict(model=cfg["model"], pipeline=_in_common(pipelines))
        if (cfg.get("test_cfg") or {}).get("fp16"):
            # Mixed precision (--amp) makes other maps.
            settings.update(fp16=True)
        checkpoint = None if self._trained else cfg.get("load_from")
        return dict(
            format=PSEUDO_LABELS,
            classes=list(runner.test_loop.dataloader.dataset.metainfo["classes"]),
            checkpoint_sha256=checkpoint and file_sha256(checkpoint),
            weights_sha256=weights_sha256(runner),
            config_sha256=text_sha256(
                json.dumps(settings, sort_keys=True, default=str)
            ),
            scales=_in_common([_scales(pipeline) for pipeline in pipelines]),
            threshold=self.threshold,
            ignore_band=self.ignore_band,
            scores=list(self.save_scores),
            instances=self.save_instances,
            # The maps that a random walk starts from.
            input_scores=_in_common([_input_scores(dataset) for dataset in datasets]),
        )

    def _skip_finished(self, runner: Runner, loader: DataLoader) -> None:
        """Take finished batches out of the test and into its metrics.

        Whole batches only: the numbers of an image depend, in the last bit, on the
        images that go through the network with it.
        """
        dataset = loader.dataset
        batches: list[list[int]] = list(loader.batch_sampler or ())
        # In the order of the data set.
        ids = list(self._ids)
        names = {index: ids[index] for batch in batches for index in batch}
        found = progress(names.values(), "find finished", delay=1)
        self._finished = {
            name
            for name in found
            if self._folder.is_whole(name, self.save_scores, self.save_instances)
        }
        metrics = runner.test_loop.evaluator.metrics
        if metrics and "full" not in self.save_scores:
            if self._finished:
                runner.logger.info(
                    f"{len(self._finished)} labels are there; their maps are computed "
                    "again for the metrics, because save_scores has no 'full'"
                )
            return
        finished = [
            batch
            for batch in batches
            if all(names[index] in self._finished for index in batch)
        ]
        if not finished:
            return
        runner.logger.info(
            f"{sum(map(len, finished))} of {len(names)} images are finished"
        )
        kept = {index for batch in finished for index in batch}
        take_batches(runner, [batch for batch in batches if batch[0] not in kept])
        if metrics:
            for index in progress(sorted(kept), "score finished", delay=1):
                sample = self._restore(dataset[index]["data_samples"], names[index])
                runner.test_loop.evaluator.process(data_samples=[sample])

    def _restore(self, sample, name: str):
        """The prediction of a finished image, from its files."""
        # TestTimeAug gives one sample per scale and flip.
        sample = sample[0] if isinstance(sample, list) else sample
        maps = load_score_maps(self._folder.scores(name), needs=("full",))
        sample.set_pred_score(torch.from_numpy(maps.scores))
        sample.cam = torch.from_numpy(maps.full)
        sample.cam_classes = torch.from_numpy(maps.classes)
        return sample


def _instance_part(sample, name: str) -> dict:
    """What :func:`mmwood.fileio.coco.merge_instances` needs to know of an image."""
    if "instances" not in sample:
        raise ValueError(
            "default_hooks.pseudo_label.save_instances: the model finds no instances; "
            "set model.test_cfg.instances of a mmwood.IRN"
        )
    height, width = sample.cam.shape[1:]
    file_name = name + Path(sample.img_path).suffix
    image = dict(file_name=file_name, width=width, height=height)
    instances = [
        dict(
            category_id=instance.class_id + 1,
            score=round(instance.score, 5),
            segmentation=encode_mask(instance.mask),
            area=int(instance.mask.sum()),
            bbox=list(cv2.boundingRect(instance.mask.view(np.uint8))),
        )
        for instance in sample.instances
        if instance.score > 0
    ]
    return dict(image=image, instances=instances)


def _in_common(values: list) -> Any:
    """What all data sets of a test have, or the list of what each has."""
    return values if any(value != values[0] for value in values) else values[0]


def _input_scores(dataset: dict) -> str | None:
    """SHA-256 of the manifest of the maps that go in, or None without."""
    folder = dataset.get("score_dir")
    return folder and file_sha256(LabelFolder(folder).manifest_path)


def _scales(pipeline: list[dict]) -> list[float]:
    """The scale factors of the pipeline's TestTimeAug, or 1 without."""
    scales = [
        option["scale_factor"]
        for transform in pipeline
        if type_name(transform) == "TestTimeAug"
        for step in transform["transforms"]
        for option in step
        if "scale_factor" in option
    ]
    return scales or [1.0]
