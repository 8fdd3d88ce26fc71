"""What a person rejected of a pipeline's masks, kept from the networks."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmwood.fileio.mask_review import read_about
from mmwood.pipeline.kinds import Train
from mmwood.pipeline.references import references
from mmwood.pipeline.stage import PipelineError

if TYPE_CHECKING:
    from mmwood.pipeline.graph import Pipeline

#: How options end that say where a network's masks are.
_MASKS = "data_prefix.seg_map_path"
#: The stage, and the input that names the review.
EXCLUDE, REVIEW = "exclude", "mask_review"


def with_exclusion(
    pipeline: "Pipeline",
    stages: Mapping[str, Any],
    inputs: Mapping[str, str],
    review: str | os.PathLike,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Stages and inputs in which trainings learn from masks without what was rejected.

    Args:
        pipeline: The pipeline without it.
        stages: Its stages, as a config states them.
        inputs: Its inputs.
        review: The manifest that tools/review_masks.py left.

    Raises:
        FileNotFoundError: There is no such file.
        PipelineError: It is of no stage's masks, or of masks that no training learns
            from; names those that one does. Or the stage's name is taken.
        ValueError: It is no review of masks.
    """
    about = read_about(review, "--exclude")
    if EXCLUDE in stages or REVIEW in inputs:
        raise PipelineError(
            f"--exclude: makes a stage {EXCLUDE!r} and an input {REVIEW!r}, which this "
            "pipeline has already: rename its own"
        )
    learned: dict[str, Path] = {}
    for stage in pipeline.stages.values():
        if isinstance(stage, Train):
            for option, text in stage.options.items():
                # Other labels, as IRN's, are no masks.
                if option.endswith(_MASKS) and isinstance(text, str):
                    learned.update(_label_folders(pipeline, text))
    reviewed = os.path.realpath(about.labels)
    source = next(
        (name for name, path in learned.items() if os.path.realpath(path) == reviewed),
        None,
    )
    if source is None:
        known = ", ".join(str(path) for path in learned.values()) or "none"
        raise PipelineError(
            f"--exclude: {review} is of the masks in {about.labels}, from which no "
            f"network of this pipeline learns; those that one learns from: {known}"
        )
    old, new = f"{{{source}.labels}}", f"{{{EXCLUDE}.labels}}"
    changed = {
        name: {**content, "options": _replaced(content.get("options", {}), old, new)}
        if Train.kind in (content or {})
        else content
        for name, content in stages.items()
    }
    changed[EXCLUDE] = dict(
        title=f"make void what a person rejected of the masks of stage {source}",
        run="exclude_masks.py",
        args=[old, "--exclude", f"{{{REVIEW}}}", "--out", "{dir}"],
        outputs=dict(scores="{dir}", labels="{dir}/labels"),
    )
    return changed, {**inputs, REVIEW: os.fspath(review)}


def _label_folders(pipeline: "Pipeline", text: str) -> dict[str, Path]:
    """Stage -> folder of masks, of the references in a text."""
    return {
        name: pipeline.path(name, attribute).parent
        for name, attribute in references(text)
        if attribute == "labels" and name in pipeline.stages
    }


def _replaced(options: Mapping[str, Any], old: str, new: str) -> dict[str, Any]:
    return {key: new if value == old else value for key, value in options.items()}
