"""Elastic weight consolidation (EWC), the second half of size-balanced training."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

import torch
from mmengine.dataset import Compose, RepeatDataset
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from mmwood.engine.ewc_file import ConsolidatedTask, load_task, save_task
from mmwood.engine.features import with_pipeline
from mmwood.engine.fisher import (
    RunningFisher,
    measure_fisher,
    set_size_balanced,
    size_balanced_losses,
)
from mmwood.engine.weights import checkpoint_weights, unwrap
from mmwood.functional.ewc import ewc_penalty, normalise_fisher
from mmwood.registry import HOOKS
from mmwood.utils.check import at_least, one_of

Mode = Literal["consolidate", "penalise", "switch"]
Fisher = Literal["images", "running"]

#: What a checkpoint calls the running mean.
_KEY = "mmwood_running_fisher"


@HOOKS.register_module()
class EWCHook(Hook):
    r"""Hold the weights that an earlier task needs (Kirkpatrick et al., PNAS 2017).

    Task A trains with plain cross-entropy; at its end the diagonal Fisher information
    F of its loss is measured. Task B starts from A's weights :math:`\theta^*` and adds

    .. math:: \frac{\lambda}{2} \sum_i F_i (\theta_i - \theta^*_i)^2

    to its loss, as ``loss_ewc`` in the log. With :class:`mmwood.SizeBalancedCELoss` in
    B this is the training of Mun et al., WACV 2024. ``mode`` says what the hook does:

    - 'consolidate' (A's config): writes F and the weights after the last iteration,
      before the checkpoint.
    - 'penalise' (B's config): reads them and adds the penalty. Load A's checkpoint by
      ``load_from``.
    - 'switch': A and B in one run. For the first ``switch_at`` iterations every
      SizeBalancedCELoss, in auxiliary heads too, is plain cross-entropy; then the
      hook consolidates, and the rest of the run is B. The optimizer and the learning
      rate schedule are not reset. The run can be resumed anywhere: before the switch
      nothing is needed, after it the file in the work dir.

    **Which F.** ``fisher`` says. 'images' is the one of the equations, described below.
    'running' is that of the authors' program, taken while A trains
    (:class:`mmwood.engine.fisher.RunningFisher`) and brought to 0..1 in each tensor. It
    costs nothing, but a lambda means something else: the program's 500, without the
    half and in each of two half-batches, is ``weight=2000`` here.

    **Which likelihood.** F is the mean over images of the squared gradient of the loss
    that A minimises, with batch norm and dropout as in evaluation and in float32,
    one image at a time: the sum of the model's own losses, with every
    SizeBalancedCELoss plain and without ``loss_ewc``. For cross-entropy this is the
    mean of -log p over an image's pixels: the valid ones, or all with mmseg's default
    ``avg_non_ignore=False``. The sum over V pixels would give V² times the F, hence
    the same penalty for 1/V² times the ``weight``. Auxiliary heads count with their
    ``loss_weight``.

    **Which images.** All training images, each once, or ``images`` of them, evenly
    chosen, as the training pipeline gives them. Its random seed is made of the run's
    and the image, so that F depends neither on the number of processes, which share
    the images, nor on when it is computed.

    **Which parameters.** Those that are trained and whose name ``include`` and
    ``exclude`` choose. Both are lists of regular expressions that are searched for in
    the name, so that parts of names work, as in ``paramwise_cfg.custom_keys``. A
    layer of B that A lacks, or has in another shape, must be excluded.

    **Which weights.** Those that B starts from. To 'consolidate' it is those that the
    checkpoint holds: with mmengine's EMAHook the averaged ones, also where the training
    is stopped early. A 'switch' hands no checkpoint on: B starts from the weights that
    the optimizer trains, and they are the ones that F and anchor are of, so that the
    penalty starts at 0 as it does in a run of its own; EMAHook keeps averaging.

    Args:
        mode: 'consolidate', 'penalise' or 'switch'.
        weight: lambda. Needed to penalise and to switch.
        file: Where to write to, or to read from. None is ``ewc.safetensors`` in the
            work dir; 'penalise' needs a path. See :mod:`mmwood.engine.ewc_file`.
        switch_at: The number of iterations of task A; 'switch' only.
        fisher: 'images' or 'running'.
        include: Take parameters that one of these matches. Empty: all.
        exclude: Of them, leave out those that one of these matches.
        images: Use this many images; None is all. For 'images' only.
        pipeline: Transforms in place of the training pipeline. For 'images' only.
        num_workers: Loading processes.

    Raises:
        FileNotFoundError: There is no such ``file``.
        ValueError: ``mode`` is none of the three, or needs a ``weight``, ``file`` or
            ``switch_at`` that is absent, or does not use one that is given;
            ``fisher`` is neither, or 'running' where it has no use, with ``images`` or
            ``pipeline``, with no single optimizer of torch, or resumed from a
            checkpoint without it; a number
            is too small; a pattern matches nothing; the file does not fit the model or
            this run; ``weight`` is so large that SGD diverges (a warning where the run
            switches); 'switch' without a SizeBalancedCELoss, after the end of the run,
            or between two steps of the optimizer.

    Example:
        >>> # task A
        >>> custom_hooks = [dict(type='mmwood.EWCHook', mode='consolidate')]
        >>> # task B
        >>> load_from = 'work_dirs/task_a/iter_20000.pth'
        >>> custom_hooks = [dict(
        ...     type='mmwood.EWCHook', mode='penalise', weight=100.0,
        ...     file='work_dirs/task_a/ewc.safetensors')]
        >>> # both in one run
        >>> custom_hooks = [dict(
        ...     type='mmwood.EWCHook', mode='switch', weight=100.0, switch_at=20000)]
    """

    # After EMAHook has averaged the last iteration, before a checkpoint is written.
    priority = "LOW"

    def __init__(
        self,
        mode: Mode,
        weight: float | None = None,
        file: str | None = None,
        switch_at: int | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        images: int | None = None,
        pipeline: list | None = None,
        num_workers: int = 2,
        fisher: Fisher = "images",
    ) -> None:
        one_of("mmwood.EWCHook: mode", mode, get_args(Mode))
        if (weight is None) != (mode == "consolidate"):
            raise ValueError(
                f"mmwood.EWCHook: mode {mode!r} "
                + (
                    "needs a weight, the lambda of the penalty"
                    if weight is None
                    else "has no use for a weight"
                )
            )
        if mode == "penalise" and file is None:
            raise ValueError(
                "mmwood.EWCHook: mode 'penalise' needs the file that task A wrote"
            )
        if (switch_at is None) != (mode != "switch"):
            raise ValueError(
                "mmwood.EWCHook: switch_at, the iterations before the switch, goes "
                f"with mode 'switch' and with no other, got {switch_at!r} for mode "
                f"{mode!r}"
            )
        one_of("mmwood.EWCHook: fisher", fisher, get_args(Fisher))
        if fisher == "running":
            given = dict(images=images, pipeline=pipeline)
            unused = [name for name, value in given.items() if value is not None]
            if mode == "penalise":
                unused.append("mode 'penalise', which reads F from the file,")
            if unused:
                raise ValueError(
                    f"mmwood.EWCHook: fisher 'running' does not go with {unused[0]}"
                )
        if weight is not None:
            at_least("mmwood.EWCHook: weight", weight, 0)
        if switch_at is not None:
            at_least("mmwood.EWCHook: switch_at", switch_at, 1, integer=True)
        if images is not None:
            at_least("mmwood.EWCHook: images", images, 1, integer=True)
        self.mode = mode
        # None to consolidate, which adds no penalty.
        self.weight = 0.0 if weight is None else weight
        self.file = file
        self.switch_at = switch_at
        self.include = _patterns("include", include)
        self.exclude = _patterns("exclude", exclude)
        self.images = images
        self.pipeline = pipeline
        self.num_workers = num_workers
        self.fisher = fisher
        self._running: RunningFisher | None = None
        self._resumed: Mapping[str, Tensor] | None = None
        self._consolidated = False
        self._handle: RemovableHandle | None = None

    def before_train(self, runner: Runner) -> None:
        """Refuse what does not fit, and add the penalty where task B begins or is."""
        # A training that ended by an error has left its own.
        self._clear()
        self._consolidated = False
        model = unwrap(runner)
        self._check_patterns(model)
        if self.mode == "penalise":
            task = self._load(runner, model)
            self.penalise(model, task)
            if runner.iter == 0:
                self._compare_start(runner)
            if overshoot := self._overshoot(runner, task):
                raise ValueError(overshoot)
        elif self.mode == "switch":
            self._check_switch(runner, model)
            switched = runner.iter >= self.switch_at
            set_size_balanced(model, switched)
            if switched:
                self.penalise(model, self._load(runner, model))
        if self.fisher == "running" and not self._handle:
            self._track(runner, model)

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Take the running mean of the run that goes on."""
        self._resumed = checkpoint.get(_KEY)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Give the running mean to the checkpoint."""
        if self._running is not None:
            checkpoint[_KEY] = self._running.values

    def after_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Consolidate after task A's last iteration, before any checkpoint."""
        if self.mode == "switch" and runner.iter + 1 == self.switch_at:
            model = unwrap(runner)
            task = self._consolidate(runner, model, runner.iter + 1)
            self._clear()
            self.penalise(model, task)
            set_size_balanced(model, True)
            if overshoot := self._overshoot(runner, task):
                runner.logger.warning(overshoot)
        elif self.mode == "consolidate" and self.is_last_train_iter(runner):
            with checkpoint_weights(runner) as model:
                self._consolidate(runner, model, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Consolidate where training was stopped early; leave the model as it was."""
        if self.mode == "consolidate" and not self._consolidated:
            with checkpoint_weights(runner) as model:
                self._consolidate(runner, model, runner.iter)
        if self.mode == "switch" and runner.iter < self.switch_at:
            runner.logger.warning(
                f"mmwood.EWCHook: the training was stopped after {runner.iter} "
                f"iterations, before switch_at={self.switch_at}: this is task A alone"
            )
        self._clear()

    def penalise(self, model: nn.Module, task: ConsolidatedTask) -> None:
        """Add ``loss_ewc`` to the losses of a model that is not wrapped.

        The task must have the chosen parameters of the model, in their shapes.
        """
        chosen = self._chosen(model)
        device = next(iter(chosen.values())).device
        # One vector takes an accelerator a few operations a step instead of hundreds,
        # but is too long for a CPU's cache.
        self._groups = [[n] for n in chosen] if device.type == "cpu" else [[*chosen]]
        self._params = chosen
        self._fisher = {n: _flat(t).to(device) for n, t in self._grouped(task.fisher)}
        self._anchor = {n: _flat(t).to(device) for n, t in self._grouped(task.anchor)}
        self._handle = model.register_forward_hook(self._add_penalty, with_kwargs=True)

    def _track(self, runner: Runner, model: nn.Module) -> None:
        """Start the running mean, or go on with that of a run that is resumed."""
        optimizer = getattr(runner.optim_wrapper, "optimizer", None)
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(
                "mmwood.EWCHook: fisher 'running' needs one optimizer of torch, got "
                f"{type(runner.optim_wrapper).__name__}"
            )
        chosen = self._chosen(model)
        resumed = self._resumed if runner.iter else None
        if runner.iter and set(resumed or ()) != set(chosen):
            raise ValueError(
                "mmwood.EWCHook: fisher 'running' was not measured in the run that is "
                "resumed, or of other parameters: resume with its settings"
            )
        self._running = RunningFisher(chosen, optimizer, resumed)

    def _clear(self) -> None:
        """Take off what an earlier training has left."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        if self._running is not None:
            self._running.stop()
            self._running = None

    def _path(self, runner: Runner) -> Path:
        return Path(self.file or Path(runner.work_dir, "ewc.safetensors"))

    def _chooses(self, name: str) -> bool:
        included = not self.include or any(p.search(name) for p in self.include)
        return included and not any(p.search(name) for p in self.exclude)

    def _chosen(self, model: nn.Module) -> dict[str, nn.Parameter]:
        return {
            name: param
            for name, param in model.named_parameters()
            if param.requires_grad and self._chooses(name)
        }

    def _check_patterns(self, model: nn.Module) -> None:
        names = [name for name, _ in model.named_parameters()]
        for field in ("include", "exclude"):
            for pattern in getattr(self, field):
                if not any(pattern.search(name) for name in names):
                    raise ValueError(
                        f"{field}: no parameter of the model matches "
                        f"{pattern.pattern!r}; they are named as {names[0]} and "
                        f"{names[-1]}"
                    )
        if not self._chosen(model):
            raise ValueError("include and exclude leave no parameter that is trained")

    def _check_switch(self, runner: Runner, model: nn.Module) -> None:
        if not list(size_balanced_losses(model)):
            raise ValueError(
                "mode 'switch' changes mmwood.SizeBalancedCELoss from plain to "
                "size-balanced, but the model has none: set it as loss_decode"
            )
        if self.switch_at >= runner.max_iters:
            raise ValueError(
                f"switch_at is {self.switch_at}, but the run ends after "
                f"{runner.max_iters} iterations: task B would have none"
            )
        counts = (runner.cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1)
        if self.switch_at % counts:
            raise ValueError(
                f"switch_at is {self.switch_at}, which must be a multiple of "
                f"optim_wrapper.accumulative_counts={counts}: a step of the optimizer "
                "would have gradients of both tasks"
            )

    def _load(self, runner: Runner, model: nn.Module) -> ConsolidatedTask:
        path = self._path(runner)
        try:
            task = load_task(path)
        except (FileNotFoundError, ValueError) as error:
            raise type(error)(f"mmwood.EWCHook.file: {error}") from error
        if self.mode == "switch" and task.about["iteration"] != self.switch_at:
            raise ValueError(
                f"mmwood.EWCHook.file: {path} was written after "
                f"{task.about['iteration']} iterations, but switch_at is "
                f"{self.switch_at}: it is of another run, or switch_at was changed"
            )
        frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
        wanted = {n: tuple(p.shape) for n, p in self._chosen(model).items()}
        found = {
            name: tuple(tensor.shape)
            for name, tensor in task.fisher.items()
            if self._chooses(name) and name not in frozen
        }
        wrong = [
            f"{name} is {_shape(found, name)} in the file, {_shape(wanted, name)} "
            "among the trained parameters of the model"
            for name in dict.fromkeys((*wanted, *found))
            if found.get(name) != wanted.get(name)
        ]
        if wrong:
            more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
            raise ValueError(
                f"mmwood.EWCHook.file: {path} does not fit the model: "
                f"{'; '.join(wrong[:3])}{more}. Leave out by exclude what only one of "
                "the tasks trains"
            )
        return task

    def _add_penalty(self, model: nn.Module, args: tuple, kwargs: dict, output):
        """Forward hook of the model, called under DDP and autocast as it is."""
        mode = kwargs.get("mode", args[2] if len(args) > 2 else "tensor")
        if mode != "loss":
            return output
        # No operation in here is one that autocast computes in half precision.
        params = ((n, _flat(tensors)) for n, tensors in self._grouped(self._params))
        penalty = ewc_penalty(params, self._anchor, self._fisher, self.weight)
        # Penalties of several earlier tasks add up.
        return {**output, "loss_ewc": output.get("loss_ewc", 0) + penalty}

    def _grouped(
        self, tensors: Mapping[str, Tensor]
    ) -> Iterator[tuple[str, list[Tensor]]]:
        """The tensors of each group, under the name of its first."""
        return ((group[0], [tensors[n] for n in group]) for group in self._groups)

    def _compare_start(self, runner: Runner) -> None:
        with torch.no_grad():
            apart = sum(
                (_flat(tensors) != self._anchor[name]).sum().item()
                for name, tensors in self._grouped(self._params)
            )
        if apart:
            runner.logger.warning(
                f"mmwood.EWCHook: {apart} weights are not those that task A ended "
                f"with: set load_from (it is {runner.cfg.get('load_from')}) to task "
                "A's last checkpoint"
            )

    def _overshoot(self, runner: Runner, task: ConsolidatedTask) -> str | None:
        """What to say where the penalty alone makes SGD diverge.

        Its curvature is lambda F; gradient descent with momentum m on a parabola
        diverges where the learning rate times the curvature exceeds 2 (1 + m).
        """
        optimizer = getattr(runner.optim_wrapper, "optimizer", None)
        if not isinstance(optimizer, torch.optim.SGD):
            return None
        groups = {p: group for group in optimizer.param_groups for p in group["params"]}
        # How much too large the weight is; the parameter, its F and learning rate.
        worst = (1.0, "", 0.0, 0.0)
        for name, param in self._params.items():
            group, fisher = groups[param], task.fisher[name].max().item()
            excess = group["lr"] * self.weight * fisher / (2 + 2 * group["momentum"])
            worst = max(worst, (excess, name, fisher, group["lr"]))
        excess, name, fisher, rate = worst
        if not name:
            return None
        return (
            f"mmwood.EWCHook.weight: with {self.weight} SGD diverges at {name}, whose "
            f"F is up to {fisher:.3g} at a learning rate of {rate:.3g}; expected less "
            f"than {self.weight / excess:.3g}"
        )

    def _consolidate(
        self, runner: Runner, model: nn.Module, iteration: int
    ) -> ConsolidatedTask:
        """Measure F and write it; every process gets the whole."""
        dataset = runner.train_dataloader.dataset
        while isinstance(dataset, RepeatDataset):
            dataset = dataset.dataset
        params = self._chosen(model)
        if self._running is not None:
            fisher, images = normalise_fisher(self._running.values), None
        else:
            if self.pipeline is not None:
                dataset = with_pipeline(dataset, Compose(self.pipeline))
            fisher, images = measure_fisher(
                model,
                dataset,
                params,
                images=self.images,
                seed=runner.seed or 0,
                num_workers=self.num_workers,
                collate_fn=runner.train_dataloader.collate_fn,
            )
        anchor = {name: param.detach().clone() for name, param in params.items()}
        about = dict(
            iteration=iteration,
            fisher=self.fisher,
            images=images,
            include=[pattern.pattern for pattern in self.include],
            exclude=[pattern.pattern for pattern in self.exclude],
            classes=list(getattr(dataset, "metainfo", {}).get("classes", ())),
        )
        task = ConsolidatedTask(fisher, anchor, about)
        path = self._path(runner)
        if is_main_process():
            save_task(path, task)
        self._consolidated = True
        runner.logger.info(
            f"Fisher information of {len(fisher)} parameters "
            + (f"over {images} images" if images else "as the training went")
            + f" in {path}"
        )
        return task


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    """All values in one float32 vector."""
    vectors = [tensor.float().flatten() for tensor in tensors]
    return vectors[0] if len(vectors) == 1 else torch.cat(vectors)


def _shape(shapes: dict[str, tuple[int, ...]], name: str) -> str:
    return f"of shape {shapes[name]}" if name in shapes else "absent"


def _patterns(field: str, patterns: Sequence[str]) -> list[re.Pattern]:
    if isinstance(patterns, str):
        raise ValueError(
            f"mmwood.EWCHook: {field} must be a list of patterns, got {patterns!r}"
        )
    try:
        return [re.compile(pattern) for pattern in patterns]
    except re.error as error:
        raise ValueError(
            f"mmwood.EWCHook: {field} must be a list of regular expressions, got "
            f"{list(patterns)}: {error}"
        ) from error
