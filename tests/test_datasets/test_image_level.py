import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.datasets import ImageLevelDataset
from mmwood.fileio.labels import save_label_png

CLASSES = ["disc", "square", "stripe"]
#: What conftest.make_voc_folder draws: image i shows i mod 3, odd ones i + 1 too.
TAGS = [[0], [1, 2], [2], [0, 1], [1], [0, 2]]
IMAGES = dict(img_path="JPEGImages")
MASKS = dict(IMAGES, seg_map_path="SegmentationClass")


def by_mask(root: Path, **kwargs) -> ImageLevelDataset:
    options = dict(
        ann_file="ImageSets/Segmentation/train.txt",
        label_source="mask",
        classes=CLASSES,
        data_root=str(root),
        data_prefix=MASKS,
        # Serialising collects garbage, which takes a while between tests.
        serialize_data=False,
    )
    return ImageLevelDataset(**{**options, **kwargs})


def labels_of(dataset: ImageLevelDataset) -> list[list[int]]:
    return [dataset.get_cat_ids(index) for index in range(len(dataset))]


def by_csv(root: Path, text: str) -> ImageLevelDataset:
    (root / "tags.csv").write_text(text)
    return by_mask(root, ann_file="tags.csv", label_source="csv", data_prefix=IMAGES)


def test_masks(voc_folder):
    dataset = by_mask(voc_folder)
    assert labels_of(dataset) == TAGS
    info = dataset.get_data_info(1)
    assert info["img_id"] == "image_1"
    assert info["img_path"] == str(voc_folder / "JPEGImages/image_1.jpg")
    assert info["seg_map_path"] == str(voc_folder / "SegmentationClass/image_1.png")
    assert dataset.metainfo["classes"] == tuple(CLASSES)


def test_voc_annotations(voc_folder):
    (voc_folder / "Annotations").mkdir()
    for number, tags in enumerate(TAGS):
        objects = "".join(
            f"<object><name>{CLASSES[tag]}</name><difficult>{int(tag == 2)}</difficult>"
            "</object>"
            for tag in tags
        )
        path = voc_folder / f"Annotations/image_{number}.xml"
        path.write_text(f"<annotation>{objects}</annotation>")
    options = dict(
        label_source="voc_xml",
        data_prefix=dict(img_path="JPEGImages", xml_path="Annotations"),
    )
    assert labels_of(by_mask(voc_folder, **options)) == TAGS
    easy = by_mask(voc_folder, use_difficult=False, **options)
    assert labels_of(easy) == [[tag for tag in tags if tag != 2] for tags in TAGS]

    (voc_folder / "Annotations/image_3.xml").unlink()
    with pytest.raises(FileNotFoundError, match=r"train\.txt:4.*image_3\.xml"):
        by_mask(voc_folder, **options)
    (voc_folder / "Annotations/image_3.xml").write_text("<annotation>")
    with pytest.raises(ValueError, match=r"image_3\.xml is not a VOC annotation"):
        by_mask(voc_folder, **options)


def test_voc_lists(voc_folder):
    main = voc_folder / "ImageSets/Main"
    main.mkdir()
    ids = [f"image_{number}" for number in range(6)]
    (main / "train.txt").write_text("\n".join(ids))
    for label, name in enumerate(CLASSES):
        shown = 0 if name == "stripe" else 1
        lines = [
            f"{image} {shown if label in tags else -1}"
            for image, tags in zip(ids, TAGS)
        ]
        (main / f"{name}_train.txt").write_text("\n".join(lines))
    options = dict(
        label_source="voc_list",
        ann_file="ImageSets/Main/train.txt",
        data_prefix=IMAGES,
    )
    assert labels_of(by_mask(voc_folder, **options)) == TAGS
    easy = by_mask(voc_folder, use_difficult=False, **options)
    assert labels_of(easy) == [[tag for tag in tags if tag != 2] for tags in TAGS]

    (main / "disc_train.txt").write_text("image_0 yes")
    with pytest.raises(ValueError, match=r"disc_train\.txt:1: expected"):
        by_mask(voc_folder, **options)
    (main / "disc_train.txt").write_text("image_0 1")
    with pytest.raises(ValueError, match=r"train\.txt:2.*disc_train\.txt"):
        by_mask(voc_folder, **options)
    (main / "disc_train.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"'disc'.*disc_train\.txt"):
        by_mask(voc_folder, **options)


def coco_content() -> dict:
    return dict(
        images=[dict(id=10 + n, file_name=f"image_{n}.jpg") for n in range(len(TAGS))],
        categories=[
            dict(id=9, name="stripe"),
            dict(id=1, name="disc"),
            dict(id=5, name="square"),
        ],
        annotations=[
            dict(id=100 + 10 * n + tag, image_id=10 + n, category_id=(1, 5, 9)[tag])
            for n, tags in enumerate(TAGS)
            for tag in tags
        ],
    )


def test_coco(voc_folder):
    """Whatever is wrong with such a file is in test_fileio/test_coco.py."""
    (voc_folder / "coco.json").write_text(json.dumps(coco_content()))
    options = dict(label_source="coco", ann_file="coco.json", data_prefix=IMAGES)
    dataset = by_mask(voc_folder, classes=None, **options)
    assert dataset.metainfo["classes"] == ("disc", "square", "stripe")
    assert labels_of(dataset) == TAGS
    assert dataset.get_data_info(2)["img_id"] == "image_2"


def test_csv(voc_folder):
    rows = [
        f"image_{number}.jpg,{'; '.join(CLASSES[tag] for tag in tags)}"
        for number, tags in enumerate(TAGS)
    ]
    dataset = by_csv(voc_folder, "\n".join(["image,labels", *rows]))
    assert labels_of(dataset) == TAGS
    assert dataset.get_data_info(4)["img_id"] == "image_4"


def test_an_image_without_tags_shows_nothing(voc_folder):
    dataset = by_csv(voc_folder, "image,labels\nimage_0.jpg,\nimage_1.jpg,disc\n")
    assert labels_of(dataset) == [[], [0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,labels\nimage_0.jpg,disc,square\n", r"tags\.csv:2: expected 2 fields"),
        ("image,labels\nimage_0.jpg,dics\n", r"tags\.csv:2: .*\['dics'\].*'disc'"),
        ("image,labels\n", "lists no image"),
        (
            "image,labels\nimage_0.jpg,disc\nimage_1.jpg,disc\nimage_0.jpg,disc\n",
            r"tags\.csv:4: .*image_0\.jpg.*listed before.*tags\.csv:2",
        ),
    ],
)
def test_wrong_csv(voc_folder, text, message):
    with pytest.raises(ValueError, match=message):
        by_csv(voc_folder, text)


def test_missing_images_are_counted_and_named(voc_folder):
    text = "image,labels\nimage_0.jpg,disc\nnone.jpg,disc\nnor_this.jpg,disc\n"
    message = r"img_path: 2 of 3 files do not exist:\n.*tags\.csv:3: .*none\.jpg\n"
    with pytest.raises(FileNotFoundError, match=message):
        by_csv(voc_folder, text)


def test_images_without_labels(voc_folder):
    for ann_file in ("ImageSets/Segmentation/train.txt", ""):
        options = dict(label_source="none", ann_file=ann_file, data_prefix=IMAGES)
        dataset = by_mask(voc_folder, **options)
        infos = [dataset.get_data_info(index) for index in range(len(dataset))]
        assert [info["img_id"] for info in infos] == [f"image_{n}" for n in range(6)]
        assert not any("gt_label" in info for info in infos)
    # own_images.py names a table of tags.
    with pytest.raises(ValueError, match=r"ann_file: .*not .*tags\.csv; ann_file=''"):
        by_mask(voc_folder, label_source="none", ann_file="tags.csv")


def test_truncated_image(voc_folder):
    path = voc_folder / "JPEGImages/image_2.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    by_mask(voc_folder)
    with pytest.raises(ValueError, match=r"1 of 6 images.*\n.*train\.txt:3: .*image_2"):
        by_mask(voc_folder, check="decode")
    path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 6 images .*read; .*:\n.*image_2"):
        by_mask(voc_folder)


def test_masks_that_do_not_fit(voc_folder):
    path = voc_folder / "SegmentationClass/image_2.png"
    save_label_png(np.zeros((40, 40), dtype=np.uint8), path)
    with pytest.raises(
        ValueError, match=r"1 of 6 masks.*\n.*train\.txt:3: .*\(40, 40\)"
    ):
        by_mask(voc_folder)
    save_label_png(np.full((40, 48), 4, dtype=np.uint8), path)
    with pytest.raises(ValueError, match=r"image_2\.png holds \[4\].*0\.\.3 and 255"):
        by_mask(voc_folder)
    Image.fromarray(np.zeros((40, 48, 3), dtype=np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"image_2\.png is no mask"):
        by_mask(voc_folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"seg_map_path: 1 of 6.*\n.*image_2"):
        by_mask(voc_folder)


def test_turned_camera(voc_folder):
    """A mask fits its image as the camera's orientation tag shows it."""
    path = voc_folder / "JPEGImages/image_0.jpg"
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(path, exif=exif)
    assert len(by_mask(voc_folder)) == 6


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(label_source="masks"), ValueError, "label_source must be 'mask', "),
        (dict(check="all"), ValueError, "check must be 'none', "),
        (dict(ann_file="none.txt"), FileNotFoundError, r"ann_file.*none\.txt"),
        (dict(classes=None), ValueError, "name the classes"),
        (dict(classes=["disc", "disc"]), ValueError, "occurs twice"),
        (dict(classes="names.txt"), FileNotFoundError, r"classes.*names\.txt"),
        (dict(data_prefix=IMAGES), ValueError, "seg_map_path: label"),
    ],
)
def test_wrong_fields(voc_folder, options, error, message):
    with pytest.raises(error, match=message):
        by_mask(voc_folder, **options)


def test_classes_from_a_file(voc_folder):
    (voc_folder / "names.txt").write_text("disc\nsquare\nstripe\n")
    assert labels_of(by_mask(voc_folder, classes="names.txt")) == TAGS


@pytest.mark.slow
def test_mini_voc(mini_voc):
    """The classes in the masks of mini_voc, counted as its description does."""
    counts = np.zeros(20, dtype=int)
    for split, images in (("train", 1149), ("val", 150)):
        dataset = by_mask(
            mini_voc,
            ann_file=f"ImageSets/Segmentation/{split}.txt",
            classes=[str(number) for number in range(20)],
        )
        assert len(dataset) == images
        for labels in labels_of(dataset):
            counts[labels] += 1
    # Of 1,449 official images the description counts 446 persons and 84 trains.
    assert counts[14] > 350
    assert 60 < counts[18] <= 84
