"""Sheets of runs side by side, from real label folders."""

import json

import numpy as np
import pytest
from PIL import Image

from mmwood.fileio.label_folder import ScoreMaps, save_score_maps
from mmwood.fileio.labels import save_label_png
from mmwood.visualization.comparison import one_image_per_class, seed_comparison
from mmwood.visualization.panels import overlay_heat, overlay_label

CELL = (48, 40)
CLASSES = ("train", "boat", "car")
#: The classes that each image shows.
SHOWN = {"a": [1], "b": [0, 2], "c": [0], "d": [1], "e": []}


@pytest.fixture
def folders(tmp_path):
    """Two runs over five images; in the second every score and seed differs."""
    rng = np.random.default_rng(0)
    images = tmp_path / "images"
    images.mkdir()
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        content = json.dumps(dict(classes=CLASSES))
        (tmp_path / run / "manifest.json").write_text(content)
        for name, classes in SHOWN.items():
            picture = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(picture).save(images / f"{name}.png")
            maps = ScoreMaps(
                classes=np.array(classes, dtype=np.int64),
                scores=np.zeros(3, np.float32),
                strided=rng.random((len(classes), 10, 12)).astype(np.float16),
            )
            save_score_maps(tmp_path / run / f"scores/{name}.npz", maps)
            label = np.zeros((40, 48), np.uint8)
            # Of the classes the last one is the largest.
            for number, c in enumerate(classes):
                label[: 5 + 10 * number] = 0
                label[20 - 10 * number :] = c + 1
            save_label_png(label, tmp_path / run / f"labels/{name}.png")
    return tmp_path


def test_one_image_for_each_class_that_stands_alone(folders):
    assert one_image_per_class(folders / "one") == ["c", "a"]


def test_rows_hold_image_maps_seeds_and_truth(folders):
    runs = {"one": folders / "one", "two": folders / "two"}
    images = folders / "images"
    sheet = seed_comparison(
        runs, ["b", "e"], images, folders / "two/labels", ".png", CELL
    )
    cells = {}
    step_x, step_y = CELL[0] + 4, CELL[1] + 18 + 4
    for row in range(2):
        for column in range(6):
            y, x = 4 + row * step_y, 4 + column * step_x
            cells[row, column] = sheet[y : y + CELL[1], x : x + CELL[0]]
    picture = np.array(Image.open(images / "b.png"))
    np.testing.assert_array_equal(cells[0, 0], picture)
    for column, run in ((2, "one"), (4, "two"), (5, "two")):
        label = np.array(Image.open(folders / run / "labels/b.png"))
        np.testing.assert_array_equal(cells[0, column], overlay_label(picture, label))
    assert not np.array_equal(cells[0, 1], cells[0, 3])
    # An image without classes has empty maps.
    empty = np.array(Image.open(images / "e.png"))
    blank = overlay_heat(empty, np.zeros(empty.shape[:2], np.float32))
    np.testing.assert_array_equal(cells[1, 1], blank)


def test_faults(folders):
    with pytest.raises(FileNotFoundError, match=r"no manifest .*manifest\.json"):
        seed_comparison({"x": folders / "images"}, ["a"], folders / "images")
    with pytest.raises(FileNotFoundError, match=r"z\.png"):
        seed_comparison(
            {"one": folders / "one"}, ["z"], folders / "images", None, ".png"
        )
    (folders / "two/manifest.json").write_text(json.dumps(dict(classes=["other"])))
    runs = {"one": folders / "one", "two": folders / "two"}
    with pytest.raises(ValueError, match="other classes"):
        seed_comparison(runs, ["a"], folders / "images", None, ".png")


@pytest.mark.slow
def test_tool(folders, run_tool):
    tool = ("analysis_tools/compare_seeds.py", "old=one", "new=two")
    files = ("--images", "images", "--masks", "two/labels", "--suffix", ".png")
    text = run_tool(*tool, *files, "--out", "new/sheet.png")
    assert "2 images: new/sheet.png" in text
    with Image.open(folders / "new/sheet.png") as image:
        sheet = np.array(image)
    runs = {"old": folders / "one", "new": folders / "two"}
    expected = seed_comparison(
        runs, ["c", "a"], folders / "images", folders / "two/labels", ".png"
    )
    np.testing.assert_array_equal(sheet, expected)
    run_tool(*tool, *files, "--maps-only", "--out", "new/maps.png")
    with Image.open(folders / "new/maps.png") as image:
        maps = np.array(image)
    # Of six columns those of the labels are gone; the first two are as they were.
    width = (sheet.shape[1] - 4) // 6
    assert maps.shape == (sheet.shape[0], 4 + 4 * width, 3)
    np.testing.assert_array_equal(maps[:, : 2 * width], sheet[:, : 2 * width])
    np.testing.assert_array_equal(maps[:, -width:], sheet[:, -width:])
    text = run_tool(*tool, *files[:2], "--ids", "a", fails=True)
    assert "a.jpg" in text
    text = run_tool(*tool, *files, "--out", "new/sheet.xyz", fails=True)
    assert "argument --out: figures are .png files" in text
    assert "Traceback" not in text
    assert "expected NAME=PATH" in run_tool(tool[0], "one", *files, fails=True)
