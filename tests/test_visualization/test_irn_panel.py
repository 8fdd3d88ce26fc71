"""The panel of IRN, cell by cell, and the colours of its displacements."""

import colorsys
import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mmwood.visualization.contact_sheet import contact_sheet
from mmwood.visualization.irn_panel import color_wheel, displacement_color, irn_panel
from mmwood.visualization.panels import overlay_heat, overlay_label

NAMES = ("train", "boat", "car")
#: Wider than a panel's narrowest cell, so that no picture is enlarged.
HEIGHT, WIDTH = 32, 244
GRID = (8, 61)


def slow_color(down, right, longest):
    hue = math.atan2(down, right) / (2 * math.pi) % 1
    saturation = min(math.hypot(down, right) / longest, 1)
    return [255 * value for value in colorsys.hsv_to_rgb(hue, saturation, 1)]


class TestDisplacementColor:
    @settings(deadline=None)
    @given(
        array_shapes(min_dims=2, max_dims=2, max_side=5).flatmap(
            lambda shape: arrays(np.float64, (2, *shape), elements=st.floats(-9, 9))
        ),
        st.sampled_from([0.5, 4.0, 20.0]),
    )
    def test_equals_the_wheel_of_the_standard_library(self, field, longest):
        result = displacement_color(field, longest)
        assert result.dtype == np.uint8
        assert result.shape == (*field.shape[1:], 3)
        for y, x in np.ndindex(*field.shape[1:]):
            expected = slow_color(*field[:, y, x], longest)
            assert np.abs(result[y, x] - expected).max() <= 1

    def test_known_directions(self):
        # Right, down, left, up, and no displacement at all.
        field = np.array([[[0.0, 2, 0, -2, 0]], [[2.0, 0, -2, 0, 0]]])
        colors = [[255, 0, 0], [128, 255, 0], [0, 255, 255], [128, 0, 255], [255] * 3]
        np.testing.assert_allclose(displacement_color(field)[0], colors, atol=1)

    def test_few_long_vectors_do_not_bleach_the_rest(self):
        field = np.zeros((2, 10, 40))
        field[1] = 3.0
        field[1, 0, :2] = 500
        assert (displacement_color(field) == [255, 0, 0]).all()
        assert (displacement_color(field, 500.0)[1:] == [255, 253, 253]).all()

    def test_fields_of_zeros_are_white(self):
        assert (displacement_color(np.zeros((2, 3, 4))) == 255).all()
        assert (displacement_color(np.zeros((2, 3, 4)), 0.0) == 255).all()


class TestColorWheel:
    def test_shows_the_colours_of_directions(self):
        wheel = color_wheel(101)
        assert wheel.shape == (101, 101, 3)
        assert wheel.dtype == np.uint8
        assert wheel[50, 50].tolist() == [255, 255, 255]
        for y, x in [(50, 90), (90, 50), (50, 10), (10, 50), (70, 30)]:
            expected = slow_color((y - 50) / 50, (x - 50) / 50, 1)
            assert np.abs(wheel[y, x] - expected).max() <= 1

    def test_is_a_disc(self):
        wheel = color_wheel(61)
        assert (wheel[[0, 0, -1, -1], [0, -1, 0, -1]] == 255).all()
        # A rim of grey, which no direction has.
        gray = (wheel.max(axis=2) == wheel.min(axis=2)) & (wheel.max(axis=2) < 255)
        assert gray[30, 0]
        assert gray[0, 30]
        assert not gray[30, 5:-5].any()

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_smallest(self, size):
        assert color_wheel(size).shape == (size, size, 3)


def fields(count, rng):
    return dict(
        image=rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8),
        cam_before=rng.random((count, *GRID)),
        cam_after=rng.random((count, HEIGHT, WIDTH)).astype(np.float16),
        cam_classes=list(range(count)),
        edge=rng.random(GRID).astype(np.float32),
        displacement=rng.normal(size=(2, *GRID)).astype(np.float32),
        label=rng.integers(0, count + 1, (HEIGHT, WIDTH), dtype=np.uint8),
        truth=rng.integers(0, count + 1, (HEIGHT, WIDTH), dtype=np.uint8),
        class_names=NAMES,
    )


def cells(panel, columns):
    """The pictures of a panel, row by row, without their captions."""
    assert panel.dtype == np.uint8
    assert panel.shape[1] == 4 + columns * (WIDTH + 4)
    rows = panel.shape[0] // (HEIGHT + 18 + 4)
    corners = [
        (4 + row * (HEIGHT + 18 + 4), 4 + column * (WIDTH + 4))
        for row in range(rows)
        for column in range(columns)
    ]
    return [panel[y : y + HEIGHT, x : x + WIDTH] for y, x in corners]


def enlarged(field):
    return cv2.resize(np.float32(field), (WIDTH, HEIGHT), interpolation=1)


class TestIrnPanel:
    @pytest.mark.parametrize(("count", "columns"), [(0, 5), (1, 4), (2, 5), (3, 6)])
    def test_cells_in_order(self, count, columns):
        given_fields = fields(count, np.random.default_rng(count))
        image = given_fields["image"]
        shown = cells(irn_panel(**given_fields), columns)
        expected = [image]
        before, after = (
            [overlay_heat(image, enlarged(one)) for one in given_fields[key]]
            for key in ("cam_before", "cam_after")
        )
        edge = np.rint(255 * enlarged(given_fields["edge"])).astype(np.uint8)
        expected += [*before, edge[..., None].repeat(3, axis=2), None, *after]
        expected += [
            overlay_label(image, given_fields[key]) for key in ("label", "truth")
        ]
        for cell, picture in zip(shown, expected):
            if picture is not None:
                np.testing.assert_array_equal(cell, picture)
        # The rest of the last row is white.
        assert all((cell == 255).all() for cell in shown[len(expected) :])

    def test_displacements_with_their_wheel(self):
        given_fields = fields(1, np.random.default_rng(0))
        field = given_fields["displacement"] = np.zeros((2, *GRID))
        field[1, :, :30] = 5.0
        shown = cells(irn_panel(**given_fields), 4)[3]
        frame = shown[0, 0]
        assert frame.max() == frame.min() < 255
        assert (shown[[0, -1]] == frame).all()
        assert (shown[:, [0, -1]] == frame).all()
        assert (shown[1:-1, 1:100] == [255, 0, 0]).all()
        size = round(0.2 * HEIGHT)
        assert (shown[1 : -size - 1, 130:-1] == 255).all()
        centre = slice(-size + 1, -1)
        np.testing.assert_array_equal(
            shown[centre, centre][1:-1, 1:-1], color_wheel(size)[2:-2, 2:-2]
        )

    def test_without_truth_in_one_row(self):
        given_fields = fields(1, np.random.default_rng(0)) | dict(truth=None)
        shown = cells(irn_panel(**given_fields), 6)
        assert len(shown) == 6
        np.testing.assert_array_equal(
            shown[-1], overlay_label(given_fields["image"], given_fields["label"])
        )

    def test_captions_tell_the_classes_and_the_scale(self):
        given_fields = fields(1, np.random.default_rng(0))
        field = given_fields["displacement"] = np.zeros((2, *GRID))
        # Three pixels of the grid are twelve of the image.
        field[0] = 3.0
        captions = ["image", "CAM train", "edge", "displacement, full colour: 12 px"]
        captions += ["CAM train after walk", "mask", "ground truth"]
        panel = irn_panel(**given_fields)
        white = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
        expected = contact_sheet([white] * 7, captions, 4, (WIDTH, HEIGHT))
        for row in range(2):
            text = slice(
                4 + HEIGHT + row * (HEIGHT + 22), 22 + HEIGHT + row * (HEIGHT + 22)
            )
            np.testing.assert_array_equal(panel[text], expected[text])

    def test_small_images_are_enlarged(self):
        given_fields = fields(1, np.random.default_rng(0))
        for key in ("image", "label", "truth"):
            given_fields[key] = given_fields[key][:3, :4]
        assert irn_panel(**given_fields).shape[1] == 4 + 4 * 244
