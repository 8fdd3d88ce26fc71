"""Masks as run lengths, and annotations that pycocotools and our data set read."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image
from pycocotools import mask as pycocotools_mask
from pycocotools.coco import COCO

from mmwood.converters.coco import convert_coco, draw_mask
from mmwood.converters.pascal_b import draw_scene, read_annotations
from mmwood.datasets import ImageLevelDataset
from mmwood.evaluation.coco_instances import CocoInstances
from mmwood.evaluation.ia_iou_metric import IAIoUMetric
from mmwood.fileio.coco import (
    encode_mask,
    encode_part,
    instance_columns,
    instance_mask,
    merge_instances,
    read_coco,
)
from mmwood.fileio.files import write_json
from mmwood.fileio.labels import read_label_png

TINY_COCO = Path(
    os.environ.get("TINY_COCO", Path(__file__).parents[3] / "shared/data/tiny_coco")
)
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
    height, width = mask.shape
    result = instance_mask(rle, height, width)
    assert result.dtype == bool
    np.testing.assert_array_equal(result, mask)
    plain = dict(size=[height, width], counts=runs(mask))
    expected = pycocotools_mask.frPyObjects(plain, height, width)
    assert rle == dict(size=[height, width], counts=expected["counts"].decode())

    # The columns that it covers, and no others; with runs of no pixel, too.
    for segmentation in (rle, dict(plain, counts=[0, 0, *runs(mask), 0, 0])):
        left, part = instance_columns(segmentation, height, width)
        if segmentation is rle and part.size:
            assert part[:, [0, -1]].any(axis=0).all()
        found = np.zeros_like(mask)
        found[:, left : left + part.shape[1]] = part
        np.testing.assert_array_equal(found, mask)
    # In the middle of a larger image.
    around = np.pad(mask, [(2, 1), (3, 4)])
    assert encode_part(mask, 3, 2, around.shape) == encode_mask(around)


def test_takes_views():
    mask = np.random.default_rng(0).random((8, 12)) > 0.5
    view = mask[::-2, 1::3].T
    np.testing.assert_array_equal(instance_mask(encode_mask(view), *view.shape), view)


@pytest.mark.parametrize(
    "mask", [np.zeros((2, 2), np.uint8), np.zeros((1, 2, 2), bool)]
)
def test_refuses_other_masks(mask):
    with pytest.raises(ValueError, match=r"mask must be \(H, W\) bool, but is"):
        encode_mask(mask)


def test_names_the_package_that_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    with pytest.raises(ImportError, match=r'pip install "mmwood\[coco\]"'):
        encode_mask(np.zeros((2, 2), bool))
    with pytest.raises(ImportError, match=r'pip install "mmwood\[coco\]"'):
        instance_mask(dict(size=[2, 2], counts="4"), 2, 2)


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


@pytest.mark.slow
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
    )
    assert dataset.metainfo["classes"] == CLASSES
    infos = [dataset.get_data_info(number) for number in range(3)]
    assert [info["gt_label"] for info in infos] == [[0, 2], [], [2]]
    assert [info["img_id"] for info in infos] == ["a", "empty", "b"]


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


SIZE = (20, 30)
SQUARE = [5, 5, 12, 5, 12, 12, 5, 12]


def covered(pixels: int, **changes) -> dict:
    """Run lengths of the first pixels of an image of :data:`SIZE`."""
    runs = [0, pixels, SIZE[0] * SIZE[1] - pixels]
    return dict(size=list(SIZE), counts=runs) | changes


#: Every form that a segmentation may have, and the pixels that it covers.
GOOD = {
    "polygon": ([SQUARE], 49),
    "polygon of floats": ([[float(x) for x in SQUARE]], 49),
    "two polygons": ([SQUARE, [15, 5, 18, 5, 18, 8, 15, 8]], 58),
    "empty": ([], 0),
    "empty polygon": ([[]], 0),
    "one point": ([[5, 5]], 0),
    "two points": ([[5, 5, 12, 12]], 0),
    "a polygon and two points": ([SQUARE, [15, 5, 18, 8]], 49),
    "run lengths": (covered(7), 7),
    "sizes of floats": (covered(7, size=[20.0, 30.0]), 7),
    "no pixel": (covered(7, counts=[600]), 0),
    "all pixels": (covered(7, counts=[0, 600]), 600),
}
#: What no segmentation of the image is.
BAD = {
    "null": None,
    "a text": "RLE",
    "a number": 5,
    "flat": SQUARE,
    "odd": [[1, 2, 3, 4, 5]],
    "texts": [["1", "2", "3", "4", "5", "6"]],
    "nan": [[1, 2, 3, float("nan"), 5, 6]],
    "outside": [[100, 5, 120, 5, 120, 12, 100, 12]],
    "short": covered(7, counts=[0, 7]),
    "long": covered(7, counts=[0, 7, 60000]),
    "negative": covered(7, counts=[0, -7, 607]),
    "turned": covered(7, size=[30, 20]),
    "no counts": dict(size=list(SIZE)),
    "a size of one number": covered(7, size=20),
    "counts of texts": covered(7, counts=["0", "600"]),
    "null counts": covered(7, counts=None),
    "half a string": covered(7, counts="0P"),
}


def annotation_file(folder, segmentation):
    entry = dict(id=3, file_name="train/a.png", height=SIZE[0], width=SIZE[1])
    other = dict(id=1, image_id=3, category_id=1, area=9, iscrowd=0)
    other["segmentation"] = [[20, 14, 26, 14, 26, 18, 20, 18]]
    annotation = dict(other, id=2, segmentation=segmentation)
    path = folder / "file.json"
    write_json(
        path,
        dict(
            images=[entry],
            annotations=[other, annotation],
            categories=[dict(id=1, name="cat")],
        ),
    )
    return path


def by_converter(path):
    (path.parent / "train").mkdir()
    Image.new("RGB", SIZE[::-1]).save(path.parent / "train/a.png")
    convert_coco(path.parent, dict(train=path), images="", overwrite=True)
    mask = read_label_png(path.parent / "SegmentationClass/a.png")
    return int((mask == 1).sum())


def by_metric(path):
    gt = np.ones(SIZE, np.int64)
    ids = CocoInstances(str(path))("root/train/a.png", gt, 255, ["background", "cat"])
    return int((ids > 0).sum())


def by_pascal_b(path):
    (scene,) = read_annotations(path, dict(cat=1)).values()
    return int((draw_scene(scene)[0] == 1).sum())


@pytest.mark.parametrize("form", GOOD)
def test_every_form_of_a_segmentation(form):
    segmentation, pixels = GOOD[form]
    assert instance_mask(segmentation, *SIZE).sum() == pixels


@pytest.mark.parametrize("form", BAD)
def test_what_is_no_segmentation(form):
    with pytest.raises(ValueError, match=r"segmentation|run lengths|polygon"):
        instance_mask(BAD[form], *SIZE)


@pytest.mark.parametrize("read", [by_converter, by_metric, by_pascal_b])
def test_every_reader_decodes_alike_and_names_what_is_none(read, tmp_path):
    mask = np.random.default_rng(0).random(SIZE) < 0.4
    mask[13:] = False
    for number, (segmentation, pixels) in enumerate(
        [*GOOD.values(), (encode_mask(mask), mask.sum())]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        # The other annotation's 24 pixels lie elsewhere.
        expected = min(pixels + 24, SIZE[0] * SIZE[1])
        assert read(annotation_file(folder, segmentation)) == expected
    for form in ("outside", "short"):
        folder = tmp_path / form
        folder.mkdir()
        path = annotation_file(folder, BAD[form])
        with pytest.raises(
            ValueError, match=r"file\.json.*(annotation id 2|\[\d\] \(id )"
        ):
            read(path)


def tags_of(path):
    return ImageLevelDataset(
        ann_file=path.name, label_source="coco", data_root=str(path.parent)
    )


#: Whoever reads annotation files.
FILE_READERS = dict(
    data_set=tags_of,
    converter=lambda path: convert_coco(path.parent, dict(train=path)),
    metric=lambda path: IAIoUMetric(instance_file=str(path)),
    pascal_b=lambda path: read_annotations(path, dict(cat=1)),
)


def changed(**content) -> dict:
    """An annotation file without fault, but for some of its lists."""
    whole = dict(
        images=[dict(id=3)], annotations=[], categories=[dict(id=1, name="cat")]
    )
    return whole | content


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (None, "has no images"),
        ([], "has no images"),
        ([dict(image_id=1, category_id=1, bbox=[0, 0, 1, 1], score=0.5)], "no images"),
        (dict(images=[], annotations=[]), "has no categories"),
        (dict(images={}), "has no images"),
        (changed(images=[dict(file_name="a.jpg")]), r"images\[0\] lacks id"),
        (changed(images=[7]), r"images\[0\] lacks id"),
        (
            changed(images=[dict(id=1), dict(id=1)]),
            r"images\[1\] \(id 1\): another one",
        ),
        (changed(images=[dict(id=[1])]), r"images\[0\] \(id \[1\]\): its id is no"),
        (
            changed(annotations=[dict(id=1, category_id=1)]),
            r"annotations\[0\] \(id 1\) lacks image_id",
        ),
        (
            changed(annotations=[dict(image_id=9, category_id=1)]),
            r"annotations\[0\] has the unknown image_id 9",
        ),
        (
            changed(annotations=[dict(image_id=3, category_id=7)]),
            "unknown category_id 7",
        ),
        (changed(categories=[dict(id=1)]), r"categories\[0\] \(id 1\) lacks name"),
        (changed(categories=[dict(id=1, name=7)]), r"7 \(id 1\) is no name"),
        (
            changed(categories=[dict(id=n, name="cat") for n in (1, 2)]),
            r"categories: 'cat' \(id 2\)",
        ),
        (
            changed(categories=[dict(id=1, name="a"), dict(id="b", name="b")]),
            "ids are numbers and texts",
        ),
        (b'{"images": [\n', r"file\.json:2: not JSON"),
        (b'{\n"a": "\xff"}', r"file\.json:2: is not utf-8"),
        (b"[" * 100_000, "too deeply nested"),
    ],
)
def test_files_that_are_no_annotations(content, place, tmp_path):
    path = tmp_path / "file.json"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        write_json(path, content)
    with pytest.raises(ValueError, match=place):
        read_coco(path)


@pytest.mark.parametrize("name", FILE_READERS)
def test_every_reader_names_the_file(name, tmp_path):
    path = tmp_path / "file.json"
    write_json(path, dict(images=[]))
    with pytest.raises(ValueError, match=r"file\.json is no COCO .* no categories"):
        FILE_READERS[name](path)


def test_tiny_coco_has_the_instances_of_its_file():
    """With VOC's classes by COCO's names; other categories have no instance."""
    if not TINY_COCO.is_dir():
        pytest.skip(f"tiny_coco is not at {TINY_COCO}")
    path = TINY_COCO / "annotations/instances_val2017.json"
    content = json.loads(path.read_text())
    names = "airplane bicycle bird boat bottle bus car cat chair cow dog horse person"
    names = [*names.split(), "dining table", "motorcycle", "potted plant"]
    names += ["sheep", "couch", "train", "tv"]
    ids = {c["id"]: c["name"] for c in content["categories"] if c["name"] in names}
    assert len(ids) == 20
    metric = IAIoUMetric(instance_file=str(path))
    metric.dataset_meta = dict(classes=["background", *names])
    expected = instances = 0
    for image in content["images"]:
        own = [
            dict(a, value=names.index(ids[a["category_id"]]) + 1)
            for a in content["annotations"]
            if a["image_id"] == image["id"] and a["category_id"] in ids
        ]
        gt, _ = draw_mask(own, (image["height"], image["width"]))
        found = metric._coco(
            image["file_name"], gt, 255, metric.dataset_meta["classes"]
        )
        instances += len(set(np.unique(found).tolist()) - {0, 255})
        expected += sum(not a["iscrowd"] for a in own)
    # Some instances are hidden behind smaller ones.
    assert 0.95 * expected < instances <= expected
