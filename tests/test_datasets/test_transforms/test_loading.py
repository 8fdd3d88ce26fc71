import numpy as np
import pytest
from mmcv.transforms import Resize
from PIL import Image

from mmwood.datasets import LoadImage, LoadSemanticMask


def results(voc_folder):
    return dict(
        img_path=str(voc_folder / "JPEGImages/image_1.jpg"),
        seg_map_path=str(voc_folder / "SegmentationClass/image_1.png"),
    )


def test_image_is_bgr_at_its_size(voc_folder):
    loaded = LoadImage()(results(voc_folder))
    with Image.open(loaded["img_path"]) as image:
        rgb = np.array(image)
    np.testing.assert_array_equal(loaded["img"], rgb[..., ::-1])
    assert loaded["ori_shape"] == (33, 47)


def test_truncated_image_is_refused_by_name(voc_folder):
    info = results(voc_folder)
    with open(info["img_path"], "r+b") as file:
        file.truncate(900)
    with pytest.raises(ValueError, match=r"image_1\.jpg is not a whole image"):
        LoadImage()(info)


def test_missing_image(voc_folder):
    with pytest.raises(FileNotFoundError, match=r"none\.jpg"):
        LoadImage()(dict(img_path=str(voc_folder / "none.jpg")))


def test_mask_keeps_the_original_size(voc_folder):
    loaded = LoadSemanticMask()(LoadImage()(results(voc_folder)))
    resized = Resize(scale_factor=2.0)(loaded)
    assert resized["img"].shape == (66, 94, 3)
    with Image.open(loaded["seg_map_path"]) as mask:
        np.testing.assert_array_equal(resized["gt_sem_seg"].data[0], np.array(mask))


def test_mask_of_another_size(voc_folder):
    info = results(voc_folder)
    info["seg_map_path"] = info["seg_map_path"].replace("image_1", "image_0")
    with pytest.raises(ValueError, match=r"image_0\.png has \(H, W\) = \(40, 48\)"):
        LoadSemanticMask()(LoadImage()(info))


def test_absent_mask(voc_folder):
    info = results(voc_folder)
    del info["seg_map_path"]
    loaded = LoadImage()(info)
    assert "gt_sem_seg" not in LoadSemanticMask(optional=True)(loaded)
    with pytest.raises(ValueError, match="no mask to evaluate with"):
        LoadSemanticMask()(loaded)
