"""What a pipeline does only when it is asked to."""

from collections.abc import Collection, Mapping
from typing import Any

from mmwood.pipeline.stage import PipelineError

#: Fields of a pipeline's config; True is on.
SWITCHES = {
    "upper_bound": "train the segmentation network with the true masks, too",
    "label_filter": "train one on pseudo masks that the label filter went over, too",
    "ood_in_network": "train one with the OoD images as background, too",
}


def apply_switches(cfg: Mapping[str, Any], more: Collection[str] = ()) -> dict:
    """The stages of a pipeline's config without the parts that are not asked for.

    A stage, or any dict in it, that has ``when="SWITCH"`` is there only if this one of
    :data:`SWITCHES` is on. One with ``like="STAGE"`` has the fields and options of that
    stage beside its own, so that it has them also when a config over this one changes
    them.

    Raises:
        PipelineError: A switch is neither True nor False, unknown, or on without any
            part to turn on; ``like`` names no stage.
    """
    for name in SWITCHES:
        if not isinstance(cfg.get(name, False), bool):
            raise PipelineError(f"{name}: expected True or False, got {cfg[name]!r}")
    if unknown := sorted({*more} - {*SWITCHES}):
        raise PipelineError(f"{unknown[0]}: known are {', '.join(SWITCHES)}")
    on = {name for name in SWITCHES if cfg.get(name) or name in more}
    stages = _without_others(cfg["stages"], on)
    there = {
        part.get("when") for part in cfg["stages"].values() if isinstance(part, Mapping)
    }
    if idle := sorted(on - there):
        raise PipelineError(f"{idle[0]}: this pipeline has no stage for it")
    return {name: _like_another(name, stages) for name in stages}


def _like_another(name: str, stages: Mapping[str, Any]) -> Any:
    own = stages[name]
    if not isinstance(own, Mapping) or "like" not in own:
        return own
    other = stages.get(own["like"])
    if not isinstance(other, Mapping):
        raise PipelineError(f"stages.{name}.like: there is no stage {own['like']!r}")
    options = {**other.get("options", {}), **own.get("options", {})}
    merged = {**other, **own, "options": options}
    return {key: value for key, value in merged.items() if key != "like"}


def _without_others(value: Any, on: Collection[str]) -> Any:
    if isinstance(value, Mapping):
        kept = {k: v for k, v in value.items() if _stays(v, on)}
        return {
            key: _without_others(item, on)
            for key, item in kept.items()
            if key != "when"
        }
    if isinstance(value, (list, tuple)):
        kept_items = (v for v in value if _stays(v, on))
        return type(value)(_without_others(v, on) for v in kept_items)
    return value


def _stays(value: Any, on: Collection[str]) -> bool:
    name = value.get("when") if isinstance(value, Mapping) else None
    if name is None:
        return True
    if name not in SWITCHES:
        raise PipelineError(
            f"when: expected one of {', '.join(SWITCHES)}, got {name!r}"
        )
    return name in on
