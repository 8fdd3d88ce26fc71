import numpy as np
import pytest

from mmwood.datasets import RandomSoften


def reference(image: np.ndarray, factor: int) -> np.ndarray:
    """Means of squares, then straight lines between their centres; double precision."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    small = image.astype(float).reshape(height, factor, width, factor, -1)
    # OpenCV rounds the small image to whole numbers.
    small = np.round(small.mean(axis=(1, 3)))
    result = np.empty((*image.shape[:2], small.shape[2]))
    for y, x in np.ndindex(*image.shape[:2]):
        y_small, x_small = (y + 0.5) / factor - 0.5, (x + 0.5) / factor - 0.5
        top, left = int(np.floor(y_small)), int(np.floor(x_small))
        total = 0.0
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            weight = 1 - abs(top + row - y_small)
            weight *= 1 - abs(left + column - x_small)
            place = (
                np.clip(top + row, 0, height - 1),
                np.clip(left + column, 0, width - 1),
            )
            total += weight * small[place]
        result[y, x] = total
    return result.reshape(image.shape)


@pytest.mark.parametrize("shape", [(12, 20, 3), (20, 12, 1), (12, 20)])
def test_detail_is_that_of_a_smaller_image(shape):
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = image.copy()
    soft = RandomSoften(scale=(5, 5)).transform(dict(img=image))["img"]
    np.testing.assert_array_equal(image, before)
    assert soft.dtype == np.uint8
    assert soft.shape == shape
    np.testing.assert_allclose(soft, reference(image, 4), atol=1)


def test_small_images_and_prob_zero_leave_the_image_alone():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for options in (dict(scale=(8, 30)), dict(scale=(2, 2), prob=0.0)):
        assert RandomSoften(**options).transform(dict(img=image))["img"] is image


def test_sizes_and_chances_are_drawn_as_asked():
    transform = RandomSoften(scale=(3, 5), prob=0.25)
    np.random.seed(0)
    draws = [transform._draw() for _ in range(4000)]
    sides = [side for _, side in draws]
    assert {3, 4, 5} == set(sides)
    for side in (3, 4, 5):
        assert abs(sides.count(side) / 4000 - 1 / 3) < 0.04
    assert abs(sum(chosen for chosen, _ in draws) / 4000 - 0.25) < 0.04

    image = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    results = []
    for seed in (1, 1, 2):
        np.random.seed(seed)
        soften = RandomSoften(scale=(4, 40))
        results.append(soften.transform(dict(img=image.copy()))["img"])
    np.testing.assert_array_equal(results[0], results[1])
    assert (results[0] != results[2]).any()
    assert repr(transform) == "RandomSoften(scale=(3, 5), prob=0.25)"


@pytest.mark.parametrize("scale", [(5, 4), (0, 4), (1.5, 4), (4,), (3, 4, 5)])
def test_wrong_scales(scale):
    with pytest.raises(ValueError, match="scale must be two whole numbers"):
        RandomSoften(scale=scale)


def test_wrong_prob():
    with pytest.raises(ValueError, match=r"prob must be in \[0, 1\], got 1\.5"):
        RandomSoften(scale=(4, 5), prob=1.5)
