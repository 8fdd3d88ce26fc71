import math

import numpy as np
import pytest

from mmwood.functional.confusion import image_miou


def slow_miou(label: np.ndarray, truth: np.ndarray) -> float:
    """mIoU of one image by sets of pixels."""
    places = [p for p in np.ndindex(truth.shape) if truth[p] != 255]
    ious = []
    for number in range(4):
        true = {p for p in places if truth[p] == number}
        given = {p for p in places if label[p] == number}
        if true | given:
            ious.append(len(true & given) / len(true | given))
    return 100 * sum(ious) / len(ious)


def test_image_miou_equals_sets_of_pixels():
    rng = np.random.default_rng(3)
    for _ in range(20):
        label, truth = rng.choice([0, 1, 2, 3, 255], (2, 7, 9)).astype(np.uint8)
        expected = slow_miou(label, truth)
        assert image_miou(label, truth, 3) == pytest.approx(expected, abs=1e-9)
    void = np.full((2, 2), 255, np.uint8)
    assert math.isnan(image_miou(void, void, 3))
    with pytest.raises(ValueError, match="label map holds 4"):
        image_miou(np.full((2, 2), 4, np.uint8), np.zeros((2, 2), np.uint8), 3)
    with pytest.raises(ValueError, match="but the mask's"):
        image_miou(void, np.zeros((2, 3), np.uint8), 3)
