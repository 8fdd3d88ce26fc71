"""Label PNGs: one reader, and every place that reads them refuses what is none."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmwood.converters.check import check_dataset, list_entries
from mmwood.converters.writer import Writer
from mmwood.datasets import ImageLevelDataset
from mmwood.datasets.transforms import LoadSemanticMask
from mmwood.evaluation import IAIoUMetric
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import (
    BIASED,
    DamagedError,
    biased_as_void,
    check_labels,
    full_palette,
    read_label_png,
    save_label_png,
    tags_from_mask,
    voc_palette,
)
from mmwood.visualization.comparison import seed_comparison

TOOLS = Path(__file__).parents[2] / "tools/analysis_tools"
LABEL = np.array([[0, 1, 255], [2, 2, 0]], dtype=np.uint8)


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
    np.testing.assert_array_equal(read_label_png(tmp_path / "a.png"), label)


def test_removed_pixels_have_a_colour_of_their_own():
    colours = full_palette(biased=True)
    others = np.delete(colours, BIASED, axis=0).astype(int)
    assert abs(others - colours[BIASED]).sum(axis=1).min() >= 64
    np.testing.assert_array_equal(others, np.delete(voc_palette(), BIASED, axis=0))
    # Of so many classes it is one.
    mine = np.zeros((255, 3), dtype=np.uint8)
    assert full_palette(mine, biased=True)[BIASED].tolist() == [0, 0, 0]
    # Files of which no pixel is removed have VOC's alone, to the byte.
    assert np.array_equal(full_palette(), voc_palette())


def test_removed_pixels_as_void():
    label = np.array([[0, 254, 3], [254, 255, 1]], dtype=np.uint8)
    found, removed = biased_as_void(label, 20)
    assert found.tolist() == [[0, 255, 3], [255, 255, 1]]
    assert found.dtype == np.uint8
    assert removed == 2
    assert label[0, 1] == 254
    found, removed = biased_as_void(label, 254)
    assert (found.tolist(), removed) == (label.tolist(), 0)
    with pytest.raises(
        ValueError, match=r"holds \[254\] \(pixels that tools/filter_la"
    ):
        check_labels(label, "a.png", 20)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, bool])
def test_grey_label_maps_are_read(dtype, tmp_path):
    label = LABEL.astype(dtype)
    kind = "TIFF" if dtype == np.int32 else "PNG"
    Image.fromarray(label).save(tmp_path / "a.png", format=kind)
    found = read_label_png(tmp_path / "a.png")
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, label)
    np.testing.assert_array_equal(read_label_png(tmp_path / "a.png", wide=True), label)


def test_numbers_of_instances(tmp_path):
    ids = np.array([[0, 255, 300], [65535, 1, 2]], dtype=np.uint16)
    save_label_png(ids, tmp_path / "a.png")
    np.testing.assert_array_equal(read_label_png(tmp_path / "a.png", wide=True), ids)
    with pytest.raises(ValueError, match=r"a\.png .* holds 0 to 65535, expected 0 to "):
        read_label_png(tmp_path / "a.png")


def half(path):
    save_label_png(np.arange(240, dtype=np.uint8).reshape(12, 20), path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("no picture")


def colours(path):
    Image.fromarray(voc_palette()[LABEL]).save(path)


def colours_and_alpha(path):
    Image.new("RGBA", (3, 2)).save(path)


def grey_and_alpha(path):
    Image.new("LA", (3, 2)).save(path)


def large_values(path):
    Image.fromarray(LABEL.astype(np.uint16) * 256).save(path)


def floats(path):
    Image.fromarray(LABEL.astype(np.float32)).save(path, format="TIFF")


BAD = [half, empty, text, colours, colours_and_alpha, grey_and_alpha]
BAD += [large_values, floats]


def by_dataset(path):
    root = path.parents[1]
    Image.new("RGB", (3, 2)).save(root / "a.jpg")
    (root / "list.txt").write_text("a\n")
    ImageLevelDataset(
        ann_file="list.txt",
        label_source="mask",
        classes=["cat", "dog"],
        data_root=str(root),
        data_prefix=dict(img_path="", seg_map_path=path.parent.name),
        serialize_data=False,
    )


def by_transform(path):
    LoadSemanticMask()(dict(img_path="a.jpg", seg_map_path=path, ori_shape=(2, 3)))


def by_metric(path):
    metric = IAIoUMetric(instance_dir=path.parent.name)
    metric.dataset_meta = dict(classes=["background", "cat", "dog"])
    maps = dict(data=torch.zeros(1, 2, 3, dtype=int))
    masks = path.parents[1] / "masks/a.png"
    sample = dict(seg_map_path=masks, pred_sem_seg=maps, gt_sem_seg=maps)
    metric.process({}, [sample])


def by_check(path):
    root = path.parents[1]
    Image.new("RGB", (3, 2)).save(root / "a.jpg")
    (root / "list.txt").write_text("a\n")
    entries = list_entries(root / "list.txt", root, masks=path.parent)
    report = check_dataset({"list": entries}, ["cat", "dog"])
    raise ValueError(report.errors)


def by_comparison(path):
    root = path.parents[1]
    Image.new("RGB", (3, 2)).save(root / "a.jpg")
    run = LabelFolder(root)
    run.manifest_path.write_text(json.dumps(dict(classes=["cat", "dog"])))
    seed_comparison(dict(one=root), ["a"], root)


READERS = dict(
    reader=read_label_png,
    tags=lambda path: tags_from_mask(path, ["cat", "dog"]),
    dataset=by_dataset,
    transform=by_transform,
    metric=by_metric,
    check=by_check,
    comparison=by_comparison,
)
#: Options of tools that read label maps.
TOOL_READERS = (
    "evaluate_labels.py x={bad} --masks {good} --classes 2",
    "evaluate_labels.py x={good} --masks {bad} --classes 2",
    "size_report.py data {bad} --classes cat dog --out {out}",
)


@pytest.mark.parametrize("spoil", BAD)
@pytest.mark.parametrize("name", READERS)
def test_every_reader_names_a_bad_file(name, spoil, tmp_path):
    path = tmp_path / "labels/a.png"
    path.parent.mkdir()
    spoil(path)
    if name == "metric" and spoil is large_values:
        # The one file with numbers of instances, which may be large.
        READERS[name](path)
        return
    with pytest.raises(ValueError, match=r"labels.a\.png"):
        READERS[name](path)


@pytest.mark.parametrize("spoil", [half, colours])
@pytest.mark.parametrize("command", TOOL_READERS)
def test_every_tool_names_a_bad_file(command, spoil, tmp_path, monkeypatch):
    for name in ("labels", "others"):
        (tmp_path / name).mkdir()
    spoil(tmp_path / "labels/a.png")
    save_label_png(LABEL, tmp_path / "others/a.png")
    tool, *words = command.format(bad="labels", good="others", out="out.png").split()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(TOOLS / tool), *words])
    monkeypatch.syspath_prepend(TOOLS)
    with pytest.raises(SystemExit, match=r"labels.a\.png"):
        runpy.run_path(str(TOOLS / tool), run_name="__main__")


def test_labels_are_classes_or_void():
    assert check_labels(LABEL, "a.png", 2) == {1, 2}
    for label in (LABEL.astype(np.int64) - 1, LABEL + 1):
        with pytest.raises(ValueError, match=r"mask a\.png holds .* 0\.\.2 and 255"):
            check_labels(label, "a.png", 2)


def test_only_a_damaged_png_is_written_anew(tmp_path):
    """What is no label map of ours is the user's."""
    for spoil, error in (
        (half, DamagedError),
        (empty, DamagedError),
        (text, ValueError),
        (colours, ValueError),
        (floats, ValueError),
    ):
        path = tmp_path / f"{spoil.__name__}.png"
        spoil(path)
        before = path.read_bytes()
        with pytest.raises(error):
            read_label_png(path)
        if error is DamagedError:
            Writer().label(path, LABEL)
            np.testing.assert_array_equal(read_label_png(path), LABEL)
            continue
        with pytest.raises(FileExistsError, match=rf"{spoil.__name__}\.png is there"):
            Writer().label(path, LABEL)
        assert path.read_bytes() == before


@pytest.mark.parametrize("value", [0, 255])
def test_masks_without_a_class_are_refused(value, tmp_path):
    (tmp_path / "png").mkdir()
    save_label_png(np.full((2, 3), value, np.uint8), tmp_path / "png/a.png")
    with pytest.raises(ValueError, match=r"none of 1 masks shows a class.*0 and 255"):
        by_dataset(tmp_path / "png/a.png")
