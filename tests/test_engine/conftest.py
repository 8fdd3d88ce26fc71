"""Trainings of small configs in this process, with other hooks beside ours."""

import copy
from collections.abc import Callable
from functools import reduce
from itertools import count
from operator import getitem
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

#: Fields of mmengine's EMAHook; None is a training without.
EMA = {
    "no average": None,
    "average": dict(momentum=0.3),
    "average of buffers": dict(momentum=0.3, update_buffers=True),
    "average from the second iteration": dict(
        momentum=0.3, begin_iter=2, update_buffers=True
    ),
    "annealed average": dict(ema_type="MomentumAnnealingEMA", update_buffers=True),
}


@pytest.fixture(params=EMA.values(), ids=EMA)
def averaging(request) -> list[dict]:
    """``custom_hooks`` with one EMAHook or none."""
    fields = request.param
    return [] if fields is None else [dict(type="mmengine.EMAHook", **fields)]


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Config]:
    """A config, of a file or a copy; ``a__b=c`` puts c in the place of ``a.b``."""
    numbers = count()

    def load(config: Path | Config, work_dir: str = "work", **changes) -> Config:
        config = Config.fromfile(config) if isinstance(config, Path) else config
        # Most of the time would go into formatting the copies in the work dir.
        cfg = Config(copy.deepcopy(config.to_dict()), format_python_code=False)
        for key, value in copy.deepcopy(changes).items():
            *path, name = key.split("__")
            reduce(getitem, path, cfg)[name] = value
        cfg.work_dir, cfg.launcher = str(tmp_path / work_dir), "none"
        # mmengine keeps the scope of a second Runner, and a visualizer, by name.
        cfg.experiment_name = f"{tmp_path.name}_{next(numbers)}"
        if "visualizer" in cfg:
            cfg.visualizer.name = cfg.experiment_name
        return cfg

    return load


@pytest.fixture
def build_runner(load) -> Callable[..., Runner]:
    """mmengine's Runner of a config; see :func:`load`."""

    def build(config: Path | Config, work_dir: str, **changes) -> Runner:
        cfg = load(config, work_dir, **changes)
        # A hook that is None is left out.
        hooks = cfg.default_hooks.items()
        cfg.default_hooks = {name: hook for name, hook in hooks if hook is not None}
        return Runner.from_cfg(cfg)

    return build
