"""The short demo by its command: to the review, on without a person, after faults."""

import json
from pathlib import Path

import pytest

pytest.importorskip("mmpretrain")

REPOSITORY = Path(__file__).parents[2]
#: As far as W-OoD, with a review, on a few images.
PIPELINE = """
_base_ = "configs/pipelines/demo_short.py"
work_dir = "work"
stages = dict(
    draw=dict(args=["data/context_shapes", "--correlation", "0.7", "--size", "96",
                    "--train", "32", "--val", "4", "--ood", "12"]),
    classifier=dict(options={"train_dataloader.batch_size": 8}),
    review=dict(_delete_=True, review="mine", rules=["--keep-rest"]),
    wood=dict(options={
        "train_dataloader.dataset.ood.ann_file": "{review.manifest}",
        "train_dataloader.dataset.ood.states": ["kept"],
        "default_hooks.ood_clusters.clusters": 4}),
)
"""


@pytest.fixture
def pipeline(tmp_path: Path, run_tool):
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    return lambda *arguments, **options: run_tool(
        "run_pipeline.py", "pipeline.py", *arguments, **options
    )


@pytest.mark.slow
def test_from_tags_to_wood_with_a_review_and_faults_on_the_way(tmp_path, pipeline):
    plan = pipeline("--dry-run", "--until", "wood")
    assert "run   classifier: it has not run" in plan
    assert "plain" not in plan

    # A person is wanted.
    text = pipeline("--until", "wood", fails=True)
    assert "draw: done in" in text
    assert "rows of work/mine.csv have not been looked at" in text
    assert "review_ood.py work/mine.csv" in text
    status = pipeline("--status")
    assert "waiting: " in status
    assert "new: it has not run" in status

    # Nobody is there.
    text = pipeline("--until", "wood", "--auto")
    assert text.startswith("done before: draw, classifier, mine")
    record = json.loads((tmp_path / "work/records/wood.json").read_text())
    assert record["kind"] == "train"
    assert record["config"] == "configs/demo/wood.py"
    assert record["seed"] == 0
    assert record["checkpoint"] == "work/wood/epoch_1.pth"
    assert record["peak_memory_mb"] > 100
    assert {"work/mine.csv", "data/context_shapes"} <= set(record["inputs"])
    assert "0 stages ran" in pipeline("--until", "wood", "--auto")

    # A checkpoint is cut off, an image is lost: named, and what is right stays.
    checkpoint = tmp_path / record["checkpoint"]
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    plan = pipeline("--dry-run", "--until", "wood")
    assert "run   wood: work/wood/epoch_1.pth, which it made, has changed" in plan
    assert "skip  classifier" in plan
    image = next((tmp_path / "data/context_shapes/JPEGImages").glob("*.jpg"))
    image.unlink()
    plan = pipeline("--dry-run", "--until", "wood")
    assert f"run   draw: data/context_shapes/JPEGImages/{image.name}, which" in plan
    assert "run   wood" in plan
    # Drawn again the same: nothing that hangs on it runs but what was damaged itself.
    text = pipeline("--until", "wood", "--auto")
    assert "classifier: unchanged after all, skipped" in text
    assert "2 stages ran" in text

    # What a newcomer may get wrong.
    assert "no stage 'woods'" in pipeline("--until", "woods", fails=True)
    assert "--jobs must be at least 1" in pipeline("--jobs", "0", fails=True)
    assert "exclude each other" in pipeline("--auto", "--reviewed", fails=True)
