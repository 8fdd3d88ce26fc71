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
def build_runner(tmp_path: Path) -> Callable[..., Runner]:
    """A Runner of a config; ``a__b=c`` puts c in the place of ``a.b``."""
    numbers = count()

    def build(config: Path, work_dir: str, **changes) -> Runner:
        # Most of the time would go into formatting the copies in the work dir.
        cfg = Config(Config.fromfile(config).to_dict(), format_python_code=False)
        for key, value in copy.deepcopy(changes).items():
            *path, name = key.split("__")
            reduce(getitem, path, cfg)[name] = value
        # A hook that is None is left out.
        hooks = cfg.default_hooks.items()
        cfg.default_hooks = {name: hook for name, hook in hooks if hook is not None}
        cfg.work_dir = str(tmp_path / work_dir)
        # mmengine keeps the scope of a second Runner of the same name.
        cfg.experiment_name = f"{tmp_path.name}_{next(numbers)}"
        return Runner.from_cfg(cfg)

    return build
