"""PASCAL-B from small LVIS and COCO files: what is read, chosen, drawn and scored."""

import copy
import csv
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from PIL import Image

from mmwood.converters.pascal_b.annotations import (
    CLASS_TABLE,
    Item,
    Scene,
    read_annotations,
    read_class_table,
)
from mmwood.converters.pascal_b.build import build
from mmwood.converters.pascal_b.choice import LEFT_OUT, choose_images, find_candidates
from mmwood.converters.pascal_b.drawing import count_instances, draw_review, draw_scene
from mmwood.converters.pascal_b.review import REVIEW
from mmwood.evaluation import IAIoUMetric
from mmwood.fileio.candidates import Candidate, read_manifest, write_manifest
from mmwood.fileio.files import file_sha256
from mmwood.fileio.journal import journal_path
from mmwood.ood.review.decisions import Review

REPOSITORY = Path(__file__).parents[2]
TABLE = read_class_table()
SIZE = (60, 80)
LIMITS = (60, 300)


def rectangle(x: int, y: int, width: int, height: int) -> list[list[float]]:
    """A polygon of exactly these pixels."""
    right, below = x + width, y + height
    return [[x, y, right, y, right, below, x, below]]


def category_ids(source: str) -> dict[str, int]:
    names = ["other", *TABLE.labels[source]]
    return {name: number for number, name in enumerate(names, start=10)}


def annotation_file(
    path: Path, source: str, images: dict[int, list[tuple]], **fields: dict
) -> Path:
    """An annotation file.

    Args:
        images: Of each image id, its annotations: category name, rectangle
            (x, y, width, height), and perhaps whether it is a crowd.
        fields: Of ``image_ID``, more fields of the image.
    """
    ids = category_ids(source)
    content = dict(
        info={},
        images=[],
        annotations=[],
        categories=[dict(id=number, name=name) for name, number in ids.items()],
    )
    for image_id, annotations in images.items():
        image = dict(id=image_id, height=SIZE[0], width=SIZE[1])
        name = f"{image_id:06d}.jpg"
        image["coco_url"] = f"http://images.cocodataset.org/val2017/{name}"
        if source == "coco":
            image["file_name"] = name
        else:
            image |= dict(neg_category_ids=[10], not_exhaustive_category_ids=[])
        content["images"].append(image | fields.get(f"image_{image_id}", {}))
        for name, box, *crowd in annotations:
            content["annotations"].append(
                dict(
                    id=len(content["annotations"]) + 1,
                    image_id=image_id,
                    category_id=ids[name],
                    segmentation=rectangle(*box),
                    area=float(box[2] * box[3]),
                    iscrowd=int(bool(crowd)),
                )
            )
    path.write_text(json.dumps(content))
    return path


def random_images(count: int, seed: int = 0, crowds: bool = True) -> dict:
    """Images of COCO with up to six rectangles of the classes and of others."""
    rng = np.random.default_rng(seed)
    names = ["other", *TABLE.labels["coco"]]
    images = {}
    for number in range(1, count + 1):
        images[number] = []
        for _ in range(rng.integers(0, 7)):
            width, height = rng.integers(2, 40, size=2).tolist()
            x = int(rng.integers(0, SIZE[1] - width))
            y = int(rng.integers(0, SIZE[0] - height))
            item = (names[rng.integers(len(names))], (x, y, width, height))
            images[number].append((*item, True) if rng.random() < 0.1 else item)
    return images


def scene(*items: Item, size: tuple[int, int] = SIZE) -> Scene:
    return Scene("a.jpg", "", size, "file: images[0]", list(items))


def item(label: int, box: tuple, category: int | None = None, **fields) -> Item:
    category = label if category is None else category
    area = box[2] * box[3]
    return Item(label, category, rectangle(*box), area, fields.get("crowd", False))


def test_the_table_has_the_classes_of_voc():
    config = REPOSITORY / "configs/_base_/datasets/voc_classes.py"
    assert list(TABLE.names) == Config.fromfile(config).classes
    assert set(TABLE.labels["coco"].values()) == set(range(1, 21))
    # LVIS has no potted plants.
    of_lvis = set(TABLE.labels["lvis"].values())
    assert set(range(1, 21)) - of_lvis == {TABLE.names.index("pottedplant") + 1}
    with open(CLASS_TABLE, newline="") as file:
        for row in csv.DictReader(file):
            label = TABLE.labels[row["source"]][row["category"]]
            assert TABLE.names[label - 1] == row["class"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "class,source\n",
            ":1: the header must name each of the columns 'class', 'source'",
        ),
        ("class,source,category\ncat,lvis\n", ":2: expected 3 fields as in the header"),
        ("class,source,category\ncat,voc,cat\n", ":2: expected a class, lvis or coco"),
        ("class,source,category\na,coco,x\nb,coco,x\n", ":3: coco 'x' has a class"),
        ("class,source,category\n", "names 0 classes"),
    ],
)
def test_faulty_tables(text, message, tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_class_table(path)
    with pytest.raises(FileNotFoundError, match="class_table: there is no file"):
        read_class_table(tmp_path / "none.csv")


def test_reads_what_json_load_reads(tmp_path):
    images = random_images(30)
    path = annotation_file(tmp_path / "coco.json", "coco", images)
    scenes = read_annotations(path, TABLE.labels["coco"])
    content = json.loads(path.read_text())
    names = {entry["id"]: entry["name"] for entry in content["categories"]}
    assert list(scenes) == [entry["id"] for entry in content["images"]]
    for image in content["images"]:
        found = scenes[image["id"]]
        assert (found.name, found.folder) == (image["file_name"], "val2017")
        assert found.size == SIZE
        expected = [
            (TABLE.labels["coco"][names[a["category_id"]]], a["area"], a["iscrowd"])
            for a in content["annotations"]
            if a["image_id"] == image["id"] and names[a["category_id"]] != "other"
        ]
        assert [(i.label, i.area, i.crowd) for i in found.items] == expected
    polygons = [a["segmentation"] for a in content["annotations"]]
    kept = [list(map(list, i.segmentation)) for s in scenes.values() for i in s.items]
    assert kept
    assert all(polygon in polygons for polygon in kept)


def test_polygons_without_three_points_have_no_pixel(tmp_path):
    images = {1: [("cat", (1, 1, 4, 4)), ("dog", (9, 9, 4, 4))]}
    path = annotation_file(tmp_path / "coco.json", "coco", images)
    content = json.loads(path.read_text())
    # Four numbers are a box to pycocotools.
    content["annotations"][0]["segmentation"].append([20.0, 20.0, 9.0, 9.0])
    content["annotations"][1]["segmentation"] = [[20.0, 20.0, 9.0, 9.0]]
    path.write_text(json.dumps(content))
    found = read_annotations(path, TABLE.labels["coco"])[1]
    assert len(found.items) == 1
    assert (draw_scene(found)[0] > 0).sum() == 16


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("images", dict(height=None), "images[1] (id 2): height and width are (None"),
        ("images", dict(height=0), "height and width are (0, 80)"),
        ("annotations", dict(segmentation=[[1, 2, 3, 4, 5]]), "an odd number"),
        ("annotations", dict(segmentation=[["x"]]), "neither polygons nor run lengths"),
        ("annotations", dict(segmentation="x"), "neither polygons nor run lengths"),
        ("annotations", dict(area="large"), "annotations[1] (id 2): area is 'large'"),
        ("categories", dict(name="nothing"), "there are no categories ['airplane']"),
    ],
)
def test_faulty_entries_are_named(part, change, message, tmp_path):
    images = {1: [("cat", (0, 0, 9, 9))], 2: [("dog", (0, 0, 9, 9))]}
    path = annotation_file(tmp_path / "coco.json", "coco", images)
    content = json.loads(path.read_text())
    content[part][1] |= change
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        read_annotations(path, TABLE.labels["coco"])
    assert str(path) in str(caught.value)


def slow_maps(found: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Pixel by pixel: class, and number by area of the smallest instance there."""
    boxes = []
    for place, each in enumerate(found.items):
        x, y, right, _, _, below, *_ = each.segmentation[0]
        boxes.append((each.crowd, each.area, place, (x, y, right, below), each.label))
    boxes.sort(key=lambda box: box[:3])
    classes = np.zeros(found.size, dtype=int)
    ids = np.zeros_like(classes)
    for y, x in np.ndindex(classes.shape):
        for number, (crowd, _, _, (x0, y0, x1, y1), label) in enumerate(boxes, 1):
            if x0 <= x < x1 and y0 <= y < y1:
                classes[y, x] = 255 if crowd else label
                ids[y, x] = 255 if crowd else number
                break
    return classes, ids


BOXES = st.tuples(
    st.integers(1, 3),
    st.integers(0, 6),
    st.integers(0, 6),
    st.integers(1, 6),
    st.integers(1, 6),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(BOXES, max_size=7))
def test_drawn_as_the_slow_reference_draws(boxes):
    items = [item(label, box, crowd=crowd) for label, *box, crowd in boxes]
    found = scene(*items, size=(12, 12))
    classes, ids = draw_scene(found)
    assert classes.dtype == ids.dtype == np.uint8
    expected = slow_maps(found)
    np.testing.assert_array_equal(classes, expected[0])
    np.testing.assert_array_equal(ids, expected[1])


@pytest.mark.parametrize(("count", "dtype"), [(254, np.uint8), (255, np.uint16)])
def test_many_instances_need_sixteen_bits(count, dtype):
    places = [(3 * (n % 20), 3 * (n // 20)) for n in range(count)]
    items = [item(1 + n % 20, (x, y, 2, 2)) for n, (x, y) in enumerate(places)]
    items.append(item(2, (58, 56, 2, 2), crowd=True))
    classes, ids = draw_scene(scene(*items))
    assert ids.dtype == dtype
    # 255 is void only.
    assert ((ids == 255) == (classes == 255)).all()
    numbers = [*range(1, 255), 256][:count]
    assert sorted(set(np.unique(ids).tolist()) - {0, 255}) == numbers
    counts = count_instances(classes, ids, 20, (4, 5))
    assert counts.sum() == counts[:, 1].sum() == count


def test_an_object_that_is_named_twice_is_drawn_once():
    bird = item(3, (5, 5, 20, 20), category=1)
    duck = item(3, (5, 5, 20, 19), category=2)
    twin = item(3, (5, 5, 20, 19), category=1)
    other = item(4, (5, 5, 20, 19), category=3)
    far = item(3, (40, 5, 20, 19), category=2)
    for items, count in (
        ((bird, duck), 1),
        ((bird, duck, far), 2),
        ((bird, twin), 2),
        ((bird, other), 2),
    ):
        ids = draw_scene(scene(*items))[1]
        assert len(np.unique(ids)) - 1 == count
    np.testing.assert_array_equal(
        draw_scene(scene(bird, duck))[0], draw_scene(scene(bird))[0]
    )


def test_lvis_and_coco_together(tmp_path):
    cat, plant = ("cat", (1, 1, 9, 9)), ("potted plant", (30, 30, 9, 9))
    kitten = ("kitten", (1, 1, 9, 9))
    ids = category_ids("lvis")
    lvis = annotation_file(
        tmp_path / "lvis.json",
        "lvis",
        {
            1: [kitten],
            2: [("cat", (1, 1, 9, 9)), ("dog", (20, 1, 9, 9))],
            3: [cat],
            4: [cat],
            5: [("other", (1, 1, 9, 9))],
            6: [cat],
            7: [],
        },
        image_2=dict(not_exhaustive_category_ids=[ids["puppy"]]),
        # What is no class may be incomplete.
        image_3=dict(not_exhaustive_category_ids=[ids["other"]]),
    )
    coco = annotation_file(
        tmp_path / "coco.json",
        "coco",
        {
            # A plant is added; COCO's cat is not, LVIS has it.
            1: [plant, ("cat", (1, 1, 30, 30))],
            2: [],
            3: [],
            # A horse that LVIS does not know of.
            4: [("horse", (20, 1, 9, 9))],
            5: [],
            7: [plant],
            9: [cat],
        },
    )
    parts = [
        read_annotations(path, TABLE.labels[key])
        for path, key in ((lvis, "lvis"), (coco, "coco"))
    ]
    before = copy.deepcopy(parts)
    kept, left_out = find_candidates(*parts, TABLE)
    assert parts == before
    labels = {name: n for n, name in enumerate(TABLE.names, start=1)}
    found = {int(s.stem): [i.label for i in s.items] for s in kept}
    plant_label = labels["pottedplant"]
    assert found == {
        1: [labels["cat"], plant_label],
        3: [labels["cat"]],
        7: [plant_label],
    }
    assert kept[0].items[0].area == 81
    assert left_out == dict.fromkeys(set(LEFT_OUT) - {"excluded"}, 1)

    # LVIS alone is believed, and COCO alone has all classes.
    alone, left_out = find_candidates(parts[0], {}, TABLE)
    assert [int(s.stem) for s in alone] == [1, 3, 4, 6]
    assert left_out == dict(partial=1, empty=2, coco_only=0)
    alone, left_out = find_candidates({}, parts[1], TABLE)
    assert [int(s.stem) for s in alone] == [1, 4, 7, 9]
    assert left_out == dict(empty=3, coco_only=0)

    parts[1][1].size = (1, 2)
    with pytest.raises(
        ValueError, match=r"lvis.*images\[0\] \(id 1\) has .* the same image"
    ):
        find_candidates(*parts, TABLE)


def test_crowds_alone_make_no_candidate(tmp_path):
    path = annotation_file(
        tmp_path / "coco.json", "coco", {1: [("cat", (1, 1, 9, 9), True)]}
    )
    scenes = read_annotations(path, TABLE.labels["coco"])
    assert find_candidates({}, scenes, TABLE)[0] == []


def test_an_even_choice_is_found():
    # 30 images for each cell, and 100 crowded ones that spoil it.
    single = np.repeat(np.eye(6, dtype=int), 30, axis=0)
    crowded = np.zeros((100, 6), dtype=int)
    crowded[:, 0] = 20
    crowded[:, 1] = 1
    counts = np.concatenate([crowded, single])
    chosen = choose_images(counts, 120, seed=3)
    assert len(set(chosen)) == 120
    total = counts[chosen].sum(axis=0)
    at_random = counts[np.random.default_rng(0).permutation(len(counts))[:120]]
    assert total.max() <= 2 * total.min()
    assert at_random.sum(axis=0).max() > 20 * at_random.sum(axis=0).min()
    assert choose_images(counts, 120, seed=3) == chosen
    assert choose_images(counts, 120, seed=4) != chosen
    # Where only single ones are there, it is even to the last image.
    total = single[choose_images(single, 120, seed=0)].sum(axis=0)
    assert total.tolist() == [20] * 6


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 40), st.integers(1, 50), st.integers(0, 5))
def test_a_choice_is_a_set_of_images_with_instances(images, number, seed):
    rng = np.random.default_rng(seed)
    counts = rng.poisson(0.3, (images, 5))
    chosen = choose_images(counts, number, seed)
    useful = np.flatnonzero(counts.any(axis=1))
    assert len(chosen) == len(set(chosen)) == min(number, len(useful))
    assert set(chosen) <= set(useful.tolist())


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(0, 5), st.data())
def test_a_choice_stays_but_for_what_is_rejected(number, seed, data):
    counts = np.random.default_rng(seed).poisson(0.4, (60, 5))
    useful = set(np.flatnonzero(counts.any(axis=1)).tolist())
    new = chosen = set(choose_images(counts, number, seed))
    rejected = set()
    # As people do: each round they look at what is new.
    while new:
        bad = data.draw(st.sets(st.sampled_from(sorted(new))))
        rejected |= bad
        after = choose_images(counts, number, seed, rejected)
        assert len(set(after)) == len(after) == min(number, len(useful - rejected))
        assert chosen - bad <= set(after) <= useful - rejected
        if not bad:
            assert set(after) == chosen
        new, chosen = set(after) - chosen, set(after)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A COCO file of 40 images, which lie beside it in val2017/."""
    path = annotation_file(tmp_path / "coco.json", "coco", random_images(40))
    (tmp_path / "val2017").mkdir()
    for number in range(1, 41):
        picture = np.full((*SIZE, 3), number, dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / f"val2017/{number:06d}.jpg")
    return path


def make(tmp_path: Path, folder: str, source: Path, **fields) -> dict:
    fields = dict(coco=[source], number=25, size_limits=LIMITS) | fields
    return build(tmp_path / folder, **fields)


def test_a_build_is_a_voc_folder(source, tmp_path):
    root = tmp_path / "b"
    record = make(tmp_path, "b", source, images=tmp_path, place="copy")
    assert record["complete"]
    assert json.loads((root / "pascal_b.json").read_text()) == record
    names = (root / "ImageSets/Segmentation/val.txt").read_text().splitlines()
    assert len(names) == len(record["images"]) == 25
    assert names == sorted(names)
    scenes = read_annotations(source, TABLE.labels["coco"])
    expected = np.zeros((20, 3), dtype=int)
    shown = np.zeros(20, dtype=int)
    for name in names:
        maps = []
        for folder in ("SegmentationClass", "SegmentationObject"):
            with Image.open(root / folder / f"{name}.png") as image:
                assert image.mode == "P"
                assert image.getpalette()[3:6] == [128, 0, 0]
                maps.append(np.array(image))
        for found, slow in zip(maps, slow_maps(scenes[int(name)])):
            np.testing.assert_array_equal(found, slow)
        cells = set()
        for number in set(np.unique(maps[1]).tolist()) - {0, 255}:
            labels = maps[0][maps[1] == number]
            assert len(set(labels.tolist())) == 1
            cells.add(labels[0] - 1)
            area = len(labels)
            expected[labels[0] - 1, (area >= LIMITS[0]) + (area >= LIMITS[1])] += 1
        shown[list(cells)] += 1
        with Image.open(root / f"JPEGImages/{name}.jpg") as image:
            assert image.size == SIZE[::-1]
    with open(root / "counts.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["class", "small", "medium", "large", "instances", "images"]
    table = np.array([row[1:] for row in rows[1:]], dtype=int)
    assert [row[0] for row in rows[1:]] == list(TABLE.names)
    np.testing.assert_array_equal(table[:, :3], expected)
    np.testing.assert_array_equal(table[:, 3], expected.sum(axis=1))
    np.testing.assert_array_equal(table[:, 4], shown)
    annotated = sum(not i.crowd for name in names for i in scenes[int(name)].items)
    assert record["not_drawn"] == annotated - expected.sum()


def test_again_is_the_same_and_damage_is_repaired(source, tmp_path, hashes):
    make(tmp_path, "b", source, images=tmp_path, place="copy")
    whole = hashes(tmp_path / "b")
    make(tmp_path, "other", source, images=tmp_path, place="copy")
    assert hashes(tmp_path / "other") == whole
    maps = sorted((tmp_path / "b/SegmentationClass").iterdir())
    kept = maps[5].stat().st_mtime_ns
    os.truncate(maps[0], 60)
    os.truncate(maps[1], 0)
    maps[2].unlink()
    image = tmp_path / "b/JPEGImages" / maps[3].with_suffix(".jpg").name
    os.truncate(image, 10)
    (maps[0].parent / ".tmp-half.png").write_bytes(b"half")
    # As if the process had died before the end.
    manifest = tmp_path / "b/pascal_b.json"
    unfinished = json.loads(manifest.read_text()) | dict(complete=False)
    manifest.write_text(json.dumps(unfinished))
    (tmp_path / "b/ImageSets/Segmentation/val.txt").unlink()
    make(tmp_path, "b", source, images=tmp_path, place="copy")
    assert hashes(tmp_path / "b") == whole
    assert maps[5].stat().st_mtime_ns == kept


def test_another_build_is_not_mixed_in(source, tmp_path, hashes):
    make(tmp_path, "b", source)
    first = hashes(tmp_path / "b")
    make(tmp_path, "b", source)
    for fields, name in (
        (dict(seed=1), "seed"),
        (dict(number=9), "number"),
        (dict(size_limits=(5, 6)), "size_limits"),
    ):
        with pytest.raises(ValueError, match=f"was made with another {name} "):
            make(tmp_path, "b", source, **fields)
    assert hashes(tmp_path / "b") == first
    make(tmp_path, "b", source, number=9, seed=5, force=True)
    make(tmp_path, "fresh", source, number=9, seed=5)
    assert hashes(tmp_path / "b") == hashes(tmp_path / "fresh")

    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds something else \(no pascal_b\.json"):
        make(tmp_path, "full", source, force=True)
    record = json.loads((tmp_path / "b/pascal_b.json").read_text())
    for key in ("parameters", "images"):
        rest = {name: value for name, value in record.items() if name != key}
        (tmp_path / "b/pascal_b.json").write_text(json.dumps(rest))
        with pytest.raises(ValueError, match=rf"b\.json is damaged, it has no {key}:"):
            make(tmp_path, "b", source, force=True)
    (tmp_path / "b/pascal_b.json").write_text("{}")
    with pytest.raises(ValueError, match=r"no pascal_b\.json of this data set"):
        make(tmp_path, "b", source, force=True)


def test_links_and_copies_change_places(source, tmp_path):
    fields = dict(images=tmp_path / "val2017", number=3)
    make(tmp_path, "b", source, place="link", **fields)
    links = sorted((tmp_path / "b/JPEGImages").iterdir())
    assert len(links) == 3
    assert all(
        path.is_symlink() and path.resolve() == tmp_path / "val2017" / path.name
        for path in links
    )
    make(tmp_path, "b", source, place="copy", **fields)
    for path in links:
        assert not path.is_symlink()
        original = (tmp_path / "val2017" / path.name).read_bytes()
        assert path.read_bytes() == original
    make(tmp_path, "b", source, place="link", **fields)
    assert all(path.is_symlink() for path in links)
    assert len(list((tmp_path / "b/JPEGImages").iterdir())) == 3


def test_rejected_images_are_left_out(source, tmp_path):
    first = make(tmp_path, "b", source)
    rejected = [first["images"][0], Path(first["images"][1]).stem]
    (tmp_path / "no.txt").write_text("\n".join(rejected) + "\n\n")
    second = make(tmp_path, "c", source, exclude=tmp_path / "no.txt", number=99)
    assert not {Path(n).stem for n in rejected} & {
        Path(n).stem for n in second["images"]
    }
    assert second["left_out"][LEFT_OUT["excluded"]] == 2
    assert len(second["images"]) == second["candidates"] == first["candidates"] - 2
    third = make(tmp_path, "d", source, exclude=tmp_path / "no.txt")
    assert len(third["images"]) == 25
    assert len(set(first["images"]) - set(third["images"])) == 2
    shutil.rmtree(tmp_path / "d")
    (tmp_path / "no.txt").write_text("000001\n900000\n")
    with pytest.raises(ValueError, match=r"no\.txt:2: 900000"):
        make(tmp_path, "d", source, exclude=tmp_path / "no.txt")
    with pytest.raises(FileNotFoundError, match="exclude: there is no file"):
        make(tmp_path, "d", source, exclude=tmp_path / "none.txt")
    assert not (tmp_path / "d").exists()


def slow_review(
    image: np.ndarray, classes: np.ndarray, ids: np.ndarray, label: int
) -> np.ndarray:
    """Pixel by pixel, with bits of VOC's palette only for the first seven."""
    bright = {n: [128 * (n >> bit & 1) for bit in range(3)] for n in range(1, 8)}
    numbers = sorted(set(ids[classes == label].tolist()))
    part = np.zeros(ids.shape, dtype=int)
    for place in np.ndindex(ids.shape):
        if classes[place] == label:
            part[place] = numbers.index(ids[place]) + 1
        elif classes[place] == 255:
            part[place] = 255
    out = image.copy()
    for y, x in np.ndindex(ids.shape):
        near = part[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        colour = np.array(bright.get(part[y, x], [255] * 3))
        if (near != part[y, x]).any():
            out[y, x] = colour
        elif part[y, x]:
            out[y, x] = np.rint(0.6 * image[y, x] + 0.4 * colour)
    return out


@settings(deadline=None, max_examples=40)
@given(st.lists(BOXES, min_size=1, max_size=6), st.integers(0, 9))
def test_a_picture_shows_the_instances_of_its_class(boxes, seed):
    items = [item(label, box, crowd=crowd) for label, *box, crowd in boxes]
    classes, ids = draw_scene(scene(*items, size=(12, 12)))
    image = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    before = image.copy()
    for label in set(np.unique(classes).tolist()) - {0, 255}:
        found = draw_review(image, classes, ids, label)
        assert found.dtype == np.uint8
        expected = slow_review(image, classes, ids, label)
        assert np.abs(found.astype(int) - expected).max() <= 1
    np.testing.assert_array_equal(image, before)


def test_a_picture_of_very_many_instances():
    places = [(3 * (n % 26), 3 * (n // 26)) for n in range(300)]
    items = [item(1 + (n == 0), (x, y, 2, 2)) for n, (x, y) in enumerate(places)]
    classes, ids = draw_scene(scene(*items))
    assert ids.dtype == np.uint16
    image = np.full((*SIZE, 3), 7, dtype=np.uint8)
    picture = draw_review(image, classes, ids, 1)
    # Instances of two pixels a side are line only; no line is background's black.
    assert (picture[classes == 1].max(axis=1) > 7).all()
    assert (picture[classes == 2] != 0).all()


def review_rows(folder: Path) -> dict[tuple[str, str], Candidate]:
    """Rows by class and image id."""
    rows = [row for _, row in read_manifest(folder / REVIEW)]
    return {(row.class_name, Path(row.image).stem): row for row in rows}


def decide(path: Path, **states: list[tuple[str, str]]) -> None:
    """Give states to rows by class and image id, as the app does."""
    review = Review(path)
    keys = [
        (review.classes[number], Path(image).stem)
        for number, image in zip(review.class_of, review.images)
    ]
    for state, chosen in states.items():
        if chosen:
            review.decide([keys.index(key) for key in chosen], state)
    review.close()


@pytest.mark.slow
def test_a_review_lists_each_class_of_each_image(source, tmp_path, hashes):
    folder = tmp_path / "review"
    record = make(tmp_path, "b", source, images=tmp_path, review=folder)
    assert record == make(tmp_path, "plain", source)
    rows = review_rows(folder)
    expected = {}
    for name in record["images"]:
        path = tmp_path / "b/SegmentationClass" / Path(name).with_suffix(".png")
        with Image.open(path) as file:
            classes = np.array(file)
        for label in set(np.unique(classes).tolist()) - {0, 255}:
            key = TABLE.names[label - 1], path.stem
            expected[key] = (classes == label).sum() / classes.size
    assert set(rows) == set(expected)
    place = {}
    for (name, stem), row in rows.items():
        assert row.image == str(folder / name / f"{stem}.jpg")
        assert row.sha256 == file_sha256(row.image)
        assert row.state == "unseen"
        assert row.probability == pytest.approx(expected[name, stem], abs=1e-6)
        place.setdefault(name, []).append(row)
        with Image.open(row.image) as picture:
            assert picture.size == SIZE[::-1]
    assert list(place) == [name for name in TABLE.names if name in place]
    # Class after class, the largest share first.
    assert list(rows.values()) == [row for group in place.values() for row in group]
    for group in place.values():
        assert [row.rank for row in group] == list(range(1, len(group) + 1))
        shares = [row.probability for row in group]
        assert shares == sorted(shares, reverse=True)
    whole = hashes(folder)
    make(tmp_path, "b", source, images=tmp_path, review=folder)
    assert hashes(folder) == whole


@pytest.mark.slow
def test_rounds_of_review(source, tmp_path, hashes):
    folder = tmp_path / "review"
    fields = dict(images=tmp_path, review=folder, number=15, force=True)
    chosen = set(make(tmp_path, "b", source, **fields)["images"])
    fields["exclude"] = folder / REVIEW
    rejected, kept = set(), set()
    for _ in range(3):
        unseen = [key for key, row in review_rows(folder).items() if "un" in row.state]
        bad, good = unseen[0], [key for key in unseen if key[1] != unseen[0][1]]
        decide(folder / REVIEW, rejected=[bad], kept=good)
        rejected.add(bad)
        kept.update(good)
        after = set(make(tmp_path, "b", source, **fields)["images"])
        assert chosen - after == {f"{bad[1]}.jpg"}
        assert len(after) == 15
        chosen = after
        rows = review_rows(folder)
        states = {key: row.state for key, row in rows.items() if row.state != "unseen"}
        assert states == dict.fromkeys(rejected, "rejected") | dict.fromkeys(
            kept, "kept"
        )
        # Rejected ones stay listed; what nobody decided about goes with its image.
        shown = {Path(name).stem for name in chosen}
        assert {stem for _, stem in rows} == shown | {stem for _, stem in rejected}
        files = {str(path) for path in folder.rglob("*.jpg")}
        assert files == {row.image for row in rows.values()}
    decide(folder / REVIEW, kept=list(set(rows) - rejected))
    final = make(tmp_path, "b", source, **fields)
    assert set(final["images"]) == chosen
    assert final["left_out"][LEFT_OUT["excluded"]] == 3
    # The text list of the same images builds the same.
    (tmp_path / "no.txt").write_text("\n".join(stem for _, stem in rejected))
    make(tmp_path, "c", source, number=15, exclude=tmp_path / "no.txt")
    assert hashes(tmp_path / "b") == hashes(tmp_path / "c")


def test_decisions_follow_their_picture(source, tmp_path, monkeypatch):
    folder = tmp_path / "review"
    fields = dict(images=tmp_path)
    make(tmp_path, "b", source, review=folder, **fields)
    keys = list(review_rows(folder))
    decide(folder / REVIEW, kept=keys)
    # From another place, and with an image that has changed since.
    folder = folder.rename(tmp_path / "moved")
    changed = keys[0][1]
    Image.new("RGB", SIZE[::-1], "red").save(tmp_path / f"val2017/{changed}.jpg")
    monkeypatch.chdir(tmp_path)
    make(tmp_path, "b", source, review="moved", **fields)
    rows = review_rows(folder)
    for key, row in rows.items():
        assert row.image == f"moved/{key[0]}/{key[1]}.jpg"
        assert row.state == ("unseen" if key[1] == changed else "kept")
    assert set(rows) == set(keys)


def test_faulty_reviews_are_refused(source, tmp_path):
    path = tmp_path / "review" / REVIEW
    path.parent.mkdir()
    good = Candidate("review/cat/000001.jpg", "cat", 0.5, 1, "rejected", "0" * 64)

    def refused(message: str, **fields) -> None:
        with pytest.raises(ValueError, match=message):
            make(tmp_path, "b", source, images=tmp_path, **fields)
        assert not (tmp_path / "b").exists()

    for field, value in (("review", path.parent), ("exclude", path)):
        path.write_text("image,class\n")
        refused(rf"{field}: .*review\.csv:1: a manifest's header", **{field: value})
        write_manifest(path, [good])
        with path.open("a") as file:
            file.write("review/cat/000002.jpg,cat,0.5,2,wrong,\n")
        refused(rf"{field}: .*review\.csv:3: state must be", **{field: value})
        write_manifest(path, [good])
        review = Review(path)
        refused(f"{field}: another process .* reviews", **{field: value})
        review.close()
    write_manifest(path, [good, Candidate("a.jpg", "cat", 0.5, 2, "rejected", "")])
    refused(r"exclude: 1 of 2 images .*\n.*review\.csv:3: a$", exclude=path)
    write_manifest(path, [good, Candidate("a.jpg", "ship", 0.5, 1, "kept", "")])
    refused(r"review: .*review\.csv:3: 'ship' is no class", review=path.parent)
    with pytest.raises(
        ValueError, match="place and review need the folder of the images"
    ):
        make(tmp_path, "b", source, review=path.parent)


@pytest.mark.slow
def test_decisions_of_a_killed_review_count(source, tmp_path):
    folder = tmp_path / "review"
    fields = dict(images=tmp_path, review=folder)
    make(tmp_path, "b", source, **fields)
    (name, stem), row = next(iter(review_rows(folder).items()))
    lines = (
        dict(format="mmwood review 1", process=1),
        dict(rejected=[[row.image, name]]),
    )
    journal = journal_path(folder / REVIEW)
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    record = make(tmp_path, "b", source, exclude=folder / REVIEW, force=True, **fields)
    assert record["parameters"]["excluded"] == [stem]
    assert review_rows(folder)[name, stem].state == "rejected"
    assert not journal.exists()


def test_images_are_looked_at_before_anything_is_written(source, tmp_path):
    names = make(tmp_path, "b", source)["images"]
    path = tmp_path / "val2017" / names[0]
    Image.new("RGB", (9, 9)).save(path)
    with pytest.raises(
        ValueError,
        match=r"images: 1 of 25 images have another size than .* exclude list",
    ):
        make(tmp_path, "c", source, images=tmp_path)
    path.write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"coco\.json: images\[\d+\]"):
        make(tmp_path, "c", source, images=tmp_path)
    # A review reads images whole.
    shutil.copy(tmp_path / "val2017" / names[1], path)
    os.truncate(path, 700)
    with pytest.raises(ValueError, match=r"1 of 25 .*:\n.*truncated"):
        make(tmp_path, "c", source, images=tmp_path, review=tmp_path / "review")
    assert not (tmp_path / "review").exists()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="images: 1 of 25 files do not exist"):
        make(tmp_path, "c", source, images=tmp_path)
    with pytest.raises(FileNotFoundError, match="images: there is no folder"):
        make(tmp_path, "c", source, images=tmp_path / "none")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(coco=[]), "at least one annotation file"),
        (dict(place="move"), "place must be 'none', 'link' or 'copy', but is 'move'"),
        (dict(place="link"), "need the folder of the images"),
        (dict(number=0), "number must be at least 1"),
        (dict(seed=-1), "seed must be at least 0"),
        (dict(size_limits=(9, 9)), "size_limits must ascend"),
    ],
)
def test_refused_fields(fields, message, source, tmp_path):
    with pytest.raises(ValueError, match=message):
        make(tmp_path, "b", source, **fields)
    assert not (tmp_path / "b").exists()


def test_refused_sources(source, tmp_path):
    with pytest.raises(ValueError, match="expected every image in one file"):
        make(tmp_path, "b", source, coco=[source, source])
    empty = annotation_file(tmp_path / "empty.json", "coco", {1: [], 2: []})
    with pytest.raises(ValueError, match="no image can be chosen: 2 no instance"):
        make(tmp_path, "b", empty)
    clash = annotation_file(
        tmp_path / "clash.json",
        "coco",
        {1: [("cat", (0, 0, 9, 9))], 2: [("cat", (0, 0, 9, 9))]},
        image_2=dict(file_name="other/000001.png"),
    )
    with pytest.raises(ValueError, match=r"images\[1\] \(id 2\) has the name '000001'"):
        make(tmp_path, "b", clash)


@pytest.mark.slow
def test_the_truth_scores_100(source, tmp_path):
    mmseg = pytest.importorskip("mmseg.datasets")
    from mmseg.utils import register_all_modules

    register_all_modules(init_default_scope=True)
    record = make(tmp_path, "b", source, images=tmp_path, place="link", number=40)
    dataset = mmseg.PascalVOCDataset(
        ann_file="ImageSets/Segmentation/val.txt",
        data_root=str(tmp_path / "b"),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        test_mode=True,
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(type="LoadAnnotations"),
            dict(type="PackSegInputs"),
        ],
    )
    assert len(dataset) == len(record["images"])
    metric = IAIoUMetric(
        instance_dir="SegmentationObject",
        size_limits=LIMITS,
        out=str(tmp_path / "scores.json"),
    )
    metric.dataset_meta = dataset.metainfo
    for sample in dataset:
        data = sample["data_samples"].to_dict()
        gt = data["gt_sem_seg"]["data"]
        data["pred_sem_seg"] = dict(data=gt * (gt != 255))
        metric.process({}, [data])
    scores = metric.evaluate(len(dataset))
    assert set(scores.values()) == {100.0}
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["disputed_pixels"] == 0
    # The metric sees the instances that the builder counted.
    for name, row in record["instances"].items():
        found = scores["classes"][name]["instances"]
        assert {size: found[size] for size in row} == row
