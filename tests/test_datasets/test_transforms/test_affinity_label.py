import json
import os
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import RandomFlip, Resize
from mmengine.registry import init_default_scope
from PIL import Image

from mmwood.datasets import AffinityLabel, ImageLevelDataset, LoadImage
from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import (
    PSEUDO_LABELS,
    LabelFolder,
    ScoreMaps,
    save_score_maps,
)
from mmwood.fileio.labels import save_label_png
from mmwood.functional.refine import affinity_label, power_affinity_label
from mmwood.registry import TRANSFORMS

CLASSES = ["disc", "square", "stripe"]
PAMR = dict(method="pamr", iterations=2)


def save_maps(folder, name, size, classes, seed=0):
    rng = np.random.default_rng(seed)
    height, width = size
    small = (len(classes), (height - 1) // 4 + 1, (width - 1) // 4 + 1)
    maps = ScoreMaps(
        classes=np.array(classes, dtype=np.int64),
        scores=np.full(3, 0.5, dtype=np.float32),
        strided=(rng.random(small) * 0.6).astype(np.float16),
        full=(rng.random((len(classes), *size)) * 0.6).astype(np.float16),
    )
    save_score_maps(LabelFolder(folder).scores(name), maps)
    return maps


@pytest.fixture
def sample(voc_folder, tmp_path):
    """Image of 33 × 47 pixels that shows the classes 1 and 2, and its maps."""
    maps = save_maps(tmp_path / "maps", "image_1", (33, 47), [1, 2])
    results = dict(
        img_path=str(voc_folder / "JPEGImages/image_1.jpg"),
        img_id="image_1",
        score_path=str(LabelFolder(tmp_path / "maps").scores("image_1")),
    )
    with Image.open(results["img_path"]) as image:
        rgb = np.array(image)
    return LoadImage()(results), rgb, maps


def bilinear_by_4(maps, height, width):
    """Resize with pixel centres at (i + 0.5), a pixel at a time."""
    result = np.zeros((len(maps), height, width))
    for y, x in np.ndindex(height, width):
        row = min(max((y + 0.5) / 4 - 0.5, 0), maps.shape[1] - 1)
        column = min(max((x + 0.5) / 4 - 0.5, 0), maps.shape[2] - 1)
        top, left = int(row), int(column)
        bottom = min(top + 1, maps.shape[1] - 1)
        right = min(left + 1, maps.shape[2] - 1)
        down, along = row - top, column - left
        result[:, y, x] = (1 - down) * (
            (1 - along) * maps[:, top, left] + along * maps[:, top, right]
        ) + down * (
            (1 - along) * maps[:, bottom, left] + along * maps[:, bottom, right]
        )
    return result


@pytest.mark.parametrize("refine", [None, PAMR, dict(method="crf")])
def test_label_is_that_of_the_maps_and_the_rgb_image(sample, refine):
    results, rgb, maps = sample
    classes = [1, 2]
    expected = affinity_label(rgb, maps.full, classes, 0.3, 0.05, refine)
    label = AffinityLabel(refine=refine)(dict(results))["gt_seg_map"]
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, expected)

    resized = bilinear_by_4(maps.strided.astype(float), 33, 47)
    expected = affinity_label(rgb, resized, classes, 0.4, 0.25, refine)
    made = AffinityLabel(0.4, 0.25, refine=refine, maps="strided")(dict(results))
    np.testing.assert_array_equal(made["gt_seg_map"], expected)
    assert {2, 3} <= set(np.unique(expected))


def test_powers_take_the_place_of_thresholds(sample):
    results, rgb, maps = sample
    found = AffinityLabel(powers=(2, 8), refine=PAMR)(dict(results))["gt_seg_map"]
    expected = power_affinity_label(rgb, maps.full, [1, 2], 2, 8, PAMR)
    np.testing.assert_array_equal(found, expected)
    assert set(np.unique(expected)) == {0, 2, 3, 255}


def test_defaults_are_irns(sample):
    results, rgb, maps = sample
    found = AffinityLabel()(dict(results))["gt_seg_map"]
    crf = dict(method="crf", iterations=10, gaussian_sxy=3, bilateral_sxy=50)
    expected = affinity_label(rgb, maps.full, [1, 2], 0.30, 0.05, crf)
    np.testing.assert_array_equal(found, expected)


def test_label_goes_along_with_the_image(sample):
    pytest.importorskip("mmseg")
    results = AffinityLabel(refine=None)(dict(sample[0]))
    assert results["seg_fields"] == ["gt_seg_map"]
    # The label as the image, so that both must remain the same.
    results["img"] = np.repeat(results["gt_seg_map"][..., None], 3, axis=2)
    init_default_scope("mmseg")
    steps = [
        dict(type="Resize", scale=(94, 66), interpolation="nearest"),
        dict(type="RandomFlip", prob=1.0),
        dict(type="RandomCrop", crop_size=(50, 60)),
        dict(type="Pad", size=(64, 64), pad_val=dict(img=255, seg=255)),
        dict(type="PackSegInputs"),
    ]
    for step in steps:
        results = TRANSFORMS.build(step)(results)
    label = results["data_samples"].gt_sem_seg.data
    assert label.shape == (1, 64, 64)
    assert (results["inputs"] == label).all()
    assert {0, 2, 3, 255} == set(label.unique().tolist())


def test_from_a_data_set_in_a_config_of_another_scope(voc_folder, tmp_path):
    sizes = ((40, 48), (33, 47), (40, 48), (48, 36), (33, 47), (41, 40))
    for number, size in enumerate(sizes):
        save_maps(tmp_path / "maps", f"image_{number}", size, [number % 3], number)
    write_json(
        tmp_path / "maps/manifest.json",
        dict(
            format=PSEUDO_LABELS,
            classes=CLASSES,
            scores=["strided", "full"],
            complete=True,
        ),
    )
    init_default_scope("mmengine")
    dataset = ImageLevelDataset(
        ann_file="ImageSets/Segmentation/train.txt",
        label_source="mask",
        classes=CLASSES,
        data_root=str(voc_folder),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        score_dir=str(tmp_path / "maps"),
        serialize_data=False,
        pipeline=[
            dict(type="mmwood.LoadImage"),
            dict(type="mmwood.AffinityLabel", refine=None),
        ],
    )
    for number, size in enumerate(sizes):
        label = dataset[number]["gt_seg_map"]
        assert label.shape == size
        assert set(np.unique(label)) == {0, number % 3 + 1, 255}


def test_image_without_classes_is_background(sample, tmp_path):
    save_maps(tmp_path / "maps", "image_1", (33, 47), [])
    for maps in ("full", "strided"):
        label = AffinityLabel(refine=PAMR, maps=maps)(dict(sample[0]))["gt_seg_map"]
        np.testing.assert_array_equal(label, np.zeros((33, 47)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(maps="half"), "maps must be 'strided' or 'full'"),
        (dict(foreground=0.05, background=0.3), "background <= foreground"),
        (dict(foreground=1.0), "background <= foreground"),
        (dict(refine=dict(method="CRF")), "method must be 'crf', 'pamr' or None"),
        (dict(refine=dict(method="crf", srgb=5)), "no option 'srgb'"),
        (dict(refine=dict(method="pamr", dilations=[0])), "dilations"),
        (dict(refine=dict(bilateral_sxy=-1)), "bilateral_sxy"),
        (dict(powers=[4]), "powers must be two"),
        (dict(powers=[24, 4]), "low <= high"),
    ],
)
def test_wrong_fields_are_refused_at_once(fields, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        AffinityLabel(**fields)


def test_what_does_not_fit_is_refused_by_name(sample, tmp_path):
    results, folder = sample[0], tmp_path / "maps"
    transform = AffinityLabel(refine=None)
    with pytest.raises(ValueError, match=r"image_1\.jpg has no score maps.*score_dir"):
        transform({key: results[key] for key in ("img", "img_path")})
    with pytest.raises(ValueError, match="before the transforms that flip"):
        transform(RandomFlip(prob=1.0)(dict(results)))
    larger = Resize(scale=(94, 66))(dict(results))
    message = r"image_1\.npz holds 'full' .*\(33, 47\) instead of \(66, 94\).*image_1\."
    with pytest.raises(ValueError, match=message):
        transform(dict(larger))
    with pytest.raises(ValueError, match=r"\(9, 12\) instead of \(17, 24\)"):
        AffinityLabel(refine=None, maps="strided")(dict(larger))

    save_maps(folder, "image_1", (33, 47), [1, 254])
    with pytest.raises(ValueError, match=r"image_1\.npz: .*0\.\.253"):
        transform(dict(results))
    path = LabelFolder(folder).scores("image_1")
    os.truncate(path, 500)
    with pytest.raises(ValueError, match=r"image_1\.npz does not hold score maps"):
        transform(dict(results))
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"image_1\.npz"):
        transform(dict(results))


def finished_labels(folder, transform, **changed):
    """A folder as tools/make_affinity_labels.py leaves it."""
    manifest = dict(
        format="mmwood affinity labels 1", settings=transform.settings, complete=True
    )
    write_json(Path(folder, "manifest.json"), dict(manifest, **changed))
    return str(folder)


def test_label_is_read_from_the_folder(sample, tmp_path):
    fields = dict(refine=dict(PAMR, dilations=(1, 2)), maps="strided")
    folder = finished_labels(tmp_path / "labels", AffinityLabel(**fields))
    label = np.random.default_rng(0).integers(0, 256, (33, 47)).astype(np.uint8)
    save_label_png(label, tmp_path / "labels/labels/image_1.png")
    results = dict(sample[0])
    del results["score_path"]
    read = AffinityLabel(**fields, folder=folder)(results)
    np.testing.assert_array_equal(read["gt_seg_map"], label)
    assert read["seg_fields"] == ["gt_seg_map"]


def test_labels_of_other_settings_are_refused(tmp_path):
    folder = tmp_path / "labels"
    with pytest.raises(
        FileNotFoundError, match=r"no .*manifest\.json; tools/make_affinity"
    ):
        AffinityLabel(folder=str(folder))
    finished_labels(folder, AffinityLabel())
    AffinityLabel(refine=dict(iterations=10), folder=str(folder))
    for changed in (
        dict(foreground=0.31),
        dict(background=0.15),
        dict(refine=dict(iterations=9)),
        dict(refine=None),
        dict(maps="strided"),
        dict(powers=(4, 24)),
    ):
        (name,) = changed
        message = rf"another settings\.{name}.*make_affinity_labels\.py .*--overwrite"
        with pytest.raises(ValueError, match=message):
            AffinityLabel(**changed, folder=str(folder))
    finished_labels(folder, AffinityLabel(powers=(4, 24)))
    AffinityLabel(powers=[4, 24], folder=str(folder))
    with pytest.raises(
        ValueError, match=r"another settings\.foreground \(None instead of 0\.3\)"
    ):
        AffinityLabel(folder=str(folder))
    finished_labels(folder, AffinityLabel(), complete=False)
    with pytest.raises(ValueError, match="not complete: run tools/make_affinity"):
        AffinityLabel(folder=str(folder))
    finished_labels(folder, AffinityLabel(), format="mmwood pseudo labels 1")
    with pytest.raises(ValueError, match="is none of 'mmwood affinity labels 1'"):
        AffinityLabel(folder=str(folder))
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        AffinityLabel(folder=str(folder))


def test_labels_that_are_not_whole_are_refused(sample, tmp_path):
    folder = finished_labels(tmp_path / "labels", AffinityLabel(refine=None))
    transform = AffinityLabel(refine=None, folder=folder)
    path = tmp_path / "labels/labels/image_1.png"
    tool = r"tools/make_affinity_labels\.py"
    with pytest.raises(
        FileNotFoundError, match=rf"no affinity label .*image_1\.png.*{tool}"
    ):
        transform(dict(sample[0]))
    save_label_png(np.zeros((47, 33), np.uint8), path)
    message = rf"image_1\.png has \(H, W\) = \(47, 33\).*\(33, 47\).*{tool}"
    with pytest.raises(ValueError, match=message):
        transform(dict(sample[0]))
    Image.fromarray(np.zeros((33, 47, 3), np.uint8)).save(path)
    with pytest.raises(ValueError, match=r"image_1\.png is no affinity label"):
        transform(dict(sample[0]))
    save_label_png(sample[1][..., 0], path)
    for size in (path.stat().st_size // 2, 20, 0):
        os.truncate(path, size)
        with pytest.raises(ValueError, match=rf"image_1\.png is damaged.*{tool}"):
            transform(dict(sample[0]))


def test_settings_are_complete_and_of_json():
    settings = AffinityLabel(refine=dict(method="pamr", dilations=(1, 2))).settings
    assert settings == dict(
        foreground=0.3,
        background=0.05,
        refine=dict(method="pamr", iterations=10, dilations=[1, 2]),
        maps="full",
    )
    assert json.loads(json.dumps(settings)) == settings
    assert "dilations" in repr(AffinityLabel(refine=PAMR))
