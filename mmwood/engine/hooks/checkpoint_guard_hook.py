"""Refuse a checkpoint that was made for other classes."""

from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmwood.registry import HOOKS

__all__ = ["CheckpointGuardHook"]


@HOOKS.register_module()
class CheckpointGuardHook(Hook):
    """Compare a checkpoint's classes with the data set's before it is used.

    mmengine loads what fits and only logs the rest: a checkpoint of other classes
    would be tested with a random classifier, one of reordered classes with wrong
    names.

    Args:
        weight: Name of a parameter that every checkpoint of the model holds.
        per_class: Whether it has one row a class.

    Raises:
        ValueError: The checkpoint's class names or their number differ from the data
            set's, or it is tested without holding ``weight``.
    """

    def __init__(
        self, weight: str = "head.classifier.weight", per_class: bool = True
    ) -> None:
        self.weight = weight
        self.per_class = per_class
        self._checkpoint: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Note what the checkpoint was made for."""
        state = checkpoint.get("state_dict", checkpoint)
        weight = state.get(self.weight, state.get(f"module.{self.weight}"))
        known = checkpoint.get("meta", {}).get("dataset_meta") or {}
        self._checkpoint = dict(
            rows=None if weight is None else len(weight), classes=known.get("classes")
        )

    def before_train(self, runner: Runner) -> None:
        """Compare; weights of a backbone alone are welcome."""
        if self._checkpoint and self._checkpoint["rows"] is not None:
            self._compare(runner, runner.train_dataloader.dataset.metainfo["classes"])

    def before_test(self, runner: Runner) -> None:
        """Compare; a classifier that the checkpoint does not hold is refused."""
        if self._checkpoint is None:
            return
        if self._checkpoint["rows"] is None:
            raise ValueError(
                f"the checkpoint {runner.cfg.load_from} holds no {self.weight}: it is "
                "not one of this model, which would be tested with random weights"
            )
        self._compare(runner, runner.test_dataloader.dataset.metainfo["classes"])

    def _compare(self, runner: Runner, classes: tuple[str, ...]) -> None:
        trained, rows = self._checkpoint["classes"], self._checkpoint["rows"]
        if trained is not None and tuple(trained) != tuple(classes):
            raise ValueError(
                f"the checkpoint {runner.cfg.load_from} was trained on the classes "
                f"{tuple(trained)}, the data set has {tuple(classes)}"
            )
        if self.per_class and rows != len(classes):
            raise ValueError(
                f"the checkpoint {runner.cfg.load_from} has {rows} classes, the data "
                f"set has {len(classes)}: {tuple(classes)}"
            )
