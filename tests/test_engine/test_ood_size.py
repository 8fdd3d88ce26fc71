"""The size of OoD images: the rule by itself; mining and hook test it as a whole."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmcv")

from mmengine.dataset import Compose
from mmengine.registry import init_default_scope

from mmwood.engine.ood_size import median_long_side, ood_pipeline, size_note

FIELD = "hook.ood_size"
LOAD, PACK = dict(type="LoadImageFromFile"), dict(type="PackInputs")
SCALE = dict(type="Resize", scale_factor=0.5)
EDGE = dict(type="ResizeEdge", scale=64)


class Images:
    """As much of a data set as the rule needs."""

    def __init__(self, folder, sizes):
        self.paths = [folder / f"{number}.png" for number in range(len(sizes))]
        for path, size in zip(self.paths, sizes):
            Image.new("RGB", size).save(path)

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, idx):
        return dict(img_path=str(self.paths[idx]))


def test_the_median_is_that_of_images_spread_over_the_data_set(tmp_path):
    few = Images(tmp_path, [(30, 20), (10, 40), (50, 10), (60, 60)])
    assert median_long_side(few) == 40
    # Every second of 400 is looked at.
    many = Images(tmp_path, [(8, 8), (4, 4)] * 200)
    assert median_long_side(many) == 8
    many.paths[2].write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 200 images .*\n.*image 2: .*2\.png"):
        median_long_side(many)


def test_resized_once_behind_the_loading():
    def never():
        raise AssertionError

    for pipeline in ([LOAD, PACK], [LOAD, SCALE, PACK]):
        found, size = ood_pipeline(pipeline, 40, never, FIELD)
        assert [found[0], *found[2:]] == pipeline
        assert (found[1]["scale"], size) == ((40, 40), 40)
    # What a pipeline resizes itself is left to it, and so are images on demand.
    for pipeline, size in (([LOAD, EDGE, PACK], "in_distribution"), ([PACK], "own")):
        assert ood_pipeline(pipeline, size, never, FIELD) == (pipeline, None)
    for pipeline, message in (
        ([LOAD, EDGE, PACK], "already has ResizeEdge"),
        ([PACK], "loads no image"),
    ):
        with pytest.raises(ValueError, match=f"^{FIELD}: .*{message}"):
            ood_pipeline(pipeline, 40, never, FIELD)
    for size in (0, 1.5, True, "large", None):
        with pytest.raises(ValueError, match=f"^{FIELD} must be"):
            ood_pipeline([LOAD], size, never, FIELD)


def test_an_image_of_the_size_stays_the_same_to_the_bit(tmp_path):
    init_default_scope("mmcv")
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (37, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    for size, same in ((50, True), (49, False)):
        pipeline, _ = ood_pipeline([LOAD], size, lambda: None, FIELD)
        found = Compose(pipeline)(dict(img_path=str(tmp_path / "a.png")))["img"]
        assert max(found.shape) == size
        assert np.array_equal(found[..., ::-1], pixels) == same


def test_notes():
    assert "long side of 500 pixels" in size_note(500)
    assert "the test pipeline gives them" in size_note(None)
