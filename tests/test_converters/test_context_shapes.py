import csv
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from mmwood.converters.context_shapes import build, draw_sample, generate, sample
from mmwood.converters.context_shapes.sample import CLASSES, CONTEXTS, NEUTRAL_CONTEXTS
from mmwood.fileio.labels import voc_palette

COUNTS = {"train": 12, "val": 6, "ood": 12}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "data"
    generate(folder, **COUNTS)
    return folder


@pytest.fixture(scope="module")
def samples():
    return [draw_sample("train", i) for i in range(96)]


def content(folder):
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def read_rows(folder):
    with open(folder / "contexts.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def neighbours(mask):
    return cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0


@pytest.mark.slow
# -- the folder -------------------------------------------------------------
def test_layout(root):
    names = {}
    for split in ("train", "val"):
        text = (root / f"ImageSets/Segmentation/{split}.txt").read_text()
        names[split] = text.splitlines()
        assert len(names[split]) == COUNTS[split]
    every = set(names["train"] + names["val"])
    assert len(every) == 18
    for folder, suffix in (
        ("JPEGImages", ".jpg"),
        ("SegmentationClass", ".png"),
        ("SegmentationObject", ".png"),
    ):
        assert {p.name for p in (root / folder).iterdir()} == {
            name + suffix for name in every
        }
    ood = (root / "OoD/list.txt").read_text().splitlines()
    assert len(ood) == 12
    assert all((root / line).is_file() for line in ood)
    assert len(list((root / "OoD").glob("*.jpg"))) == 12
    assert not any(name.startswith(("unfinished", ".")) for name in content(root))


def test_files_hold_the_samples(root):
    for split, i in (("train", 0), ("val", 5)):
        sample, name = draw_sample(split, i), f"{split}_{i:06d}"
        image = Image.open(root / f"JPEGImages/{name}.jpg")
        assert (image.mode, image.format) == ("RGB", "JPEG")
        assert np.abs(np.asarray(image, float) - sample.image).mean() < 3
        for folder, labels in (
            ("SegmentationClass", sample.classes),
            ("SegmentationObject", sample.instances),
        ):
            mask = Image.open(root / folder / f"{name}.png")
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), labels)
            palette = np.array(mask.getpalette("RGB")).reshape(-1, 3)
            assert np.array_equal(palette, voc_palette()[: len(palette)])


def test_record(root):
    record = json.loads((root / "dataset.json").read_text())
    assert record["parameters"] == COUNTS | {
        "size": 128,
        "correlation": 0.95,
        "seed": 0,
    }
    assert record["classes"] == list(CLASSES)
    assert record["contexts"] == CONTEXTS
    counts = record["counts"]
    assert counts["images"] == COUNTS
    rows = read_rows(root)
    for name in CLASSES:
        assert counts["images_of_class"][name] == sum(r["class"] == name for r in rows)
    instances = 0
    for path in (root / "SegmentationObject").iterdir():
        ids = np.unique(np.asarray(Image.open(path)))
        instances += np.count_nonzero((ids > 0) & (ids < 255))
    assert sum(counts["instances_of_class"].values()) == instances


@pytest.mark.slow
def test_same_bytes_again_and_a_prefix_when_larger(root, tmp_path):
    generate(tmp_path / "same", **COUNTS)
    assert content(tmp_path / "same") == content(root)
    generate(tmp_path / "more", train=13, val=6, ood=13)
    small, large = content(root), content(tmp_path / "more")
    images = [name for name in small if name.endswith((".jpg", ".png"))]
    assert len(images) == 12 * 3 + 6 * 3 + 12
    assert all(large[name] == small[name] for name in images)


def test_other_seeds_and_splits_differ():
    first = draw_sample("train", 0).image
    for other in (draw_sample("train", 0, seed=1), draw_sample("val", 0)):
        assert not np.array_equal(first, other.image)


def test_finished_folder_is_left_alone(root, monkeypatch):
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    monkeypatch.setattr(build, "draw_sample", None)
    record = generate(root, **COUNTS)
    assert record == json.loads((root / "dataset.json").read_text())
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_interrupted_or_damaged_folder_is_completed(
    workers, root, tmp_path, monkeypatch
):
    monkeypatch.setattr(build, "_IMAGES_PER_WORKER", 1)

    def stop(tasks):
        yield from tasks[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, **COUNTS, progress=stop, workers=workers)
    assert not (tmp_path / "dataset.json").exists()
    generate(tmp_path, **COUNTS, workers=workers)
    assert content(tmp_path) == content(root)
    (tmp_path / "OoD/ood_000003.jpg").unlink()
    generate(tmp_path, **COUNTS)
    assert content(tmp_path) == content(root)


@pytest.mark.slow
def test_other_parameters_need_force(tmp_path):
    generate(tmp_path, train=3, val=1, ood=2)
    (tmp_path / "OoD/mine.txt").write_text("kept")
    with pytest.raises(ValueError, match="force=True"):
        generate(tmp_path, train=2, val=0, ood=1)
    generate(tmp_path, train=2, val=0, ood=1, force=True)
    assert len(list((tmp_path / "JPEGImages").iterdir())) == 2
    assert {p.name for p in (tmp_path / "OoD").iterdir()} == {
        "list.txt",
        "mine.txt",
        "ood_000000.jpg",
    }


@pytest.mark.parametrize("name", ["notes.txt", "dataset.json"])
def test_foreign_folder_is_refused_even_with_force(tmp_path, name):
    (tmp_path / name).write_text('{"dataset": "another"}')
    with pytest.raises(ValueError, match="something else"):
        generate(tmp_path, 1, 1, 1, force=True)
    with pytest.raises(ValueError, match="is a file"):
        generate(tmp_path / name, 1, 1, 1)
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("correlation", 1.01),
        ("correlation", -0.1),
        ("correlation", float("nan")),
        ("train", -1),
        ("val", -1),
        ("ood", -1),
        ("seed", -1),
        ("size", 63),
        ("workers", 0),
    ],
)
def test_bad_parameters_are_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"^{name} must .* is {value}"):
        generate(tmp_path / "data", **{name: value})
    assert not (tmp_path / "data").exists()


def test_progress_sees_every_image(tmp_path):
    seen = []
    generate(tmp_path, 2, 1, 1, progress=lambda tasks: seen.extend(tasks) or tasks)
    assert seen == [("train", 0), ("train", 1), ("val", 0), ("ood", 0)]


# -- the images -------------------------------------------------------------
@pytest.mark.slow
def test_images_have_several_shapes(samples):
    shapes = {s.image.shape for s in samples}
    assert len(shapes) >= 5
    assert all(max(shape[:2]) == 128 and shape[2] == 3 for shape in shapes)


@pytest.mark.slow
def test_label_maps_agree(samples):
    for s in samples:
        assert s.classes.dtype == s.instances.dtype == np.uint8
        assert s.classes.shape == s.instances.shape == s.image.shape[:2]
        values = set(np.unique(s.classes).tolist()) - {0, 255}
        assert {CLASSES[v - 1] for v in values} == {name for name, _ in s.contexts}
        assert np.array_equal(s.classes == 0, s.instances == 0)
        assert np.array_equal(s.classes == 255, s.instances == 255)
        ids = sorted(set(np.unique(s.instances).tolist()) - {0, 255})
        assert ids == list(range(1, len(ids) + 1))
        assert all(len(np.unique(s.classes[s.instances == i])) == 1 for i in ids)


@pytest.mark.parametrize("size", [128, 192])
def test_void_separates_objects_from_background_and_other_classes(samples, size):
    if size == 192:
        samples = [draw_sample("train", i, size=size) for i in range(4)]
    for s in samples:
        void = s.classes == 255
        for value in set(np.unique(s.classes).tolist()) - {0, 255}:
            inside = s.classes == value
            around = neighbours(inside) & ~inside
            assert void[around].all()
        steps = 1 if size == 128 else 2
        reach = (s.classes > 0) & ~void
        for _ in range(steps):
            reach = neighbours(reach)
        # One or two pixels wide; only where two classes meet it is wider.
        if len(s.contexts) == 1:
            assert not (void & ~reach).any()


def test_touching_objects_are_one_component_but_two_instances(samples):
    touching = 0
    for s in samples:
        for value in set(np.unique(s.classes).tolist()) - {0, 255}:
            count, parts = cv2.connectedComponents(
                (s.classes == value).astype(np.uint8)
            )
            merged = [np.unique(s.instances[parts == i]) for i in range(1, count)]
            touching += any(len(ids) > 1 for ids in merged)
    assert touching >= 12


def test_sizes_range_from_tiny_to_large(samples):
    sides, lengths = [], []
    for s in samples:
        for i in range(1, int(s.instances[s.instances < 255].max()) + 1):
            rows, columns = np.nonzero(s.instances == i)
            sides.append(len(rows) ** 0.5)
            lengths.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert min(sides) < 7
    assert max(lengths) > 64
    share = np.histogram(sides, (0, 10, 20, 200))[0] / len(sides)
    assert (share > 0.1).all()


def test_classes_come_equally_often(samples):
    first = [s.contexts[0][0] for s in samples]
    assert {name: first.count(name) for name in CLASSES} == dict.fromkeys(CLASSES, 16)
    assert any(len(s.contexts) == 2 for s in samples)


@pytest.mark.slow
@pytest.mark.parametrize("correlation", [0.0, 0.5, 1.0])
def test_correlation(monkeypatch, correlation):
    rng = np.random.default_rng(0)
    chosen = [
        (name, sample._choose_context(rng, name, correlation)) for name in CLASSES * 300
    ]
    own = np.mean([context == CONTEXTS[name] for name, context in chosen])
    assert own == pytest.approx(correlation, abs=4 * np.sqrt(0.25 / len(chosen)))
    if correlation < 1:  # what is left goes to neutral contexts and those of others
        others = {c for name, c in chosen if name == "train" and c != "rails"}
        assert others == {*NEUTRAL_CONTEXTS, *CONTEXTS.values()} - {"rails"}
    for i in range(12) if correlation != 0.5 else ():
        for name, context in draw_sample("val", i, correlation=correlation).contexts:
            assert (context == CONTEXTS[name]) == bool(correlation)


@pytest.mark.slow
def test_csv_holds_the_truth_of_every_image(root):
    rows = [tuple(row.values()) for row in read_rows(root)]
    expected = [
        (f"{split}_{i:06d}", split, *pair)
        for split, count in COUNTS.items()
        for i in range(count)
        for pair in draw_sample(split, i).contexts
    ]
    assert rows == expected


# -- the OoD images ---------------------------------------------------------
def test_ood_images_never_meet_an_object(monkeypatch):
    monkeypatch.setattr(sample, "OBJECTS", None)
    monkeypatch.setattr(sample, "_paint_object", None)
    drawn = [draw_sample("ood", i) for i in range(12)]
    assert not any(s.classes.any() or s.instances.any() for s in drawn)
    contexts = [context for s in drawn for _, context in s.contexts]
    assert sorted(contexts) == sorted([*CONTEXTS.values()] * 2)
    assert all(name == "" for s in drawn for name, _ in s.contexts)


def test_ood_and_training_scenes_share_one_code_path(monkeypatch):
    calls = []
    scene = sample.scene

    def spy(rng, contexts, *shape):
        calls.append(contexts)
        return scene(rng, contexts, *shape)

    monkeypatch.setattr(sample, "scene", spy)
    draw_sample("ood", 5)
    draw_sample("train", 5, correlation=1)
    assert calls == [["rails"], ["rails"]]


def test_the_module_needs_neither_torch_nor_openmmlab():
    code = (
        "import sys, mmwood.converters.context_shapes\n"
        "heavy = {'torch', 'mmengine', 'mmcv', 'mmseg'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
