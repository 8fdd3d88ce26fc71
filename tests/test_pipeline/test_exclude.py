"""Pipelines whose networks do not learn from masks that a person rejected."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config

from mmwood.converters.mask_review import make_mask_review, open_masks
from mmwood.fileio.candidates import write_manifest
from mmwood.fileio.labels import VOID, read_label_png
from mmwood.fileio.mask_review import AboutMasks, write_about
from mmwood.ood.review.decisions import Review
from mmwood.pipeline.graph import load_pipeline
from mmwood.pipeline.run import make_plan
from mmwood.pipeline.stage import PipelineError

REPOSITORY = Path(__file__).parents[2]
TOOLS = REPOSITORY / "tools"
REVIEW = "review.csv"
#: A stage that makes pseudo masks by copying them, and a network that learns from them.
PIPELINE = """
work_dir = "WORK_DIR"
inputs = dict(masks="masks", network="segmentor.py")
stages = dict(
    masks_plain=dict(
        run="dataset_converters/corrected_masks.py",
        args=["{masks}", "--corrected", "{masks}/none", "--out", "{dir}/filled"],
        outputs=dict(labels="{dir}/filled/labels")),
    segmentor=dict(
        train="{network}",
        options={"train_dataloader.dataset.data_prefix.seg_map_path":
                 "{masks_plain.labels}"}),
)
"""


def write(folder: Path, source: str = "masks_plain") -> None:
    """Write the pipeline; mmengine takes relative masks as those of its data_root."""
    text = PIPELINE.replace("masks_plain", source).replace(
        "WORK_DIR", str(folder / "w")
    )
    (folder / "pipeline.py").write_text(text)


@pytest.fixture
def place(score_folder, voc_folder, segmentor_config, tmp_path, monkeypatch) -> Path:
    """A folder with that pipeline, and the masks that its first stage leaves."""
    shutil.copytree(score_folder, tmp_path / "masks")
    shutil.copytree(voc_folder / "SegmentationClass", tmp_path / "masks/labels")
    (tmp_path / "masks/none").mkdir()
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def review(labels: str, images: Path) -> None:
    """Squares are wrong, and all of image_0; image_4 shows nothing but squares."""
    make_mask_review(open_masks(Path(labels)), images, Path(REVIEW))
    found = Review(REVIEW)
    rows = [
        row
        for row, (image, number) in enumerate(zip(found.images, found.class_of))
        if Path(image).stem == "image_0" or found.classes[number] == "square"
    ]
    found.decide(rows, "rejected")
    found.close()


@pytest.mark.slow
def test_a_network_learns_from_what_stays(place, voc_folder, run_tool):
    images = voc_folder / "JPEGImages"
    run_tool("run_pipeline.py", "pipeline.py", "--until", "masks_plain")
    review("w/masks_plain/filled", images)
    run_tool("run_pipeline.py", "pipeline.py", "--exclude", REVIEW)
    assert Path("w/segmentor/iter_1.pth").is_file()
    made = Path("w/exclude/labels")
    config = Config.fromfile(next(Path("w/segmentor").glob("*.py")))
    prefix = config.train_dataloader.dataset.data_prefix
    assert Path(prefix.seg_map_path).samefile(made)
    for path in sorted(made.glob("*.png")):
        before = read_label_png(f"w/masks_plain/filled/labels/{path.name}")
        expected = np.where(before == 2, VOID, before)
        if path.stem in ("image_0", "image_4"):
            expected[:] = VOID
        assert (read_label_png(path) == expected).all()
    # Nothing to do; and other decisions make the stage and the network anew.
    assert not make_plan(load_pipeline("pipeline.py", TOOLS, exclude=REVIEW)).reasons
    more = Review(REVIEW)
    more.decide([more.images.index(str(images / "image_2.jpg"))], "rejected")
    more.close()
    plan = make_plan(load_pipeline("pipeline.py", TOOLS, exclude=REVIEW))
    assert plan.reasons["exclude"] == "review.csv has changed"
    assert plan.done == ("masks_plain",)
    # Without it the network learns from all masks again.
    plan = make_plan(load_pipeline("pipeline.py", TOOLS))
    assert plan.reasons == dict(segmentor="its command has changed")


def test_what_is_wrong_is_named(place, voc_folder):
    with pytest.raises(FileNotFoundError, match="there is no file none"):
        load_pipeline("pipeline.py", TOOLS, exclude="none.csv")
    review("masks", voc_folder / "JPEGImages")
    fault = (
        r"masks in masks, from which no network .* learns from: .*/w/masks_plain/filled"
    )
    with pytest.raises(PipelineError, match=fault):
        load_pipeline("pipeline.py", TOOLS, exclude=REVIEW)
    Path("review.json").unlink()
    with pytest.raises(ValueError, match="is no review of masks"):
        load_pipeline("pipeline.py", TOOLS, exclude=REVIEW)


@pytest.mark.slow
def test_every_network_of_a_branch_learns_from_what_stays(tmp_path, monkeypatch):
    (tmp_path / "configs").symlink_to(REPOSITORY / "configs")
    monkeypatch.chdir(tmp_path)
    folder = "work_dirs/demo/masks_wood/pseudo_labels"
    write_manifest(REVIEW, [])
    write_about(REVIEW, AboutMasks(folder, "images", ["boat"], "none"))
    path = "configs/pipelines/demo.py"
    plain = load_pipeline(path, TOOLS)
    pipeline = load_pipeline(path, TOOLS, exclude=REVIEW)
    assert pipeline.stages.keys() - plain.stages.keys() == {"exclude"}
    assert pipeline.needs["exclude"] == ["masks_wood"]
    field = "train_dataloader.dataset.data_prefix.seg_map_path"
    for name, before in plain.stages.items():
        after = pipeline.stages[name]
        if name in ("segmentor_a_wood", "segmentor_b_wood"):
            assert before.options[field] == "{masks_wood.labels}"
            assert after.options[field] == "{exclude.labels}"
            assert {**before.options, field: 0} == {**after.options, field: 0}
        else:
            assert after == before


def test_a_stage_of_that_name_is_not_replaced(place, voc_folder):
    review("masks", voc_folder / "JPEGImages")
    write(place, source="exclude")
    with pytest.raises(PipelineError, match="rename its own"):
        load_pipeline("pipeline.py", TOOLS, exclude=REVIEW)
