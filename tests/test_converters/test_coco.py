"""COCO and LVIS annotations, against slow references and the real files."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

pytest.importorskip("pycocotools")

from pycocotools.coco import COCO

from mmwood.converters.check import check_dataset, coco_entries
from mmwood.converters.coco import convert_coco
from mmwood.datasets import ImageLevelDataset
from mmwood.fileio.coco import instance_mask
from mmwood.fileio.tables import read_csv

REPOSITORY = Path(__file__).parents[2]
TINY_COCO = Path(
    os.environ.get("TINY_COCO", REPOSITORY.parent / "shared/data/tiny_coco")
)
H, W = 40, 50


def box(x0, y0, x1, y1):
    return [[x0, y0, x1, y0, x1, y1, x0, y1]]


def crowd_runs(x0, y0, x1, y1):
    """Uncompressed run lengths of a box."""
    mask = np.zeros((H, W), dtype=bool)
    mask[y0:y1, x0:x1] = True
    runs, value = [0], False
    for pixel in mask.T.ravel().tolist():
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    return dict(size=[H, W], counts=runs)


def annotation(number, image, category, segmentation, iscrowd=0):
    return dict(
        id=number,
        image_id=image,
        category_id=category,
        segmentation=segmentation,
        iscrowd=iscrowd,
    )


@pytest.fixture
def content():
    """Three images; categories 7, 3 and 90 are in no order."""
    return dict(
        images=[
            dict(id=5, file_name="five.jpg", height=H, width=W),
            dict(id=6, file_name="six.jpg", height=H, width=W),
            dict(id=9, file_name="nine.jpg", height=H, width=W),
        ],
        annotations=[
            annotation(1, 5, 7, box(10, 10, 20, 20)),
            annotation(2, 5, 3, box(5, 5, 30, 30)),
            annotation(3, 5, 90, crowd_runs(25, 0, 45, 40), iscrowd=1),
            annotation(4, 6, 90, box(-5, 30, 10, 45)),
        ],
        categories=[
            dict(id=7, name="dog"),
            dict(id=3, name="cat, big"),
            dict(id=90, name="bird"),
        ],
    )


@pytest.fixture
def write(tmp_path):
    def write(content, name="a"):
        for image in content.get("images", ()):
            path = tmp_path / name / image.get("file_name", "none")
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (W, H)).save(path, format="JPEG")
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(content))
        return path

    return write


@pytest.mark.slow
def test_known_masks_lists_and_tags(content, write, tmp_path):
    done = convert_coco(tmp_path, dict(a=write(content)))
    assert done["splits"]["a"] == dict(
        images=3, without_annotation=1, left_out=0, annotations=4, crowds=1
    )
    assert (done["written"], done["pixelless"]) == (7, [])
    # By category id: cat 1, dog 2, bird 3. The crowd is below, the small dog on top.
    five = np.zeros((H, W), dtype=np.uint8)
    five[:, 25:45] = 255
    five[5:30, 5:30] = 1
    five[10:20, 10:20] = 2
    six = np.zeros((H, W), dtype=np.uint8)
    six[30:, :10] = 3
    for name, expected in (("five", five), ("six", six), ("nine", six * 0)):
        with Image.open(tmp_path / f"SegmentationClass/{name}.png") as image:
            assert image.mode == "P"
            np.testing.assert_array_equal(np.array(image), expected)
    assert (tmp_path / "ImageSets/a.txt").read_text() == "five\nsix\nnine\n"
    assert (tmp_path / "classes.txt").read_text() == "cat, big\ndog\nbird\n"
    lines = (tmp_path / "tags_a.csv").read_text().splitlines()
    expected = ['a/five.jpg,"cat, big;dog;bird"', "a/six.jpg,bird", "a/nine.jpg,"]
    assert lines == ["image,labels", *expected]
    assert (tmp_path / "tags.csv").read_text().splitlines() == lines

    report = check_dataset(*coco_entries(tmp_path))
    assert not report.errors
    # The bird of five.jpg is a crowd.
    assert report.warnings == [
        "the tags of 1 images are not the classes in their masks"
    ]
    assert report.classes["bird"] == {"tagged": 2, "in masks": 1, "tag only": 1}

    # Our data set reads both, as its tables say.
    options = dict(data_root=str(tmp_path), classes="classes.txt")
    dataset = ImageLevelDataset(ann_file="tags.csv", label_source="csv", **options)
    assert [dataset.get_cat_ids(i) for i in range(3)] == [[0, 1, 2], [2], []]
    dataset = ImageLevelDataset(
        ann_file="ImageSets/a.txt",
        label_source="mask",
        data_prefix=dict(img_path="a", seg_map_path="SegmentationClass"),
        **options,
    )
    assert [dataset.get_cat_ids(i) for i in range(3)] == [[0, 1], [2], []]


def test_chosen_categories_and_splits(content, write, tmp_path):
    other = copy.deepcopy(content)
    for image in other["images"]:
        image["file_name"] = "b_" + image["file_name"]
    splits = dict(a=write(content), b=write(other, "b"))
    done = convert_coco(tmp_path, splits, categories=["bird", "dog"], skip_empty=True)
    assert [c["images"] for c in done["splits"].values()] == [2, 2]
    assert [c["left_out"] for c in done["splits"].values()] == [1, 1]
    five = np.array(Image.open(tmp_path / "SegmentationClass/b_five.png"))
    assert (five[15, 15], five[7, 7], five[7, 40]) == (2, 0, 255)
    assert [item.image for item in read_csv(tmp_path / "tags.csv")] == [
        *("a/five.jpg", "a/six.jpg", "b/b_five.jpg", "b/b_six.jpg")
    ]
    assert set(coco_entries(tmp_path)[0]) == {"a", "b"}

    with pytest.raises(ValueError, match=r"(?s)categories: 2 of 3 .*'birt': did you"):
        convert_coco(tmp_path, splits, categories=["bird", "birt", "zzz"])
    other["categories"].pop()
    other["annotations"] = other["annotations"][:2]
    with pytest.raises(ValueError, match=r"b\.json: its categories are not those"):
        convert_coco(tmp_path, dict(a=splits["a"], b=write(other, "b")), overwrite=True)
    with pytest.raises(
        ValueError, match=r"image 'a/five\.jpg'.* was listed before, as"
    ):
        convert_coco(tmp_path, dict(a=splits["a"], again=splits["a"]), images="a")


def test_lvis(content, write, tmp_path):
    """LVIS v1 has no file_name and no iscrowd."""
    write(content)
    for image in content["images"]:
        name = image.pop("file_name")
        image["coco_url"] = f"http://images.cocodataset.org/a/{name}"
    for item in content["annotations"]:
        del item["iscrowd"]
    for category in content["categories"]:
        category.update(frequency="c", synset=f"{category['name']}.n.01")
    path = tmp_path / "lvis.json"
    path.write_text(json.dumps(content))
    convert_coco(tmp_path, dict(lvis_train=path), categories=["dog"], skip_empty=True)
    assert (tmp_path / "tags_lvis_train.csv").read_text() == (
        "image,labels\na/five.jpg,dog\n"
    )
    many = [dict(id=100 + n, name=f"thing {n}") for n in range(260)]
    content["categories"] += many
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="263 categories do not fit"):
        convert_coco(tmp_path, dict(lvis_train=path))
    (tmp_path / "tags").mkdir()
    (tmp_path / "tags/a").symlink_to(tmp_path / "a")
    convert_coco(tmp_path / "tags", dict(lvis_train=path), masks=False)
    assert not (tmp_path / "tags/SegmentationClass").exists()
    assert not check_dataset(*coco_entries(tmp_path / "tags")).errors


def test_again_keeps_and_refuses_other_content(content, write, tmp_path):
    path = write(content)
    convert_coco(tmp_path, dict(a=path))
    files = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    before = [p.stat().st_ino for p in files]
    done = convert_coco(tmp_path, dict(a=path))
    assert (done["written"], done["kept"]) == (0, 7)
    assert [p.stat().st_ino for p in files] == before
    mask = tmp_path / "SegmentationClass/five.png"
    whole = mask.read_bytes()
    os.truncate(mask, 70)
    assert convert_coco(tmp_path, dict(a=path))["written"] == 1
    assert mask.read_bytes() == whole
    with pytest.raises(FileExistsError, match=r"five\.png is there and holds"):
        convert_coco(tmp_path, dict(a=path), categories=["bird"])
    convert_coco(tmp_path, dict(a=path), categories=["bird"], overwrite=True)
    assert set(np.unique(np.array(Image.open(mask)))) == {0, 255}


def test_polygons(content, write, tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(40):
        # A star around a centre, so that the polygon does not cross itself.
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(4, 9)))
        radius = rng.uniform(5, 16, len(angle))
        points = np.stack(
            [W / 2 + radius * np.cos(angle), H / 2 + radius * np.sin(angle)], axis=1
        )
        found = instance_mask([points.ravel().tolist()], H, W)
        # Drawn at eight times the size: pixels wholly in it or out of it are certain.
        big = Image.new("1", (W * 8, H * 8))
        ImageDraw.Draw(big).polygon([tuple(p) for p in points * 8], fill=1)
        share = np.array(big).reshape(H, 8, W, 8).mean(axis=(1, 3))
        np.testing.assert_array_equal(found[share == 1], True)
        np.testing.assert_array_equal(found[share == 0], False)
        assert abs(found.sum() - share.sum()) < 0.1 * share.sum() + 5

    # No area is no error, but is said.
    content["annotations"].append(annotation(8, 9, 7, [[1, 1, 5, 5]]))
    content["annotations"].append(annotation(9, 9, 7, []))
    path = write(content)
    done = convert_coco(tmp_path, dict(a=path))
    assert done["pixelless"] == [f"{path}: annotation id {n}" for n in (8, 9)]


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        (box(60, 5, 70, 9), "outside the image: x from 60 to 70"),
        (box(5, 5, 1e12, 9), "outside the image: x from 5 to 1e+12"),
        ([[1, 2, 3, 4, 5]], "numbers x, y, x, y"),
        (None, "must be a list of polygons"),
        (dict(size=[W, H], counts=[W * H]), "the image is [40, 50]"),
        (dict(size=[H, W], counts=[5, 3]), "integers with the sum 2000"),
        (dict(size=[H, W], counts="02 O"), "hold the character ' '"),
    ],
)
def test_bad_segmentations(content, write, tmp_path, segmentation, message):
    content["annotations"][1]["segmentation"] = segmentation
    with pytest.raises(ValueError, match="annotation id 2: ") as error:
        convert_coco(tmp_path, dict(a=write(content)))
    assert message in str(error.value)
    assert "a.json" in str(error.value)


def test_bad_files(content, write, tmp_path):
    def refuses(error, match, change=None, **options):
        changed = copy.deepcopy(content)
        if change:
            change(changed)
        with pytest.raises(error, match=match):
            convert_coco(tmp_path, dict(a=write(changed)), **options)

    refuses(
        ValueError,
        r"annotations\[3\] \(id 4\) lacks segmentation",
        lambda c: c["annotations"][3].pop("segmentation"),
    )
    refuses(
        ValueError,
        r"annotations\[0\] lacks image_id, category_id, id",
        lambda c: c["annotations"].insert(0, 7),
    )
    refuses(
        ValueError,
        r"images\[2\] \(id 9\) lacks file_name",
        lambda c: c["images"][2].pop("file_name"),
    )
    refuses(
        ValueError,
        r"images\[1\] \(id 6\): says \(H, W\) = \(50, 40\), .*six\.jpg has \(40, 50\)",
        lambda c: c["images"][1].update(height=W, width=H),
    )
    refuses(
        ValueError,
        "no image has an annotation of these categories",
        lambda c: c["annotations"].clear(),
    )
    refuses(
        ValueError,
        "must not hold a semicolon",
        lambda c: c["categories"][0].update(name="a;b"),
    )
    refuses(FileNotFoundError, r"\(id 5\): .*other/five\.jpg", images="other")
    with pytest.raises(FileNotFoundError, match="there is no annotation file"):
        convert_coco(tmp_path, dict(a=tmp_path / "none.json"))
    # Lists and tags are named after splits.
    for name in ("../a", "/a", "a/../b", "C:a", "a/b", ""):
        with pytest.raises(ValueError, match="--split: the name"):
            convert_coco(tmp_path, {name: tmp_path / "none.json"})


def test_tags_need_no_outlines(tmp_path):
    """As annotations of boxes have none."""
    Image.new("RGB", (48, 40)).save(tmp_path / "a.jpg")
    content = dict(
        images=[dict(id=1, file_name="a.jpg", height=40, width=48)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[4, 4, 16, 16])],
        categories=[dict(id=1, name="cat")],
    )
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(content))
    convert_coco(tmp_path, dict(train=path), images="", masks=False)
    assert (tmp_path / "tags.csv").read_text() == "image,labels\na.jpg,cat\n"


@pytest.mark.slow
@pytest.mark.skipif(
    not TINY_COCO.is_dir(),
    reason=f"tiny_coco is not at {TINY_COCO} (set TINY_COCO to its folder)",
)
def test_tiny_coco(tmp_path):
    (tmp_path / "val2017").symlink_to(TINY_COCO / "val2017")
    path = TINY_COCO / "annotations/instances_val2017.json"
    convert_coco(tmp_path, dict(val2017=path))
    coco = COCO(path)
    ids = sorted(coco.cats)
    names = (tmp_path / "ImageSets/val2017.txt").read_text().split()
    assert len(names) == 50
    for name in names:
        annotations = coco.imgToAnns[int(name)]
        size = coco.imgs[int(name)]["height"], coco.imgs[int(name)]["width"]
        # Pixel by pixel, the smallest instance that covers it.
        expected = np.zeros(size, dtype=np.uint8)
        smallest = np.full(size, np.inf)
        for item in annotations:
            mask = coco.annToMask(item).astype(bool)
            area = 1e9 if item["iscrowd"] else mask.sum()
            value = 255 if item["iscrowd"] else ids.index(item["category_id"]) + 1
            seen = mask & (area <= smallest)
            expected[seen] = value
            smallest[seen] = area
        found = np.array(Image.open(tmp_path / f"SegmentationClass/{name}.png"))
        np.testing.assert_array_equal(found, expected)
    report = check_dataset(*coco_entries(tmp_path))
    assert not report.errors
