import numpy as np
import pytest
import torch
from mmcv.transforms import RandomFlip as MMCVRandomFlip

pytest.importorskip("mmpretrain")

from mmengine.registry import TRANSFORMS
from mmpretrain.datasets import PackInputs
from mmseg.datasets.transforms import PackSegInputs

import mmwood.datasets.transforms  # noqa: F401

SIZES = [(50, 1), (1, 50), (1, 1), (6, 7)]
DIRECTIONS = ["horizontal", "vertical", "diagonal"]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_flipped_images_of_any_size_can_be_packed(size, direction):
    rng = np.random.default_rng(0)
    given = dict(
        img=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        gt_seg_map=rng.integers(0, 256, size, dtype=np.uint8),
        seg_fields=["gt_seg_map"],
        img_shape=size,
    )
    fields = dict(prob=1.0, direction=direction)
    expected = MMCVRandomFlip(**fields)(dict(given))
    flipped = TRANSFORMS.build(dict(type="mmwood.RandomFlip", **fields))(dict(given))
    for key in expected:
        np.testing.assert_array_equal(flipped[key], expected[key])
    image = torch.from_numpy(expected["img"].copy()).permute(2, 0, 1)
    assert torch.equal(PackInputs()(dict(flipped))["inputs"], image)
    packed = PackSegInputs(meta_keys=("img_shape", "flip"))(dict(flipped))
    assert torch.equal(packed["inputs"], image)
    label = packed["data_samples"].gt_sem_seg.data[0]
    np.testing.assert_array_equal(label, expected["gt_seg_map"])
