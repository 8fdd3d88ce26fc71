"""Masks for review, and masks without what was rejected."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from mmwood.converters.excluded_masks import exclude_masks, read_exclusions
from mmwood.converters.mask_review import AREA, make_mask_review, open_masks
from mmwood.fileio.candidates import read_manifest
from mmwood.fileio.files import read_json, write_json
from mmwood.fileio.label_folder import (
    PREDICTIONS,
    PSEUDO_LABELS,
    LabelFolder,
    load_score_maps,
    save_score_maps,
)
from mmwood.fileio.labels import BIASED, VOID, read_label_png, save_label_png
from mmwood.ood.review.decisions import Review

CLASSES = ["disc", "square", "stripe"]


@pytest.fixture
def labels(score_folder: Path, voc_folder: Path) -> Path:
    """A folder of pseudo labels with score maps."""
    shutil.copytree(voc_folder / "SegmentationClass", score_folder / "labels")
    return score_folder


@pytest.fixture
def images(voc_folder: Path) -> Path:
    return voc_folder / "JPEGImages"


def make(labels: Path, images: Path, out: Path, **options):
    return make_mask_review(open_masks(labels), images, out, **options)


def rows_of(path: Path) -> dict[tuple[str, str], object]:
    return {
        (Path(row.image).stem, row.class_name): row for _, row in read_manifest(path)
    }


def decide(path: Path, state: str, *keys: tuple[str, str]) -> None:
    review = Review(path)
    place = {
        (Path(image).stem, review.classes[number]): row
        for row, (image, number) in enumerate(zip(review.images, review.class_of))
    }
    review.decide([place[key] for key in keys], state)
    review.close()


def test_a_row_for_each_class_the_least_confident_first(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    made = make(labels, images, out)
    assert made[1:] == ("mean score of its own maps", 0, 0, 0)
    expected = {}
    for path in sorted((labels / "labels").glob("*.png")):
        label = np.array(Image.open(path))
        maps = load_score_maps(labels / f"scores/{path.stem}.npz")
        for number, score in zip(maps.classes, maps.full):
            value = score.astype(np.float64)[label == number + 1].mean()
            expected[path.stem, CLASSES[number]] = value
    found = rows_of(out)
    assert found.keys() == expected.keys()
    for key, row in found.items():
        assert row.probability == pytest.approx(expected[key], abs=1e-5)
        assert row.state == "unseen"
    order = [row.probability for row in found.values()]
    assert order == sorted(order)
    for name in CLASSES:
        ranks = [row.rank for row in found.values() if row.class_name == name]
        assert ranks == list(range(1, len(ranks) + 1))
    for (_, row), drawn in zip(read_manifest(out), made.rows):
        assert drawn.label.stem == Path(row.image).stem
        assert CLASSES[drawn.value - 1] == row.class_name


def test_strided_maps_are_enlarged(labels, images, tmp_path):
    for path in (labels / "scores").glob("*.npz"):
        maps = load_score_maps(path)
        maps.full = None
        save_score_maps(path, maps)
    # A region between the points of the grid.
    path = next((labels / "labels").glob("*.png"))
    label = read_label_png(path)
    value = int(label[10, 10])
    label[label == value] = 0
    label[10, 10] = value
    save_label_png(label, path)
    make(labels, images, tmp_path / "review.csv")
    row = rows_of(tmp_path / "review.csv")[path.stem, CLASSES[value - 1]]
    maps = load_score_maps(labels / f"scores/{path.stem}.npz")
    grid = maps.strided[maps.classes.tolist().index(value - 1)].astype(np.float32)
    expected = cv2.resize(grid, label.shape[::-1])[10, 10]
    assert row.probability == pytest.approx(float(expected), abs=1e-5)


def test_without_scores_it_is_the_area_and_other_maps_can_be_named(
    labels, images, tmp_path
):
    plain = tmp_path / "plain"
    shutil.copytree(labels / "labels", plain)
    out = tmp_path / "review.csv"
    masks = open_masks(plain, CLASSES)
    assert make_mask_review(masks, images, out).confidence == AREA
    assert read_json(tmp_path / "review.json")["confidence"] == AREA
    (name, class_name), row = next(iter(rows_of(out).items()))
    label = read_label_png(plain / f"{name}.png")
    value = CLASSES.index(class_name) + 1
    assert row.probability == pytest.approx((label == value).mean(), abs=1e-6)
    made = make_mask_review(masks, images, out, scores=labels)
    assert made.confidence == f"mean score of {labels}"
    assert min(row.probability for row in rows_of(out).values()) > 0.5
    with pytest.raises(FileNotFoundError, match="--scores"):
        make_mask_review(masks, images, out, scores=plain)
    (labels / f"scores/{name}.npz").unlink()
    with pytest.raises(FileNotFoundError, match=f"{name}.npz"):
        make_mask_review(masks, images, out, scores=labels)


def make_predictions(labels: Path, out: Path, classes: list[str]) -> Path:
    """As tools/predict.py leaves them."""
    folder = LabelFolder(out)
    first = int(classes[0] == "background")
    count = 0
    for path in sorted((labels / "labels").glob("*.png")):
        label = read_label_png(path)
        label[label == VOID] = 0
        if not first:
            label = np.maximum(label, 1) - 1
        values, pixels = np.unique(label, return_counts=True)
        table = [
            dict(label=int(v), pixels=int(n), instances=1, confidence=0.9 - int(v) / 10)
            for v, n in zip(values, pixels)
        ]
        write_json(folder.table(path.stem), dict(image=path.stem, classes=table))
        save_label_png(label, folder.label(path.stem))
        count += 1
    folder.finish(dict(format=PREDICTIONS, classes=classes), count)
    return out


def test_predictions_have_the_probability_of_their_tables(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    names = ["background", *CLASSES]
    predicted = make_predictions(labels, tmp_path / "predicted", names)
    assert make(predicted, images, out).confidence == "mean probability"
    found = rows_of(out)
    assert {name for _, name in found} == {*CLASSES}
    for (_, name), row in found.items():
        assert row.probability == pytest.approx(0.8 - CLASSES.index(name) / 10)
    image_id = next(iter(found))[0]
    label = read_label_png(predicted / f"labels/{image_id}.png")
    label[label > 0] = 0
    label[0, 0] = 1
    save_label_png(label, predicted / f"labels/{image_id}.png")
    with pytest.raises(ValueError, match=f"{image_id}.json is not of .* changed since"):
        make(predicted, images, out)


def test_a_network_without_background_has_a_class_at_zero(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    predicted = make_predictions(labels, tmp_path / "predicted", CLASSES)
    make(predicted, images, out)
    key = next(key for key in rows_of(out) if key[1] == "disc")
    decide(out, "rejected", key)
    exclude_masks(predicted, out, tmp_path / "out")
    before = read_label_png(predicted / f"labels/{key[0]}.png")
    after = read_label_png(tmp_path / f"out/labels/{key[0]}.png")
    assert (after[before == 0] == VOID).all()
    assert (after[before != 0] == before[before != 0]).all()
    assert read_json(tmp_path / "out/manifest.json")["format"] == PREDICTIONS


def test_decisions_stay_where_masks_have_not_changed(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    make(labels, images, out)
    two, other = ("image_1", "square"), ("image_1", "stripe")
    assert {two, other} <= rows_of(out).keys()
    decide(out, "rejected", two)
    decide(out, "kept", other)
    assert make(labels, images, out).changed == 0
    assert rows_of(out)[two].state == "rejected"
    before = out.read_bytes()
    path = labels / "labels/image_1.png"
    label = read_label_png(path)
    label[label == 2] = 0
    label[0, 0] = 2
    save_label_png(label, path)
    with pytest.raises(ValueError, match=r"1 decisions .*\n  .*image_1.jpg: square$"):
        make(labels, images, out)
    assert out.read_bytes() == before
    with pytest.raises(ValueError, match=r"1 rejected masks have changed"):
        exclude_masks(labels, out, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    # The other class of the image is as it was.
    assert make(labels, images, out, update=True).changed == 1
    assert rows_of(out)[two].state == "unseen"
    assert rows_of(out)[other].state == "kept"


def test_rejected_classes_become_void_and_images_leave(labels, images, tmp_path):
    out, target = tmp_path / "review.csv", tmp_path / "reviewed"
    make(labels, images, out)
    decide(out, "rejected", ("image_1", "square"), ("image_0", "disc"))
    decide(out, "kept", ("image_1", "stripe"))
    files = {path: path.read_bytes() for path in labels.rglob("*") if path.is_file()}
    found = exclude_masks(labels, out, target)
    assert found.leave == ["image_0"]
    assert found.wrong == {"image_1": ["square"]}
    assert found.unseen == len(rows_of(out)) - 3
    names = sorted(path.stem for path in (labels / "labels").iterdir())
    assert (target / "images.txt").read_text().split() == names[1:]
    for name in names:
        before = read_label_png(labels / f"labels/{name}.png")
        after = read_label_png(target / f"labels/{name}.png")
        expected = before.copy()
        if name == "image_0":
            expected[:] = VOID
        if name == "image_1":
            expected[before == 2] = VOID
        assert (after == expected).all()
    assert {path: path.read_bytes() for path in files} == files
    manifest = LabelFolder(target).require(
        dict(format=PSEUDO_LABELS, classes=CLASSES), "", ""
    )
    assert manifest["labels"] == str(labels)
    assert manifest["leave"] == ["image_0"]
    assert manifest["wrong"] == {"image_1": ["square"]}
    # The same again; and of another review not over it.
    exclude_masks(labels, out, target)
    decide(out, "rejected", ("image_1", "stripe"))
    with pytest.raises(ValueError, match="another exclude_sha256"):
        exclude_masks(labels, out, target)
    assert exclude_masks(labels, out, tmp_path / "b").leave == ["image_0", "image_1"]


def test_a_class_that_came_since_keeps_its_image(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    make(labels, images, out)
    decide(out, "rejected", ("image_0", "disc"))
    path = labels / "labels/image_0.png"
    label = read_label_png(path)
    label[-1, -1] = 3
    save_label_png(label, path)
    found = read_exclusions(out, open_masks(labels))
    assert found.leave == []
    assert found.wrong == {"image_0": ["disc"]}


def test_the_list_of_a_training_is_cut(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    make(labels, images, out)
    decide(out, "rejected", ("image_0", "disc"))
    listed = tmp_path / "train.txt"
    listed.write_text("image_2\nimage_0\n")
    exclude_masks(labels, out, tmp_path / "a", listed)
    assert (tmp_path / "a/images.txt").read_text() == "image_2\n"
    listed.write_text("image_2.jpg\n")
    with pytest.raises(ValueError, match=r"train.txt:1: image_2.jpg$"):
        exclude_masks(labels, out, tmp_path / "b", listed)
    listed.write_text("image_0\n")
    with pytest.raises(ValueError, match="none is left"):
        exclude_masks(labels, out, tmp_path / "b", listed)
    assert not (tmp_path / "b").exists()


def test_removed_pixels_are_no_class_and_stay(labels, images, tmp_path):
    path = labels / "labels/image_0.png"
    label = read_label_png(path)
    label[6, 6] = BIASED
    save_label_png(label, path)
    out = tmp_path / "review.csv"
    # Of a folder that no filter made they are a fault.
    with pytest.raises(ValueError, match=r"image_0.png holds \[254\]"):
        make(labels, images, out)
    manifest = json.loads((labels / "manifest.json").read_text())
    write_json(labels / "manifest.json", dict(manifest, biased=BIASED))
    make(labels, images, out)
    decide(out, "rejected", ("image_1", "square"))
    exclude_masks(labels, out, tmp_path / "out")
    assert read_label_png(tmp_path / "out/labels/image_0.png")[6, 6] == BIASED
    assert LabelFolder(tmp_path / "out").holds_biased


def test_images_in_folders_and_masks_of_nothing(tmp_path):
    rng = np.random.default_rng(0)
    for name in ("a/1", "b/1"):
        path = tmp_path / f"images/{name}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 9, (8, 8, 3), dtype=np.uint8)).save(path)
        label = np.zeros((8, 8), dtype=np.uint8)
        label[: 4 * (name == "a/1")] = 1
        save_label_png(label, tmp_path / f"masks/{name}.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "images/c.png")
    out = tmp_path / "review.csv"
    masks = open_masks(tmp_path / "masks", ["disc"])
    made = make_mask_review(masks, tmp_path / "images", out)
    assert made[2:] == (1, 1, 0)
    decide(out, "rejected", ("1", "disc"))
    found = exclude_masks(tmp_path / "masks", out, tmp_path / "out")
    assert found.leave == ["a/1"]
    assert (tmp_path / "out/images.txt").read_text() == "b/1\n"


def test_what_is_wrong_is_named(labels, images, tmp_path):
    out = tmp_path / "review.csv"
    with pytest.raises(FileNotFoundError, match="LABELS: there is no folder"):
        open_masks(tmp_path / "none")
    plain = shutil.copytree(labels / "labels", tmp_path / "plain")
    with pytest.raises(ValueError, match="255 classes"):
        open_masks(plain, [str(number) for number in range(255)])
    with pytest.raises(ValueError, match=r"must be a \.csv"):
        make(labels, images, tmp_path / "review.txt")
    out.write_text("image\n")
    with pytest.raises(FileExistsError, match="of no review of masks"):
        make(labels, images, out)
    out.unlink()
    write_json(tmp_path / "review.json", dict(format="mining"))
    with pytest.raises(FileExistsError, match=r"review\.json is there"):
        make(labels, images, out)
    (tmp_path / "review.json").unlink()
    with pytest.raises(FileNotFoundError, match="--exclude: there is no file"):
        exclude_masks(labels, out, tmp_path / "out")
    make(labels, images, out)
    with pytest.raises(ValueError, match=r"--out: .* holds the masks"):
        exclude_masks(labels, out, labels)
    decide(out, "rejected", *rows_of(out))
    with pytest.raises(ValueError, match="none is left"):
        exclude_masks(labels, out, tmp_path / "out")
    review = Review(out)
    review.decide([0], "kept")
    with pytest.raises(ValueError, match="--out: another process"):
        make(labels, images, out)
    with pytest.raises(ValueError, match="lacks 1 decisions"):
        exclude_masks(labels, out, tmp_path / "out")
    review.close()
    manifest = json.loads((labels / "manifest.json").read_text())
    write_json(labels / "manifest.json", dict(manifest, classes=["a", "b", "c"]))
    with pytest.raises(ValueError, match=r"those in .* are of"):
        exclude_masks(labels, out, tmp_path / "out")
    write_json(labels / "manifest.json", dict(manifest, complete=False))
    with pytest.raises(ValueError, match="is not complete"):
        make(labels, images, out)
    about = read_json(tmp_path / "review.json")
    write_json(tmp_path / "review.json", dict(about, more=1))
    with pytest.raises(ValueError, match=r"review\.json is damaged"):
        exclude_masks(labels, out, tmp_path / "out")
