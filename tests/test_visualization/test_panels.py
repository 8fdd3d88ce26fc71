import numpy as np

from mmwood.fileio.labels import voc_palette
from mmwood.visualization.panels import (
    filter_panel,
    overlay_heat,
    overlay_label,
    seed_panel,
)

IMAGE = np.full((30, 40, 3), 100, dtype=np.uint8)


def test_heat_goes_from_blue_to_red():
    score = np.zeros((30, 40))
    score[:, 20:] = 1.0
    drawn = overlay_heat(IMAGE, score).astype(int)
    assert drawn[0, 0, 2] > drawn[0, 0, 0]
    assert drawn[0, 39, 0] > drawn[0, 39, 2]


def test_label_colours_void_and_background():
    label = np.zeros((30, 40), dtype=np.uint8)
    label[:10], label[10:20] = 3, 255
    drawn = overlay_label(IMAGE, label).astype(int)
    expected = 0.35 * 100 + 0.65 * voc_palette()[3].astype(int)
    assert abs(drawn[0, 0] - expected).max() <= 1
    assert drawn[15, 0].min() > 180
    assert drawn[25, 0].tolist() == [60, 60, 60]


def test_panel_has_one_picture_a_class():
    def panel(classes: list[int], truth) -> np.ndarray:
        return seed_panel(
            image=IMAGE,
            cam=np.zeros((len(classes), 30, 40)),
            cam_classes=classes,
            seed=np.zeros((30, 40), dtype=np.uint8),
            truth=truth,
            class_names=["a", "b", "c"],
            scores=[0.1, 0.2, 0.3],
        )

    label = np.zeros((30, 40), dtype=np.uint8)
    width = panel([], None).shape[1]
    step = panel([1], None).shape[1] - width
    assert step >= 240
    assert panel([0, 2], label).shape[1] == width + 3 * step


def test_removed_pixels_are_magenta():
    before = np.zeros((30, 40), dtype=np.uint8)
    before[:20] = 3
    after = before.copy()
    after[:5] = 254
    drawn = overlay_label(IMAGE, after).astype(int)
    assert abs(drawn[0, 0] - [201, 35, 201]).max() <= 1
    shown = filter_panel(IMAGE, before, after)
    step = shown.shape[1] // 3
    assert (shown[10, 2 * step + 20] == shown[10, 2 * step + 40]).all()
    assert shown[10, 2 * step + 20].tolist() != shown[10, step + 20].tolist()
    wider = filter_panel(IMAGE, before, after, before)
    assert wider.shape[1] > shown.shape[1]
    np.testing.assert_array_equal(wider[:, : 3 * step], shown[:, : 3 * step])
