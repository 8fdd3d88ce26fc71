"""A class of a mask on its image."""

import numpy as np
import pytest

from mmwood.visualization.mask_review import draw_class

YELLOW = (255, 214, 0)


@pytest.fixture
def image() -> np.ndarray:
    return np.full((60, 90, 3), (200, 40, 40), dtype=np.uint8)


def test_the_class_keeps_its_colours_and_all_else_is_darker(image):
    label = np.zeros((60, 90), dtype=np.uint8)
    label[20:40, 20:40] = 1
    label[20:40, 60:80] = 2
    label[:5] = 255
    drawn = draw_class(image, label, 1)
    # The line lies around the region and hides nothing of it.
    assert (drawn[label == 1] == image[label == 1]).all()
    assert (drawn == YELLOW).all(axis=2).any()
    background = drawn[55, 5]
    assert np.ptp(background) == 0
    assert background.mean() < image.mean()
    # Another class is tinted green, void whitish.
    assert drawn[30, 70].argmax() == 1
    assert drawn[2, 5].min() > background.max()
    other = draw_class(image, label, 2)
    assert (other[label == 2] == image[label == 2]).all()


@pytest.mark.parametrize("shape", [(600, 900), (60, 90), (20, 30)])
def test_labels_of_other_sizes_and_single_pixels_are_seen(image, shape):
    label = np.zeros(shape, dtype=np.uint8)
    label[shape[0] // 2, shape[1] // 2] = 7
    drawn = draw_class(image, label, 7)
    rows, columns = np.nonzero((drawn == YELLOW).all(axis=2))
    assert abs(rows.mean() - 30) < 3
    assert abs(columns.mean() - 45) < 3
    assert (drawn == image).all(axis=2).any()


def test_labels_need_not_be_bytes(image):
    label = np.zeros((60, 90), dtype=np.int32)
    label[10:20, 10:20] = 300
    assert (draw_class(image, label, 300)[15, 15] == image[15, 15]).all()
