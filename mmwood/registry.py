"""mmwood's registries: children of mmengine's root, filled on first use.

``type='mmwood.X'`` resolves in a config of any default scope without
``custom_imports``: mmengine imports this module for the scope ``mmwood`` and then
the ``locations`` below. Only mmengine is imported here, and of the models only those
that are named: a user who wants one loss need not have every OpenMMLab package.
"""

from importlib import import_module

from mmengine.registry import DATA_SAMPLERS as MMENGINE_DATA_SAMPLERS
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import EVALUATOR as MMENGINE_EVALUATOR
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import LOOPS as MMENGINE_LOOPS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import TRANSFORMS as MMENGINE_TRANSFORMS
from mmengine.registry import Registry

#: The packages whose import registers everything mmwood has, but models, which are
#: imported by name.
LOCATIONS = ("mmwood.models", "mmwood.datasets", "mmwood.engine", "mmwood.evaluation")


def import_locations() -> None:
    """Import what registers everything; a registry would swallow what breaks there."""
    for location in LOCATIONS:
        import_module(location)


class _NamedModels(Registry):
    """Models of :mod:`mmwood.models`, imported one by one: all of them take seconds."""

    def get(self, key: str) -> type | None:
        """Import the class of this name, which registers it, and give it.

        Raises:
            ImportError: What the class needs is absent or broken.
        """
        models = import_module("mmwood.models")
        name = str(key).rpartition(".")[2]
        if name in models.__all__:
            getattr(models, name)
        return super().get(key)


def _child(name: str, parent: Registry, location: str) -> Registry:
    return Registry(name, parent=parent, scope="mmwood", locations=[location])


MODELS = _NamedModels(
    "model", parent=MMENGINE_MODELS, scope="mmwood", locations=["mmwood.models"]
)
DATASETS = _child("dataset", MMENGINE_DATASETS, "mmwood.datasets")
DATA_SAMPLERS = _child("data sampler", MMENGINE_DATA_SAMPLERS, "mmwood.datasets")
TRANSFORMS = _child("transform", MMENGINE_TRANSFORMS, "mmwood.datasets")
HOOKS = _child("hook", MMENGINE_HOOKS, "mmwood.engine")
LOOPS = _child("loop", MMENGINE_LOOPS, "mmwood.engine")
EVALUATOR = _child("evaluator", MMENGINE_EVALUATOR, "mmwood.evaluation")
METRICS = _child("metric", MMENGINE_METRICS, "mmwood.evaluation")
