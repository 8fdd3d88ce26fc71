"""Note which classes a model believes candidate images to show."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import barrier, broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwood.datasets.candidates import CandidateDataset
from mmwood.datasets.transforms.loading import decoding_of
from mmwood.engine.batches import all_batches, take_batches
from mmwood.engine.class_scores import ScoreRule, class_scores
from mmwood.engine.ood_size import size_note
from mmwood.engine.weights import unwrap, weights_sha256
from mmwood.fileio.decoding import PICTURE
from mmwood.fileio.files import file_sha256, text_sha256
from mmwood.fileio.mining_results import Finding, Shard, finished_images, next_run
from mmwood.fileio.stores import is_stored, save_stored
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least


@HOOKS.register_module()
class OoDMiningHook(Hook):
    """Keep the classes of each tested image whose probability reaches a threshold.

    Of such an image the pooled feature is kept, too, where predictions have it as
    ``features`` (D,), as those of :class:`mmwood.CAMClassifier` do.

    ::

        out_dir/
          part_RUN_RANK.sqlite    see mmwood.fileio.mining_results

    Images that are found in a store, such as a tar shard, become files in ``found``
    beside ``out_dir``. Which models mine is told by :mod:`mmwood.engine.class_scores`.

    A run that was ended continues where it was, also with another number of processes.
    Batches are the same stretches of the list of candidates for any number of
    processes, and so are the results, to the bit. Results of another checkpoint, model,
    pipeline, list of candidates or threshold are never mixed in.

    ``tools/mine_ood.py`` sets it up and makes the manifest of what it found.

    Args:
        out_dir: Folder to write to. None is ``mining`` in the work dir.
        threshold: Least probability.
        size: Long side in pixels that the pipeline resizes to, for the record: results
            of another size are refused by its name. None: it resizes to none.
        score: Of a segmentation network, see
            :data:`mmwood.engine.class_scores.ScoreRule`; None is 'peak'.
        background: Of a segmentation network the class that is no object; None: the one
            called background, if there is one.

    Raises:
        ValueError: The threshold is not in [0, 1); the data set is no
            :class:`mmwood.CandidateDataset`; the folder holds results of something
            else; the model gives no scores, or not one a class name; ``score`` or
            ``background`` do not fit it; a model that would pad them is given images
            of different sizes.

    Example:
        >>> default_hooks = dict(
        ...     ood_mining=dict(type='mmwood.OoDMiningHook', threshold=0.5))
    """

    def __init__(
        self,
        out_dir: str | None = None,
        threshold: float = 0.5,
        size: int | None = None,
        score: ScoreRule | None = None,
        background: str | None = None,
    ) -> None:
        at_least("mmwood.OoDMiningHook: threshold", threshold, 0, below=1)
        self.out_dir = out_dir
        self.threshold = threshold
        self.size = size
        self.score = score
        self.background = background

    def before_test(self, runner: Runner) -> None:
        """Compare the folder with this run and leave out what is finished."""
        loader = all_batches(runner)
        dataset = loader.dataset
        if not isinstance(dataset, CandidateDataset):
            raise ValueError(
                "mmwood.OoDMiningHook needs test_dataloader.dataset to be a "
                f"mmwood.CandidateDataset, it is a {type(dataset).__name__}"
            )
        if loader.batch_size is None:
            raise ValueError(
                "mmwood.OoDMiningHook makes its own batches: set "
                "test_dataloader.batch_size, not a batch_sampler"
            )
        folder = Path(self.out_dir or Path(runner.work_dir, "mining"))
        names = dataset.metainfo["classes"]
        self._scores = class_scores(unwrap(runner), names, self.score, self.background)
        self._classes = self._scores.names
        self._found = folder.parent / "found"
        description = self._describe(runner)
        finished = finished_images(folder, description, len(dataset))
        run = [next_run(folder)]
        # All must have read the folder before one of them writes there.
        barrier()
        broadcast_object_list(run)
        name = f"part_{run[0]:04d}_{get_rank():04d}.sqlite"
        self._shard = Shard(folder / name, description)
        runner.logger.info(size_note(self.size))
        if finished.any():
            runner.logger.info(
                f"{finished.sum()} of {len(dataset)} candidates are finished"
            )
        batches = _OpenBatches(
            finished, loader.batch_size, get_rank(), get_world_size()
        )
        take_batches(runner, batches)
        # mmwood.CAMClassifier: its activations() take images of any sizes.
        self._pads = not hasattr(unwrap(runner), "activations")

    def before_test_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict
    ) -> None:
        """Refuse to have images padded, which would change their scores."""
        if self._pads and len({image.shape for image in data_batch["inputs"]}) > 1:
            names = [sample.img_path for sample in data_batch["data_samples"]]
            raise ValueError(
                f"a {type(unwrap(runner)).__name__} pads images of different sizes in "
                f"a batch, that of {names[0]}, which changes their scores: use "
                "--batch-size 1"
            )

    def after_test_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs: Sequence = ()
    ) -> None:
        """Write what a batch gave."""
        self._shard.add([self._finding(sample) for sample in outputs])

    def after_test(self, runner: Runner) -> None:
        """Close the file, wait for the other processes and restore the test."""
        self._shard.close()
        all_batches(runner)
        barrier()

    def _finding(self, sample) -> Finding:
        finding = Finding(sample.candidate, sample.img_path, fault=sample.fault)
        if finding.fault is not None:
            return finding
        score = self._scores(sample).numpy()
        if not np.isfinite(score).all():
            raise ValueError(f"{finding.image}: the model gives {score.tolist()}")
        finding.top = float(score.max())
        kept = np.flatnonzero(score >= self.threshold).tolist()
        finding.classes = [(index, float(score[index])) for index in kept]
        if not kept:
            return finding
        if is_stored(finding.image):
            finding.image, finding.sha256 = save_stored(finding.image, self._found)
        else:
            finding.sha256 = file_sha256(finding.image)
        if "features" in sample:
            features = sample.features.cpu().float().numpy().ravel()
            if not np.isfinite(features).all():
                raise ValueError(f"{finding.image}: its features are not finite")
            finding.features = features
        return finding

    def _describe(self, runner: Runner) -> dict:
        """What determines the results."""
        cfg = runner.cfg.to_dict()
        dataset = runner.test_loop.dataloader.dataset
        settings = dict(
            model=cfg["model"],
            pipeline=cfg["test_dataloader"]["dataset"]["pipeline"],
            fp16=bool((cfg.get("test_cfg") or {}).get("fp16")),
        )
        checkpoint = cfg.get("load_from")
        decoding = decoding_of(dataset)
        # What shows the images reads them as the classifier did.
        shown = {} if decoding == PICTURE else dict(decoding=vars(decoding))
        return dict(
            format="mmwood mining 1",
            size=self.size,
            checkpoint_sha256=checkpoint and file_sha256(checkpoint),
            # A test after a training, or of a resumed one, is not that of load_from.
            weights_sha256=weights_sha256(runner),
            config_sha256=text_sha256(
                json.dumps(settings, sort_keys=True, default=str)
            ),
            classes=list(self._classes),
            candidates_sha256=file_sha256(dataset.ann_file),
            threshold=self.threshold,
            **self._scores.rule,
            **json.loads(json.dumps(shown)),
        )


class _OpenBatches:
    """This process's batches, without the finished images.

    Batch b holds the images b·size to (b + 1)·size - 1, so that it is the same in any
    run: the numbers of an image depend, in the last bit, on the images that go through
    the network with it.
    """

    def __init__(self, finished: np.ndarray, size: int, rank: int, world: int) -> None:
        self._open = np.flatnonzero(~finished)
        starts = np.flatnonzero(np.diff(self._open // size, prepend=-1))
        stops = np.append(starts, len(self._open))[1:]
        self._bounds = np.stack([starts, stops], axis=1)[rank::world]

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[list[int]]:
        for start, stop in self._bounds:
            yield self._open[start:stop].tolist()
