"""Masks as run lengths, and annotations that pycocotools and our data set read."""

import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO

from mmwood.datasets import ImageLevelDataset
from mmwood.fileio.coco import decode_mask, encode_mask, merge_instances

CLASSES = ("disc", "square", "stripe")


def runs(mask):
    """The lengths of a mask's runs down its columns, zeros first."""
    lengths, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            lengths.append(0)
            value = pixel
        lengths[-1] += 1
    return lengths


def instance(category_id, score, mask):
    rle = encode_mask(mask)
    return dict(
        category_id=category_id,
        score=score,
        segmentation=rle,
        area=int(pycocotools_mask.area(rle)),
        bbox=pycocotools_mask.toBbox(rle).tolist(),
    )


def image(name, height=6, width=9):
    return dict(file_name=name, width=width, height=height)


@pytest.fixture
def masks():
    found = np.zeros((3, 6, 9), dtype=bool)
    found[0, 1:4, 2:7] = True
    found[1, 4:, :3] = True
    found[2, [0, 5], [0, 8]] = True
    return found


@pytest.fixture
def parts(masks):
    return [
        dict(
            image=image("a.png"),
            instances=[instance(3, 0.75, masks[0]), instance(1, 0.5, masks[1])],
        ),
        dict(image=image("empty.png"), instances=[]),
        dict(image=image("b.png"), instances=[instance(3, 0.0, masks[2])]),
    ]


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=12)))
def test_masks_come_back(mask):
    rle = json.loads(json.dumps(encode_mask(mask)))
    result = decode_mask(rle)
    assert result.dtype == bool
    np.testing.assert_array_equal(result, mask)
    height, width = mask.shape
    plain = dict(size=[height, width], counts=runs(mask))
    expected = pycocotools_mask.frPyObjects(plain, height, width)
    assert rle == dict(size=[height, width], counts=expected["counts"].decode())


def test_takes_views():
    mask = np.random.default_rng(0).random((8, 12)) > 0.5
    view = mask[::-2, 1::3].T
    np.testing.assert_array_equal(decode_mask(encode_mask(view)), view)


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), bool)]
)
def test_refuses_other_masks(mask):
    with pytest.raises(ValueError, match=r"mask must be \(H, W\) bool, but is"):
        encode_mask(mask)


def test_names_the_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    for call in (
        lambda: encode_mask(np.zeros((2, 2), bool)),
        lambda: decode_mask(dict(size=[2, 2], counts="4")),
    ):
        with pytest.raises(ImportError, match=r'pip install "mmwood\[coco\]"'):
            call()


def test_pycocotools_reads_the_file(parts, masks, tmp_path, capsys):
    path = tmp_path / "instances.json"
    path.write_text(json.dumps(merge_instances(iter(parts), CLASSES)))
    coco = COCO(path)
    assert [item["name"] for item in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert coco.loadImgs([1, 2, 3]) == [
        dict(id=1, file_name="a.png", width=9, height=6),
        dict(id=2, file_name="empty.png", width=9, height=6),
        dict(id=3, file_name="b.png", width=9, height=6),
    ]
    annotations = coco.loadAnns(coco.getAnnIds())
    assert [item["id"] for item in annotations] == [1, 2, 3]
    assert [item["image_id"] for item in annotations] == [1, 1, 3]
    assert [item["category_id"] for item in annotations] == [3, 1, 3]
    assert [item["score"] for item in annotations] == [0.75, 0.5, 0.0]
    for item, mask in zip(annotations, masks):
        np.testing.assert_array_equal(coco.annToMask(item), mask)
        assert item["area"] == mask.sum()
        assert item["iscrowd"] == 0
    assert annotations[0]["bbox"] == [2, 1, 5, 3]
    assert coco.getAnnIds(imgIds=[2]) == []
    # As detections too, with their scores.
    detections = [{k: v for k, v in item.items() if k != "id"} for item in annotations]
    assert len(coco.loadRes(detections).getAnnIds()) == 3
    capsys.readouterr()


def test_the_data_set_reads_the_file(parts, tmp_path):
    for part in parts:
        Image.new("RGB", (9, 6)).save(tmp_path / part["image"]["file_name"])
    (tmp_path / "instances.json").write_text(
        json.dumps(merge_instances(parts, CLASSES))
    )
    dataset = ImageLevelDataset(
        label_source="coco",
        ann_file="instances.json",
        data_root=str(tmp_path),
        data_prefix=dict(img_path=""),
        pipeline=[],
    )
    assert dataset.metainfo["classes"] == CLASSES
    assert [dataset.get_cat_ids(number) for number in range(3)] == [[0, 2], [], [2]]
    assert [dataset.get_data_info(number)["img_id"] for number in range(3)] == [
        "a",
        "empty",
        "b",
    ]


def test_nothing_at_all():
    assert merge_instances([], ["disc"]) == dict(
        images=[], annotations=[], categories=[dict(id=1, name="disc")]
    )


def test_refuses_parts_that_do_not_fit(parts):
    with pytest.raises(ValueError, match=r"image 'a\.png' occurs twice"):
        merge_instances([*parts, parts[0]], CLASSES)
    with pytest.raises(ValueError, match=r"'a\.png'.*category_id 3.*must be in 1\.\.2"):
        merge_instances(parts, CLASSES[:2])
    parts[2]["image"] = image("b.png", height=9, width=6)
    with pytest.raises(ValueError, match=r"'b\.png' has \(H, W\) = \[9, 6\].*\[6, 9\]"):
        merge_instances(parts, CLASSES)
