"""The mean displacement of the training images, which tests subtract."""

import torch
from mmengine.dataset import Compose, DefaultSampler, pseudo_collate
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from mmwood.engine.features import with_pipeline
from mmwood.functional.grouping import group_by_shape
from mmwood.progress import progress
from mmwood.registry import HOOKS

__all__ = ["DisplacementMeanHook"]


@HOOKS.register_module()
class DisplacementMeanHook(Hook):
    """Measure ``displacement_mean`` of a :class:`mmwood.IRN` when it is trained.

    Displacements are learned from differences, so what is common to all of them is
    free; IRN subtracts their mean over the training images. It is computed before the
    last checkpoint is written, which holds it: over every pixel of every image, as
    tests see it, each once however many processes share the work.

    Args:
        pipeline: Transforms of the images in place of the training pipeline, which is
            random. None loads and packs them.
        batch_size: Images of each process that are loaded together. Those of one size
            go through the network together.
        num_workers: Loading processes.
        max_images: Measure on this many images, evenly chosen, instead of all.

    Raises:
        ValueError: The model has no displacement; ``max_images`` is below 1.

    Example:
        >>> default_hooks = dict(
        ...     displacement_mean=dict(type='mmwood.DisplacementMeanHook'))
    """

    PIPELINE = (dict(type="mmwood.LoadImage"), dict(type="mmpretrain.PackInputs"))

    def __init__(
        self,
        pipeline: list | None = None,
        batch_size: int = 8,
        num_workers: int = 2,
        max_images: int | None = None,
    ) -> None:
        if max_images is not None and max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {max_images}")
        self.pipeline = list(self.PIPELINE) if pipeline is None else pipeline
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.max_images = max_images

    def before_train(self, runner: Runner) -> None:
        """Refuse another model before it is trained."""
        if not hasattr(_unwrapped(runner), "displacement_mean"):
            raise ValueError(
                "mmwood.DisplacementMeanHook measures a mmwood.IRN, the model is a "
                f"{type(_unwrapped(runner)).__name__}"
            )

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict | None = None,
        outputs: dict | None = None,
    ) -> None:
        """Measure after the last iteration, before any hook writes a checkpoint."""
        if not self.is_last_train_iter(runner):
            return
        model = _unwrapped(runner)
        dataset = with_pipeline(runner.train_dataloader.dataset, Compose(self.pipeline))
        if self.max_images is not None and self.max_images < len(dataset):
            step = len(dataset) / self.max_images
            dataset = Subset(dataset, [int(i * step) for i in range(self.max_images)])
        model.displacement_mean.zero_()
        total = _total_displacement(model, dataset, self.batch_size, self.num_workers)
        all_reduce(total)
        model.displacement_mean.copy_(total[:2] / total[2])
        runner.logger.info(
            f"mean displacement over {len(dataset)} images: "
            f"{[round(value, 4) for value in model.displacement_mean.tolist()]}"
        )


def _unwrapped(runner: Runner) -> nn.Module:
    model = runner.model
    return model.module if is_model_wrapper(model) else model


@torch.no_grad()
def _total_displacement(
    model: nn.Module, dataset: Dataset, batch_size: int, num_workers: int
) -> Tensor:
    """Sums of both coordinates and number of pixels, of this process's images."""
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        # Without rounding up: an image that two processes share would count twice.
        sampler=DefaultSampler(dataset, shuffle=False, round_up=False),
        num_workers=num_workers,
        collate_fn=pseudo_collate,
    )
    was_training = model.training
    model.eval()
    total = torch.zeros(3, dtype=torch.float64, device=model.displacement_mean.device)
    for batch in progress(loader, "mean displacement"):
        for indices in group_by_shape(batch["inputs"]):
            data = dict(inputs=[batch["inputs"][i] for i in indices])
            inputs = model.data_preprocessor(data, False)["inputs"]
            _, displacement = model.relations(inputs, flip=False)
            displacement = displacement.double()
            total[:2] += displacement.sum(dim=(0, 2, 3))
            total[2] += displacement[:, 0].numel()
    model.train(was_training)
    return total
