"""Corrected masks in the places of pseudo masks."""

import numpy as np
import pytest
from PIL import Image

from mmwood.fileio.files import files_by_id, read_json, write_json
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import read_label_png, save_label_png

TOOL = "dataset_converters/corrected_masks.py"


@pytest.fixture
def pseudo(tmp_path):
    """Pseudo masks a and b/c, and the corrected one of b/c."""
    for name, value in (("pseudo/labels/a", 1), ("pseudo/labels/b/c", 2)):
        save_label_png(np.full((4, 5), value, np.uint8), tmp_path / f"{name}.png")
    save_label_png(np.full((4, 5), 255, np.uint8), tmp_path / "corrected/b/c.png")
    manifest = dict(format="mmwood pseudo labels 1", classes=["x", "y"], complete=True)
    write_json(tmp_path / "pseudo/manifest.json", manifest)
    return tmp_path / "pseudo"


def test_corrected_masks_take_the_places_of_others(pseudo, call_main, tmp_path, hashes):
    command = (TOOL, "pseudo", "--corrected", "corrected", "--out", "out")
    before = hashes(pseudo)
    assert "2 masks, 1 of them corrected" in call_main(*command)
    labels = tmp_path / "out/labels"
    assert (read_label_png(labels / "a.png") == 1).all()
    assert (read_label_png(labels / "b/c.png") == 255).all()
    manifest = read_json(tmp_path / "out/manifest.json")
    assert manifest["complete"]
    assert manifest["classes"] == ["x", "y"]
    # A correction that is taken back, and an image that is gone.
    (tmp_path / "corrected/b/c.png").unlink()
    (pseudo / "labels/a.png").unlink()
    call_main(*command)
    assert [*files_by_id(labels)] == ["b/c"]
    assert (read_label_png(labels / "b/c.png") == 2).all()
    assert hashes(pseudo).keys() < before.keys()


def test_faults(pseudo, call_main, tmp_path):
    command = (TOOL, "pseudo", "--corrected", "corrected", "--out", "out")
    save_label_png(np.full((4, 5), 3, np.uint8), tmp_path / "corrected/a.png")
    save_label_png(np.ones((3, 5), np.uint8), tmp_path / "corrected/b/c.png")
    save_label_png(np.ones((3, 5), np.uint8), tmp_path / "corrected/d.png")
    text = call_main(*command, fails=True)
    assert "3 of 3 masks cannot be used" in text
    assert "a.png holds [3]" in text
    assert "c.png has (W, H) = (5, 3)" in text
    assert "d.png: there is no pseudo/labels/d.png" in text
    assert not (tmp_path / "out").exists()
    text = call_main(TOOL, "pseudo", "--corrected", "no", "--out", "out", fails=True)
    assert "--corrected: there is no folder no" in text
    for name in ("a", "b/c", "d"):
        (tmp_path / f"corrected/{name}.png").unlink()
    (tmp_path / "mine").mkdir()
    Image.new("L", (5, 4)).save(tmp_path / "mine/a.png")
    text = call_main(*command[:-1], "mine", fails=True)
    assert "they are not mmwood's" in text


def test_removed_pixels_stay_what_they_are(pseudo, call_main, tmp_path):
    save_label_png(np.full((4, 5), 254, np.uint8), pseudo / "labels/a.png")
    manifest = read_json(pseudo / "manifest.json")
    write_json(pseudo / "manifest.json", dict(manifest, biased=254))
    call_main(TOOL, "pseudo", "--corrected", "corrected", "--out", "out")
    assert (read_label_png(tmp_path / "out/labels/a.png") == 254).all()
    # Which tells a training to leave them out.
    assert LabelFolder(tmp_path / "out").holds_biased
