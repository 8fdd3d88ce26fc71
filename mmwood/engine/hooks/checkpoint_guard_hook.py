"""Refuse weights that leave a model random, or that are of other classes."""

from collections.abc import Iterator

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import CheckpointLoader, Runner
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from mmwood.engine.weights import unwrap
from mmwood.registry import HOOKS
from mmwood.utils.config import type_name

#: How many missing weights of each part of a model an error message names.
NAMED_WEIGHTS = 2


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Compare the weights that were loaded with the model's, and their classes.

    mmengine loads what fits and only logs the rest: a checkpoint of another network
    would be tested with random weights, one of other classes with a random classifier,
    one of reordered classes with wrong names.

    - A test, a validation and a resumed training need a checkpoint of the whole model:
      every part of it (backbone, neck, heads).
    - A training with ``load_from`` needs its backbone; weights of a backbone alone are
      welcome. A checkpoint that holds the model's head must be of its classes.
    - A part with ``init_cfg=dict(type='Pretrained', ...)``, at any depth, needs its
      weights from there, unless ``load_from`` replaced them.

    Weights are compared by what they hold, not by name, after everything was loaded:
    what a backbone renames or drops of its checkpoint's weights by itself makes no
    difference. Models whose weights are spread over processes (FSDP) are not compared.

    Args:
        min_share: Least share of a part's weights that must come from the checkpoint,
            and of the checkpoint's weights of the backbone that the model must have.
            0 lets any weights pass.
        other_classes: Whether a training may begin with the weights of other classes:
            a head of another number of classes then begins anew.

    Raises:
        ValueError: The weights do not fit, or they are of other classes.

    Example:
        >>> default_hooks = dict(
        ...     checkpoint_guard=dict(type='mmwood.CheckpointGuardHook',
        ...                           other_classes=True))
    """

    # Before hooks that compute with the weights.
    priority = "VERY_HIGH"

    def __init__(self, min_share: float = 0.9, other_classes: bool = False) -> None:
        if not 0 <= min_share <= 1:
            raise ValueError(
                "mmwood.CheckpointGuardHook: min_share must be in [0, 1], got "
                f"{min_share}"
            )
        self.min_share = min_share
        self.other_classes = other_classes
        # What was loaded and not compared yet: training changes it.
        self._loaded: _Weights | None = None
        self._compared_initial = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what the checkpoint holds and what it was made for."""
        self._loaded = _Weights(checkpoint)

    def before_train(self, runner: Runner) -> None:
        """Compare ``load_from``, what is resumed, and ``init_cfg``."""
        loaded = self._compare(
            runner, runner.train_dataloader.dataset, whole=runner.cfg.get("resume")
        )
        if not self._compared_initial:
            self._compared_initial = True
            self._compare_initial(runner, loaded)

    def before_val(self, runner: Runner) -> None:
        """Compare, unless a training has done so."""
        self._compare(runner, runner.val_dataloader.dataset, whole=True)

    def before_test(self, runner: Runner) -> None:
        """Compare, unless a training or a test has done so."""
        self._compare(runner, runner.test_dataloader.dataset, whole=True)

    def check(
        self, name: str, checkpoint: dict, model: nn.Module, whole: bool = False
    ) -> None:
        """Refuse a checkpoint that was loaded without a Runner.

        Args:
            name: What messages call it.
            checkpoint: Its content.
            model: What it was loaded into.
            whole: Whether every part of the model must be filled, or the backbone.

        Raises:
            ValueError: It leaves such a part random.
        """
        self._refuse(name, _Weights(checkpoint), model, _parts(model, whole))

    def _compare(self, runner: Runner, dataset, whole: bool) -> "_Weights | None":
        loaded, self._loaded = self._loaded, None
        if loaded is None or _is_sharded(runner):
            return loaded
        model = unwrap(runner, tta=True)
        name = f"the checkpoint {runner.cfg.get('load_from') or 'of the work dir'}"
        if whole or not self.other_classes:
            classes = getattr(dataset, "metainfo", {}).get("classes")
            _compare_classes(name, loaded, model, classes, whole)
        self._refuse(name, loaded, model, _parts(model, whole))
        return loaded

    def _compare_initial(self, runner: Runner, loaded: "_Weights | None") -> None:
        if _is_sharded(runner):
            return
        for name, module in unwrap(runner, tta=True).named_modules():
            for config in _pretrained(module):
                part = ["backbone"] if hasattr(module, "backbone") else [""]
                if loaded is not None and not self._lacking(loaded, module, part):
                    continue
                file = CheckpointLoader.load_checkpoint(
                    config["checkpoint"], map_location="cpu", logger="silent"
                )
                field = ".".join(filter(None, ("model", name, "init_cfg")))
                self._refuse(
                    f"{field}: {config['checkpoint']}",
                    _Weights(file, config.get("prefix") or ""),
                    module,
                    part,
                    prefix=f"{name}." if name else "",
                )

    def _lacking(
        self, weights: "_Weights", module: nn.Module, parts: list[str]
    ) -> dict[str, tuple[list[str], int]]:
        """Names that are missing, and the number of all, of parts with too few."""
        lacking = {}
        for part in parts:
            own = {
                name: value
                for name, value in module.named_parameters()
                if name.startswith(f"{part}." if part else "")
            }
            missing = [n for n, value in own.items() if _content(value) not in weights]
            if len(missing) > (1 - self.min_share) * len(own):
                lacking[part] = missing, len(own)
        return lacking

    def _refuse(
        self,
        name: str,
        weights: "_Weights",
        module: nn.Module,
        parts: list[str],
        prefix: str = "",
    ) -> None:
        """Refuse weights that fill too little of some parts of a module; [""]: of all.

        ``prefix`` is that of the module's weights in the model.
        """
        advice = (
            "; name one of this model, or set "
            "default_hooks.checkpoint_guard.min_share=0 to start from random weights"
        )
        lacking = self._lacking(weights, module, parts)
        if lacking:
            # Heads stand last, and their names say most.
            named = [
                f"{prefix}{weight}"
                for missing, _ in reversed(lacking.values())
                for weight in missing[:NAMED_WEIGHTS]
            ]
            counts = ", ".join(
                f"{total - len(missing)} of the {total} weights of "
                f"model.{prefix}{part}".rstrip(".")
                for part, (missing, total) in lacking.items()
            )
            raise ValueError(
                f"{name} holds no {', '.join(named)}, ... with these shapes, only "
                f"{counts}. It has {weights.first_names()}{advice}"
            )
        # Other parts may hold more than this model needs, as a head of W-OoD does.
        if not {"", "backbone"}.intersection(parts):
            return
        start = "" if "" in parts else "backbone."
        children = {child for child, _ in module.named_children()}
        theirs = [
            key
            for key in weights.contents
            if key.startswith(start) and key.split(".")[0] in children
        ]
        own = module.state_dict()
        held = {_content(value) for value in own.values()}
        unused = [
            key
            for key in theirs
            # Averaged weights may hold the place of those of this name.
            if weights.contents[key] not in held
            and (key not in own or tuple(own[key].shape) != weights.shapes[key])
        ]
        if len(unused) > (1 - self.min_share) * len(theirs):
            raise ValueError(
                f"{name} is of a larger network: the model has no "
                f"{', '.join(unused[:NAMED_WEIGHTS])}, ..., {len(unused)} of its "
                f"{len(theirs)} weights{advice}"
            )


class _Weights:
    """What a checkpoint holds.

    Attributes:
        shapes: By name, without the prefix of model wrappers.
        contents: The same of what the weights hold, without counters of batches.
        classes: The class names that it was trained on, or None.
    """

    def __init__(self, checkpoint: dict, prefix: str = "") -> None:
        state = _tensors(checkpoint.get("state_dict", checkpoint))
        if prefix:
            prefix = f"{prefix.rstrip('.')}."
            state = {
                name.removeprefix(prefix): value
                for name, value in state.items()
                if name.startswith(prefix)
            }
        self.shapes = {name: tuple(value.shape) for name, value in state.items()}
        self.contents = {name: _content(value) for name, value in state.items()}
        # EMAHook lets the averaged weights take the others' place.
        averaged = _tensors(checkpoint.get("ema_state_dict", {}))
        self._known = {*self.contents.values(), *map(_content, averaged.values())}
        meta = (checkpoint.get("meta") or {}).get("dataset_meta") or {}
        self.classes = meta.get("classes") or meta.get("CLASSES")

    def __contains__(self, content: int) -> bool:
        return content in self._known

    def first_names(self) -> str:
        """Some names, as an error message gives them."""
        names = [*self.shapes][:NAMED_WEIGHTS]
        return f"{', '.join(names)}, ..." if names else "no weights"


def _tensors(state: dict) -> dict[str, Tensor]:
    return {
        name.removeprefix("module."): value
        for name, value in state.items()
        if torch.is_tensor(value) and not name.endswith("num_batches_tracked")
    }


def _content(value: Tensor) -> int:
    """A number for what a tensor holds, whatever its device, type and memory order."""
    value = value.detach().cpu()
    if value.is_floating_point():
        value = value.float()
    return hash((tuple(value.shape), value.contiguous().numpy().tobytes()))


def _is_sharded(runner: Runner) -> bool:
    """Whether each process holds a part of the weights alone."""
    whole = (DistributedDataParallel, DataParallel)
    return is_model_wrapper(runner.model) and not isinstance(runner.model, whole)


def _parts(model: nn.Module, whole: bool) -> list[str]:
    """The parts of a model that a checkpoint must fill: all, or the backbone."""
    parts = [child for child, _ in model.named_children()]
    return ["backbone"] if "backbone" in parts and not whole else parts


def _pretrained(module: nn.Module) -> Iterator[dict]:
    """The configs of a module's ``init_cfg`` that name a file of weights."""
    configs = getattr(module, "init_cfg", None) or []
    for config in [configs] if isinstance(configs, dict) else configs:
        if type_name(config) in ("Pretrained", "PretrainedInit"):
            yield config


def _compare_classes(
    name: str, loaded: _Weights, model: nn.Module, classes, whole: bool
) -> None:
    """Refuse a checkpoint with the model's head that is of other classes."""
    own = {
        key: tuple(value.shape)
        for key, value in model.named_parameters()
        if "head" in key.split(".")[0]
    }
    held = [key for key in own if key in loaded.shapes]
    if not held:
        # Weights of a backbone alone, or with another head.
        return
    field = "default_hooks.checkpoint_guard.other_classes=True"
    advice = f"; set {field} to begin with it all the same"
    if whole:
        advice = (
            "; if they mean the same, set default_hooks.checkpoint_guard=None, which "
            "switches this check off"
        )
    if loaded.classes and classes and tuple(loaded.classes) != tuple(classes):
        raise ValueError(
            f"{name} was trained on the classes {tuple(loaded.classes)}, the data set "
            f"has {tuple(classes)}{advice}"
        )
    for key in held:
        theirs = loaded.shapes[key]
        # One row a class; where other sides differ too, it is another head.
        if theirs[1:] == own[key][1:] and theirs[:1] != own[key][:1]:
            raise ValueError(
                f"{name} has {theirs[0]} classes, the model {own[key][0]} "
                f"({key}){advice}"
            )
