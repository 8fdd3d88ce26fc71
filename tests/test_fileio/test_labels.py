import numpy as np
from PIL import Image

from mmwood.fileio.labels import save_label_png, voc_palette


def test_colours_of_pascal_voc():
    palette = voc_palette()
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    # As the development kit lists them: background, aeroplane, person, train, void.
    for label, colour in {
        0: (0, 0, 0),
        1: (128, 0, 0),
        15: (192, 128, 128),
        19: (128, 192, 0),
        255: (224, 224, 192),
    }.items():
        assert tuple(palette[label]) == colour
    assert len(np.unique(palette, axis=0)) == 256


def test_label_png_keeps_labels_and_colours(tmp_path):
    label = np.array([[0, 1, 255], [20, 2, 0]], dtype=np.uint8)
    save_label_png(label, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"
        np.testing.assert_array_equal(np.array(image), label)
        colours = np.array(image.convert("RGB"))
    np.testing.assert_array_equal(colours, voc_palette()[label])
