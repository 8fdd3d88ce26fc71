import numpy as np

from mmwood.fileio.labels import voc_palette
from mmwood.visualization.panels import overlay_heat, overlay_label, seed_panel

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
