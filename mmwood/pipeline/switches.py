"""What a pipeline does only when it is asked to."""

from collections.abc import Collection, Mapping
from typing import Any

from mmwood.pipeline.stage import PipelineError

__all__ = ["SWITCHES", "apply_switches"]

#: Fields of a pipeline's config; True is on.
SWITCHES = {
    "upper_bound": "train the segmentation network with the true masks, too",
    "ood_in_network": "train one with the OoD images as background, too",
}


def apply_switches(cfg: Mapping[str, Any], more: Collection[str] = ()) -> dict:
    """The stages of a pipeline's config without the parts that are not asked for.

    A stage, or any dict in it, that has ``when="SWITCH"`` is there only if this one of
    :data:`SWITCHES` is on.

    Args:
        cfg: The pipeline's config.
        more: Those that are on whatever the config says.

    Raises:
        PipelineError: A switch is neither True nor False, unknown, or on without any
            part to turn on.
    """
    for name in SWITCHES:
        if not isinstance(cfg.get(name, False), bool):
            raise PipelineError(f"{name}: expected True or False, got {cfg[name]!r}")
    if unknown := sorted({*more} - {*SWITCHES}):
        raise PipelineError(f"{unknown[0]}: known are {', '.join(SWITCHES)}")
    on = {name for name in SWITCHES if cfg.get(name) or name in more}
    met: set[str] = set()
    stages = _without_others(cfg["stages"], on, met)
    if idle := sorted(on - met):
        raise PipelineError(f"{idle[0]}: this pipeline has no stage for it")
    return stages


def _without_others(value: Any, on: Collection[str], met: set[str]) -> Any:
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if _stays(v, on, met)}
        return {
            key: _without_others(item, on, met)
            for key, item in kept.items()
            if key != "when"
        }
    if isinstance(value, (list, tuple)):
        kept_items = (v for v in value if _stays(v, on, met))
        return type(value)(_without_others(v, on, met) for v in kept_items)
    return value


def _stays(value: Any, on: Collection[str], met: set[str]) -> bool:
    name = value.get("when") if isinstance(value, Mapping) else None
    if name is None:
        return True
    if name not in SWITCHES:
        raise PipelineError(
            f"when: expected one of {', '.join(SWITCHES)}, got {name!r}"
        )
    met.add(name)
    return name in on
