"""Resizing against OpenCV's own."""

import cv2
import numpy as np
import torch

from mmwood.functional.resize import resize_linear


def test_every_level_as_opencv():
    rng = np.random.default_rng(0)
    sizes = [((1, 40), (2, 96)), ((37, 5), (1, 64)), ((20, 30), (40, 60))]
    sizes += [((64, 48), (32, 24)), ((64, 48), (64, 48))]
    sizes += [(rng.integers(1, 150, 2), rng.integers(1, 200, 2)) for _ in range(60)]
    for before, after in sizes:
        image = rng.integers(0, 256, (*before, 3), dtype=np.uint8)
        height, width = map(int, after)
        expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
        found = resize_linear(
            torch.from_numpy(image).permute(2, 0, 1), torch.tensor([height, width])
        )
        np.testing.assert_array_equal(
            found.permute(1, 2, 0), expected.reshape(*after, 3)
        )
