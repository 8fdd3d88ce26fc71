import numpy as np
import pytest

from mmwood.visualization.contact_sheet import contact_sheet

RED, BLUE = (255, 0, 0), (0, 0, 255)


def plain(height, width, colour):
    return np.full((height, width, 3), colour, np.uint8)


def test_images_fill_their_cells_and_keep_their_aspect():
    images = [plain(10, 20, RED), plain(40, 40, BLUE), plain(5, 5, RED)]
    sheet = contact_sheet(images, columns=2, cell=(40, 20))
    assert sheet.dtype == np.uint8
    assert sheet.shape == (2 * 24 + 4, 2 * 44 + 4, 3)
    assert (sheet[4:24, 4:44] == RED).all()  # 20 x 10 enlarged to 40 x 20
    assert (sheet[4:24, 58:78] == BLUE).all()  # 40 x 40 shrunk to 20 x 20, centred
    assert (sheet[4:24, 48:58] == 255).all()
    assert (sheet[4:24, 78:] == 255).all()
    assert (sheet[28:48, 14:34] == RED).all()
    assert (sheet[28:, 48:] == 255).all()  # nothing in the last cell


def test_no_more_columns_than_images():
    assert contact_sheet([plain(8, 8, RED)], columns=9, cell=(8, 8)).shape[1] == 16


def test_enlarging_keeps_single_pixels():
    image = np.zeros((2, 2, 3), np.uint8)
    image[0, 1] = RED
    sheet = contact_sheet([image], cell=(20, 20))
    assert (sheet[4:14, 14:24] == RED).all()
    assert (sheet[14:24, 4:24] == 0).all()


def test_captions_are_below_their_image_and_stay_in_their_cell():
    images = [plain(40, 80, RED)] * 2
    sheet = contact_sheet(images, ["x" * 200, ""], cell=(80, 40))
    band = sheet[44:62]
    assert (band[:, :84] < 128).any()
    assert (band[:, 86:] == 255).all()
    assert (sheet[4:44, 4:84] == RED).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": []}, "images is empty"),
        ({"captions": ["a", "b"]}, "2 texts for 1 images"),
        ({"columns": 0}, "columns"),
        ({"cell": (0, 10)}, "cell"),
        ({"images": [np.zeros((4, 4), np.uint8)]}, r"images\[0\].*\(4, 4\)"),
        ({"images": [np.zeros((4, 4, 3))]}, r"images\[0\].*float64"),
    ],
)
def test_errors_name_the_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        contact_sheet(**({"images": [plain(4, 4, RED)]} | arguments))
