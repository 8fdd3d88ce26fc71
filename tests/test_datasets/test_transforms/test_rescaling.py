"""Sizes and pixels are those of the released programs, in NumPy and Pillow."""

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import TRANSFORMS

import mmwood.datasets.transforms  # noqa: F401


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("size", [(375, 500), (333, 500), (37, 41), (1, 9)])
def test_halves_become_even(size, scale):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    step = dict(
        type="mmwood.Rescale",
        scale_factor=scale,
        backend="pillow",
        interpolation="bicubic",
    )
    found = TRANSFORMS.build(step)(dict(img=pixels))
    rows, columns = (max(1, int(np.round(side * scale))) for side in size)
    picture = Image.fromarray(pixels)
    if scale != 1:
        picture = picture.resize((columns, rows), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(found["img"], np.asarray(picture))
    assert found["img_shape"] == (rows, columns)


def test_it_differs_from_mmcv():
    image = np.zeros((375, 500, 3), np.uint8)
    for kind, rows in (("mmwood.Rescale", 562), ("Resize", 563)):
        options = dict(keep_ratio=True) if kind == "Resize" else {}
        step = TRANSFORMS.build(dict(type=kind, scale_factor=1.5, **options))
        assert step(dict(img=image))["img_shape"] == (rows, 750)


@pytest.mark.parametrize("scale", [0, -1.0, float("nan")])
def test_wrong_scales(scale):
    step = dict(type="mmwood.Rescale", scale_factor=scale)
    with pytest.raises(ValueError, match=r"mmwood\.Rescale: scale_factor must be"):
        TRANSFORMS.build(step)


@pytest.mark.parametrize("name", ["voc12aug", "coco14"])
def test_published_configs_differ_in_this_alone(name, request):
    base = request.config.rootpath / "configs/_base_"
    cfg = Config.fromfile(base / f"datasets/{name}.py")
    text = str(cfg.tta_pipeline).replace(", 'keep_ratio': True", "")
    assert "mmwood.Rescale" in text
    ours = Config.fromfile(base / "image_level.py").tta_pipeline
    expected = str(ours).replace(", 'keep_ratio': True", "")
    assert text.replace("mmwood.Rescale", "Resize") == expected
