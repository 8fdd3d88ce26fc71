"""The mean displacement of the training images, which tests subtract."""

import torch
from mmengine.dataset import BaseDataset, Compose
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import CheckpointLoader, Runner, save_checkpoint
from torch import Tensor
from torch.utils.data import Subset

from mmwood.datasets.transforms.loading import decoding_of
from mmwood.engine.features import as_in_tests, shard_loader, with_pipeline
from mmwood.engine.weights import (
    checkpoint_weights,
    is_averaged,
    model_copies,
    unwrap,
)
from mmwood.functional.batching import group_by_shape
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least
from mmwood.utils.progress import progress


@HOOKS.register_module()
class DisplacementMeanHook(Hook):
    """Measure ``displacement_mean`` of a :class:`mmwood.IRN` when it is trained.

    Displacements are learned from differences, so what is common to all of them is
    free; IRN subtracts their mean over the training images, of the weights that the
    checkpoint holds (with mmengine's EMAHook, the averaged ones): over every pixel of
    every image, as tests see it, each once however many processes share the work.

    It is measured after the last iteration, before the last checkpoint is written. A
    training that is stopped early is measured then, and the checkpoint of its last
    iteration is written anew. Checkpoints from the midst of a training have none (NaN):
    a validation or test that makes instances, which need it, measures it first.

    Args:
        pipeline: Transforms of the images in place of the training pipeline, which is
            random. None loads them as that does, and packs them.
        batch_size: Images of each process that are loaded together. Those of one size
            go through the network together.
        num_workers: Loading processes.
        max_images: Measure on this many images, evenly chosen, instead of all.

    Raises:
        ValueError: The model has no displacement; ``max_images`` is below 1; a test
            needs the mean, but neither the checkpoint has it nor the config training
            images.

    Example:
        >>> default_hooks = dict(
        ...     displacement_mean=dict(type='mmwood.DisplacementMeanHook'))
    """

    # After EMAHook has averaged the last iteration, before a checkpoint is written.
    priority = "LOW"

    def __init__(
        self,
        pipeline: list | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        max_images: int | None = None,
    ) -> None:
        if max_images is not None:
            at_least(
                "mmwood.DisplacementMeanHook: max_images", max_images, 1, integer=True
            )
        self.pipeline = pipeline
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_images = max_images
        self._is_measured = True
        self._is_averaged = False

    def before_run(self, runner: Runner) -> None:
        """Forget the mean of averaged weights before a test after the training.

        mmengine's EMAHook begins anew with the trained weights, which are tested then.
        """
        if self._is_averaged:
            self._set_mean(runner, torch.full((2,), torch.nan))
            self._is_averaged = False

    def before_train(self, runner: Runner) -> None:
        """Refuse another model before it is trained."""
        if not hasattr(unwrap(runner), "displacement_mean"):
            raise ValueError(
                "mmwood.DisplacementMeanHook measures a mmwood.IRN, the model is a "
                f"{type(unwrap(runner)).__name__}"
            )

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Forget the mean: it is that of weights that change now."""
        if self._is_measured:
            self._set_mean(runner, torch.full((2,), torch.nan))
            self._is_measured = False

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Measure after the last iteration, before any hook writes a checkpoint."""
        if self.is_last_train_iter(runner):
            self._measure(runner)

    def after_train(self, runner: Runner) -> None:
        """Measure where training was stopped early, for its last checkpoint too."""
        if runner.iter >= runner.max_iters:
            return
        if not self._is_measured:
            self._measure(runner)
        if is_main_process():
            self._add_to_checkpoint(runner)

    def before_val(self, runner: Runner) -> None:
        """Measure where instances are asked for and the checkpoint has no mean."""
        model = unwrap(runner)
        mean = getattr(model, "displacement_mean", None)
        if mean is None or not mean.isnan().any():
            return
        if model.test_cfg["instances"] is None:
            return
        if runner.train_loop is None:
            raise ValueError(
                "model.test_cfg.instances needs the mean displacement, which the "
                f"checkpoint {runner.cfg.get('load_from')} has not: take the last one "
                "of a training, or set train_dataloader and train_cfg, whose images "
                "it is measured on"
            )
        self._measure(runner)

    before_test = before_val

    def _measure(self, runner: Runner) -> None:
        dataset = runner.train_dataloader.dataset
        pipeline = self.pipeline
        if pipeline is None:
            load = dict(type="mmwood.LoadImage", **vars(decoding_of(dataset)))
            pipeline = [load, dict(type="mmpretrain.PackInputs")]
        dataset = with_pipeline(dataset, Compose(pipeline))
        if self.max_images is not None and self.max_images < len(dataset):
            step = len(dataset) / self.max_images
            dataset = Subset(dataset, [int(i * step) for i in range(self.max_images)])
        with checkpoint_weights(runner) as model:
            model.displacement_mean.zero_()
            total = _total_displacement(
                model, dataset, self.batch_size, self.num_workers
            )
        all_reduce(total)
        self._set_mean(runner, total[:2] / total[2])
        self._is_measured = True
        self._is_averaged = is_averaged(runner)
        runner.logger.info(
            f"mean displacement over {len(dataset)} images: "
            f"{[round(value, 4) for value in (total[:2] / total[2]).tolist()]}"
        )

    def _set_mean(self, runner: Runner, mean: Tensor) -> None:
        # In place, since averaging of buffers is of the tensors it began with.
        for model in model_copies(runner):
            model.displacement_mean.copy_(mean)

    def _add_to_checkpoint(self, runner: Runner) -> None:
        """Write the checkpoint of this iteration anew, with the mean."""
        mean = unwrap(runner).displacement_mean.cpu()
        for hook in runner.hooks:
            path = getattr(hook, "last_ckpt", None)
            if path is None:
                continue
            checkpoint = CheckpointLoader.load_checkpoint(path, map_location="cpu")
            if checkpoint["meta"]["iter"] != runner.iter:
                continue
            checkpoint["state_dict"]["displacement_mean"] = mean
            if "ema_state_dict" in checkpoint:
                checkpoint["ema_state_dict"]["module.displacement_mean"] = mean
            save_checkpoint(checkpoint, path, backend_args=hook.backend_args)


@torch.no_grad()
def _total_displacement(
    model: BaseModel, dataset: BaseDataset, batch_size: int, num_workers: int
) -> Tensor:
    """Sums of both coordinates and number of pixels, of this process's images."""
    # Else the loader draws a random number of torch, which a training that continues
    # would miss.
    loader = shard_loader(dataset, batch_size, num_workers, generator=torch.Generator())
    # On the CPU: Apple's GPUs have no double precision.
    total = torch.zeros(3, dtype=torch.float64)
    with as_in_tests(model):
        for batch in progress(loader, "mean displacement"):
            for indices in group_by_shape(batch["inputs"]):
                data = dict(inputs=[batch["inputs"][i] for i in indices])
                inputs = model.data_preprocessor(data, False)["inputs"]
                _, displacement = model.relations(inputs, flip=False)
                displacement = displacement.cpu().double()
                total[:2] += displacement.sum(dim=(0, 2, 3))
                total[2] += displacement[:, 0].numel()
    return total
