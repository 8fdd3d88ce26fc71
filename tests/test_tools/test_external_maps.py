"""tools/external_maps.py on maps of a function of one's own, wrong ones too."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

pytest.importorskip("mmpretrain")

from mmwood.fileio.images import read_rgb
from mmwood.fileio.label_folder import load_score_maps
from mmwood.fileio.labels import read_label_png

TOOL = "external_maps.py"
CLASSES = ["disc", "square", "stripe"]
#: Darkness, of another part of the image for each class.
MAPS = """
import numpy as np

asked = []

def maps(image, names, gain=1.0):
    assert image.dtype == np.uint8 and image.shape[2] == 3
    asked.append(list(names))
    dark = 100 - image.astype(np.float64).mean(axis=2)
    shift = [["disc", "square", "stripe"].index(name) for name in names]
    return [np.roll(gain * dark, 3 * step, axis=0) for step in shift]

class Maps:
    supervision = "nothing at all"

    def __init__(self, value):
        self.value = value

    def description(self):
        return dict(weights_sha256=str(self.value))

    def __call__(self, image, names):
        return np.full((len(names), 2, 2), self.value)

def text(image, names): return "maps"
def flat(image, names): return np.zeros(image.shape[:2])
def one(image, names): return np.zeros((len(names) + 1, 4, 4))
def empty(image, names): return np.zeros((len(names), 0, 4))
def infinite(image, names): return np.full((len(names), 4, 4), np.inf)
def broken(image, names): return 1 / 0
number = 3
"""


@pytest.fixture
def arguments(small_config: Path, tmp_path: Path, monkeypatch):
    (tmp_path / "my_maps.py").write_text(MAPS)
    (tmp_path / "lacking.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda name: [small_config, "--maps", name, "--out", "out"]
    sys.modules.pop("my_maps", None)


SAID = ("--supervision", "a few images")


def expected(image: np.ndarray, tags: list[int]) -> np.ndarray:
    """What my_maps says, each map from 0 to 1; by loops."""
    maps = np.zeros((len(tags), *image.shape[:2]))
    for number, tag in enumerate(tags):
        for row in range(image.shape[0]):
            for column in range(image.shape[1]):
                shifted = (row - 3 * tag) % image.shape[0]
                dark = 100 - image[shifted, column].astype(float).mean()
                maps[number, row, column] = max(0.0, dark)
        maps[number] /= maps[number].max() + 1e-5
    return maps


@pytest.mark.slow
def test_files_are_those_of_the_hook(
    arguments, call_main, voc_folder, tmp_path, hashes
):
    command = [*arguments("my_maps:maps"), *SAID, "--threshold", 0.5]
    command += ["--save-scores", "strided", "full"]
    text = call_main(TOOL, *command)
    assert "out: 6 label maps made, 0 were there" in text
    assert "supervision of the maps: a few images" in text
    asked = list(sys.modules["my_maps"].asked)
    for number in range(6):
        mask = read_label_png(voc_folder / f"SegmentationClass/image_{number}.png")
        tags = sorted({*np.unique(mask).tolist()} - {0, 255})
        tags = [tag - 1 for tag in tags]
        assert asked[number] == [CLASSES[tag] for tag in tags]
        maps = load_score_maps(tmp_path / f"out/scores/image_{number}.npz")
        image = read_rgb(voc_folder / f"JPEGImages/image_{number}.jpg")
        whole = expected(image, tags)
        np.testing.assert_allclose(maps.full, whole, atol=1e-3)
        assert maps.classes.tolist() == tags
        assert maps.scores.tolist() == [float(c in tags) for c in range(3)]
        assert maps.full.dtype == maps.strided.dtype == np.float16
        assert maps.strided.shape[1:] == tuple((s - 1) // 4 + 1 for s in mask.shape)
        label = read_label_png(tmp_path / f"out/labels/image_{number}.png")
        scores = np.stack([np.full(mask.shape, 0.5), *whole])
        wanted = np.array([0, *(tag + 1 for tag in tags)])[scores.argmax(axis=0)]
        # Where rounding to float16 cannot decide.
        first, second = np.sort(scores, axis=0)[:-3:-1]
        clear = first - second > 2e-3
        assert (label == wanted)[clear].all()
        assert clear.mean() > 0.9

    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["supervision"] == "a few images"
    assert manifest["complete"]
    assert manifest["images"] == 6
    # A data set takes them as those of a classifier.
    cfg = Config.fromfile(arguments("")[0])
    init_default_scope("mmpretrain")
    dataset = dict(cfg.test_dataloader.dataset, score_dir=str(tmp_path / "out"))
    assert len(DATASETS.build(dataset)) == 6

    # What an ended run left out is made again, to the byte, and nothing else.
    before = hashes(tmp_path / "out")
    (tmp_path / "out/labels/image_2.png").unlink()
    (tmp_path / "out/scores/image_4.npz").write_bytes(b"half")
    sys.modules["my_maps"].asked.clear()
    assert "2 label maps made, 4 were there" in call_main(TOOL, *command)
    assert len(sys.modules["my_maps"].asked) == 2
    assert hashes(tmp_path / "out") == before

    # Other maps are not mixed in.
    text = call_main(TOOL, *command, "--maps-options", "gain=2.0", fails=True)
    assert "another made_with.options" in text
    (tmp_path / "my_maps.py").write_text(MAPS + "# changed\n")
    text = call_main(TOOL, *command, fails=True)
    assert "another made_with.source_sha256" in text
    assert "6 label maps made" in call_main(TOOL, *command, "--overwrite")


def test_a_class_and_maps_of_nothing(arguments, call_main, tmp_path):
    command = [*arguments("my_maps:Maps"), "--maps-options", "value=-2"]
    call_main(TOOL, *command, "--save-scores", "full")
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["supervision"] == "nothing at all"
    assert manifest["made_with"]["weights_sha256"] == "-2"
    assert manifest["made_with"]["options"] == dict(value=-2)
    assert not read_label_png(tmp_path / "out/labels/image_1.png").any()
    assert not load_score_maps(tmp_path / "out/scores/image_1.npz").full.any()


def test_faults_are_told_in_a_line(arguments, call_main):
    shape = "of image 'image_0': expected maps (1, h, w), one for each class name, got"
    for wrong, message in (
        ([*arguments("my_maps"), *SAID], "--maps must be MODULE:NAME"),
        ([*arguments("no_maps:maps"), *SAID], "there is no module 'no_maps'"),
        ([*arguments("my_maps:none"), *SAID], "no function or class 'none'"),
        ([*arguments("my_maps:number"), *SAID], "no function or class 'number'"),
        ([*arguments("my_maps:maps")], "--supervision: say what the model"),
        (
            [*arguments("my_maps:maps"), *SAID, "--maps-options", "gian=2"],
            "--maps-options: my_maps:maps got an unexpected keyword argument 'gian'",
        ),
        ([*arguments("my_maps:Maps")], "--maps-options: my_maps:Maps"),
        ([*arguments("my_maps:maps"), *SAID, "--threshold", 1], "--threshold must be"),
        ([*arguments("my_maps:text"), *SAID], "expected an array of maps (1, h, w)"),
        ([*arguments("my_maps:flat"), *SAID], f"my_maps:flat {shape} (40, 48)"),
        ([*arguments("my_maps:one"), *SAID], f"my_maps:one {shape} (2, 4, 4)"),
        ([*arguments("my_maps:empty"), *SAID], f"my_maps:empty {shape} (1, 0, 4)"),
        ([*arguments("my_maps:infinite"), *SAID], "expected finite numbers"),
    ):
        text = call_main(TOOL, *wrong, "--overwrite", fails=True)
        assert message in text.splitlines()[-1]
    # A fault of the function itself keeps its traceback.
    with pytest.raises(ZeroDivisionError):
        call_main(TOOL, *arguments("my_maps:broken"), *SAID, "--overwrite")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        call_main(TOOL, *arguments("lacking:maps"), *SAID)


def test_images_without_tags_are_refused(arguments, call_main):
    options = ["--cfg-options", "test_dataloader.dataset.label_source=none"]
    text = call_main(TOOL, *arguments("my_maps:maps"), *SAID, *options, fails=True)
    assert "gives images without tags" in text


def test_tensors_with_gradient():
    from mmwood.engine.external_maps import image_maps

    maps = torch.tensor([[[1.0, -1.0], [0.5, 0.0]]], requires_grad=True)
    full, strided = image_maps(maps, 1, (2, 2), "here")
    assert full.tolist() == [[[pytest.approx(1, abs=1e-3), 0], [0.5, 0]]]
    assert strided.shape == (1, 1, 1)
