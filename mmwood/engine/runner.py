"""From a config file to a Runner: what tools/train.py and tools/test.py share."""

import copy
import os
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.dist import is_distributed
from mmengine.registry import EVALUATOR, RUNNERS
from mmengine.runner import Runner

from mmwood.registry import import_locations
from mmwood.utils.config import (
    leaf_datasets,
    metric_configs,
    type_name,
)
from mmwood.utils.last_checkpoint import last_checkpoint

#: Seconds that a process waits for the others.
TIMEOUT = 3600

#: Hooks that every Runner gets, by their names in ``default_hooks``.
CHECKS = dict(
    start_check="StartCheckHook",
    checkpoint_guard="CheckpointGuardHook",
    ignore_biased="IgnoreBiasedHook",
)

#: Hooks that mmengine adds itself, unless ``default_hooks`` names them as None.
STOCK_HOOKS = (
    "runtime_info",
    "timer",
    "sampler_seed",
    "logger",
    "param_scheduler",
    "checkpoint",
)


def use_tta(cfg: Config) -> None:
    """Make the config's test the one of its ``tta_model`` and ``tta_pipeline``.

    Raises:
        ValueError: The config lacks one of them.
    """
    missing = [key for key in ("tta_model", "tta_pipeline") if cfg.get(key) is None]
    if missing:
        raise ValueError(f"--tta: the config has no {' and no '.join(missing)}")
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in leaf_datasets(cfg.test_dataloader.dataset):
        dataset.pipeline = cfg.tta_pipeline


def build_runner(cfg: Config) -> Runner:
    """Build the Runner of a config; processes on CPUs work too.

    Any config gets the checks of ours, :class:`mmwood.StartCheckHook` and
    :class:`mmwood.CheckpointGuardHook`, and :class:`mmwood.IgnoreBiasedHook`. A hook
    that ``default_hooks`` names as None is left out.

    Raises:
        ValueError: A launcher other than 'none' and 'pytorch' without CUDA; a file of
            weights is cut off; an evaluator is none.
    """
    import_locations()
    _refuse_damaged_weights(cfg)
    _refuse_merged_evaluators(cfg)
    _add_checks(cfg)
    if cfg.launcher != "none":
        _limit_waiting(cfg)
        if not torch.cuda.is_available():
            _distribute_on_cpu(cfg)
    cfg = FormattedOnce.of(cfg)
    if "runner_type" in cfg:
        return RUNNERS.build(cfg)
    return Runner.from_cfg(cfg)


class FormattedOnce(Config):
    """A config whose text is formatted again only where it has changed.

    mmengine asks for it at the start of a run, for the copy in the work dir, for the
    visualizer and for each checkpoint; to format it takes half a second.
    """

    @classmethod
    def of(cls, cfg: Config) -> "FormattedOnce":
        """A shallow copy of a config."""
        cfg = copy.copy(cfg)
        # mmengine's constructor would read it anew.
        object.__setattr__(cfg, "__class__", cls)
        return cfg

    @property
    def pretty_text(self) -> str:
        """The config as Python code."""
        plain = copy.copy(self)
        object.__setattr__(plain, "_format_python_code", False)
        text = Config.pretty_text.fget(plain)
        known, formatted = self.__dict__.get("_texts", ("", ""))
        if known != text:
            formatted = super().pretty_text
            object.__setattr__(self, "_texts", (text, formatted))
        return formatted


def _add_checks(cfg: Config) -> None:
    """Add our checks where a config lacks them, and leave out hooks that are None."""
    hooks = cfg.get("default_hooks") or ConfigDict()
    present = {
        type_name(h) for h in (*hooks.values(), *(cfg.get("custom_hooks") or ()))
    }
    for name, kind in CHECKS.items():
        if kind not in present:
            hooks.setdefault(name, dict(type=f"mmwood.{kind}"))
    # Of hooks that are not its own, mmengine takes no None.
    cfg.default_hooks = {
        name: hook
        for name, hook in hooks.items()
        if hook is not None or name in STOCK_HOOKS
    }
    loop = cfg.get("train_cfg") or ConfigDict()
    # mmengine looks at by_epoch where no type is named.
    kind = type_name(loop) or ("EpochBasedTrainLoop" if loop.get("by_epoch") else "")
    if kind == "EpochBasedTrainLoop":
        loop.pop("by_epoch", None)
        loop.type = "mmwood.EpochTrainLoop"


def _refuse_merged_evaluators(cfg: Config) -> None:
    """Refuse a metric that was merged into an evaluator of several."""
    for field in ("val_evaluator", "test_evaluator"):
        evaluator = cfg.get(field)
        if not isinstance(evaluator, dict) or "metrics" not in evaluator:
            continue
        kind = evaluator.get("type", "Evaluator")
        if isinstance(kind, str) and EVALUATOR.get(kind) is None:
            raise ValueError(
                f"{field}: {kind} is no evaluator, and stands in one of a base config: "
                f"write {field}=dict(_delete_=True, type={kind!r}, ...), or a list"
            )


def _refuse_damaged_weights(cfg: Config) -> None:
    """Name a file that holds no weights or half of them: torch says neither."""
    paths = {"load_from": cfg.get("load_from")}
    last = last_checkpoint(cfg.work_dir)
    if cfg.get("resume") and not cfg.get("load_from") and last is not None:
        paths = {f"{Path(cfg.work_dir, 'last_checkpoint')} names": str(last)}
    paths |= initial_weights(cfg.get("model"), "model")
    for field, path in paths.items():
        if path and Path(path).is_file():
            refuse_damaged_file(path, field)


def refuse_damaged_file(path: str | os.PathLike, field: str) -> None:
    """Refuse a file that holds no weights or half of them; torch says neither.

    Raises:
        ValueError: It is such a file; names it after ``field``.
    """
    with open(path, "rb") as file:
        start = file.read(4)
    # torch writes ZIP archives: their table of contents stands at the end.
    if not start or (start == b"PK\3\4" and not zipfile.is_zipfile(path)):
        raise ValueError(
            f"{field}: {path} is cut off, so its weights cannot be read: copy or "
            "download it again, or name an older checkpoint (--resume CHECKPOINT "
            "to resume a training)"
        )
    # Or, before ZIP, a pickle.
    if not start.startswith((b"PK\3\4", b"\x80")):
        raise ValueError(
            f"{field}: {path} is no checkpoint: expected a .pth file that "
            "torch.save wrote"
        )


def initial_weights(config: Any, field: str) -> dict[str, str]:
    """The files that ``init_cfg`` of a model's parts names, by their fields."""
    found = {}
    if isinstance(config, dict):
        for key, value in config.items():
            if key == "checkpoint" and isinstance(value, str):
                found[f"{field}.{key}"] = value
            found |= initial_weights(value, f"{field}.{key}")
    elif isinstance(config, (list, tuple)):
        for number, value in enumerate(config):
            found |= initial_weights(value, f"{field}.{number}")
    return found


def _limit_waiting(cfg: Config) -> None:
    """Give the process group a timeout, unless ``env_cfg.dist_cfg`` has one.

    A process that dies ends the others at once: its launcher sees to it. The timeout
    ends those that wait for one that hangs. torch's own, 10 or 30 minutes, is shorter
    than what a slow process may need for its share of a long test.
    """
    env_cfg = cfg.setdefault("env_cfg", ConfigDict())
    dist_cfg = env_cfg.setdefault("dist_cfg", ConfigDict(backend="nccl"))
    dist_cfg.setdefault("timeout", TIMEOUT)


def _distribute_on_cpu(cfg: Config) -> None:
    """Start the process group with gloo and wrap the model without a device.

    mmengine's launcher sets a CUDA device also where there is none, and its default
    wrapper passes one to DistributedDataParallel. A group that exists before the
    Runner is left alone.
    """
    if cfg.launcher != "pytorch":
        raise ValueError(
            f"--launcher {cfg.launcher} needs CUDA devices; on CPUs start the "
            "processes with torchrun, as tools/dist_train.sh does, and --launcher "
            "pytorch"
        )
    if not is_distributed():
        timeout = timedelta(seconds=cfg.env_cfg.dist_cfg.timeout)
        torch.distributed.init_process_group(backend="gloo", timeout=timeout)
    if cfg.get("model_wrapper_cfg") is None:
        cfg.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel",
            device_ids=None,
            broadcast_buffers=False,
            find_unused_parameters=cfg.get("find_unused_parameters", False),
        )


def show_results(cfg: Config, folder: str, interval: int) -> None:
    """Turn on the config's visualization hook, whichever package it is from.

    Raises:
        ValueError: The config has none.
    """
    hook = cfg.get("default_hooks", {}).get("visualization")
    if hook is None:
        raise ValueError("--show-dir: the config has no default_hooks.visualization")
    hook.interval = interval
    if type_name(hook) == "SegVisualizationHook":
        hook.draw = True
        cfg.visualizer.save_dir = folder
    else:
        hook.enable = True
        hook.out_dir = folder


def save_results(cfg: Config) -> None:
    """Let metrics that name no file of their own write to the work dir.

    These are the curve of ``mmwood.SeedMetric``, ``ia_iou.json`` of
    ``mmwood.IAIoUMetric`` and ``false_positives.json`` of
    ``mmwood.FalsePositiveMetric``. All numbers go to the visualizer's back-ends, too.
    """
    files = dict(IAIoUMetric="ia_iou.json", FalsePositiveMetric="false_positives.json")
    hooks = cfg.get("custom_hooks") or []
    cfg.custom_hooks = [*hooks, ConfigDict(type="mmwood.TestScoresHook")]
    for metric in metric_configs(cfg.get("test_evaluator")):
        if type_name(metric) == "SeedMetric":
            metric.setdefault("out_dir", cfg.work_dir)
        elif name := files.get(type_name(metric)):
            metric.setdefault("out", str(Path(cfg.work_dir, name)))
