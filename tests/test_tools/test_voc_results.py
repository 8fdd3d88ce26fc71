"""The archive for VOC's test server, read as the development kit documents it."""

import tarfile
from functools import partial

import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from sklearn.metrics import jaccard_score

from mmwood.fileio.labels import voc_palette

from .test_segmentation import FLIPS, LOAD, PACK, SCALES, TEST

TOOL = "voc_results.py"


@pytest.fixture
def call(call_main):
    return partial(call_main, TOOL)


def server(archive, data, split, competition, unpacked) -> np.ndarray:
    """Accuracy of each class as the kit's evaluation computes it; its checks as well.

    For each image of the list it reads the PNG of the results; they must be indexed,
    of the ground truth's size and without a value above the number of classes. Pixels
    whose ground truth is 255 do not count.
    """
    with tarfile.open(archive, "r:gz") as file:
        file.extractall(unpacked, filter="data")
    folder = unpacked / f"results/VOC2012/Segmentation/{competition}_{split}_cls"
    names = (data / f"ImageSets/Segmentation/{split}.txt").read_text().split()
    assert {path.name for path in folder.iterdir()} == {f"{n}.png" for n in names}
    counts = np.zeros((21, 21))
    for name in names:
        with Image.open(data / f"SegmentationClass/{name}.png") as image:
            truth = np.array(image)
        with Image.open(folder / f"{name}.png") as image:
            assert (image.format, image.mode) == ("PNG", "P")
            assert image.getpalette("RGB")[: 3 * 21] == voc_palette(21).ravel().tolist()
            result = np.array(image)
        assert result.shape == truth.shape
        assert result.max() <= 20
        for row, column in zip(truth[truth < 255], result[truth < 255]):
            counts[row, column] += 1
    hit = counts.diagonal()
    union = counts.sum(axis=0) + counts.sum(axis=1) - hit
    return 100 * hit[union > 0] / union[union > 0]


@pytest.fixture
def predictions(voc_folder, tmp_path):
    """Grey PNGs of numbers, as mmseg's IoUMetric writes them, and one too many."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "predictions"
    folder.mkdir()
    for path in (voc_folder / "SegmentationClass").iterdir():
        with Image.open(path) as image:
            label = rng.integers(0, 4, (image.height, image.width), dtype=np.uint8)
        Image.fromarray(label).save(folder / path.name)
    Image.fromarray(label).save(folder / "other.png")
    return folder


def test_archive(voc_folder, predictions, call, tmp_path):
    options = ("--competition", "comp5", "--split", "train", "--out", "a.tgz")
    text = call(predictions, voc_folder, *options)
    assert "6 predictions in results/VOC2012/Segmentation/comp5_train_cls" in text
    found = server("a.tgz", voc_folder, "train", "comp5", tmp_path / "unpacked")
    truth, label = (
        np.concatenate(
            [
                np.array(Image.open(folder / f"image_{number}.png")).ravel()
                for number in range(6)
            ]
        )
        for folder in (voc_folder / "SegmentationClass", predictions)
    )
    valid = truth < 255
    expected = jaccard_score(truth[valid], label[valid], average=None)
    assert found == pytest.approx(100 * expected)


def test_refusals(voc_folder, predictions, call, tmp_path):
    def refusal(*options):
        base = (predictions, voc_folder, "--competition", "comp6")
        return call(*base, *options, fails=True)

    good = ("--split", "train", "--out", "a.tgz")
    assert "test.txt" in refusal("--out", "a.tgz")
    assert "--out must be a .tgz file" in refusal("--split", "train", "--out", "a.zip")
    path = predictions / "image_3.png"
    with Image.open(path) as image:
        label = np.array(image)
    Image.fromarray(label[:-1]).save(path)
    assert "image_3.png is of (W, H) = " in refusal(*good)
    label[0, 0] = 255
    Image.fromarray(label).save(path)
    assert "image_3.png holds 255: expected 0 to 20" in refusal(*good)
    path.unlink()
    assert "there is no prediction" in refusal(*good)
    assert not (tmp_path / "a.tgz").exists()
    (voc_folder / "JPEGImages/image_2.jpg").unlink()
    assert "data: 1 of 6 files do not exist" in refusal(*good)
    (tmp_path / "a.tgz").touch()
    assert "a.tgz is there" in refusal(*good)
    (voc_folder / "ImageSets/Segmentation/none.txt").touch()
    assert "lists no image" in refusal("--split", "none", "--out", "b.tgz")


@pytest.mark.slow
def test_predictions_of_images_without_masks(
    stock_segmentor, run_tool, voc_folder, call, tmp_path
):
    """The split test has no masks: pipelines and metrics do without."""
    cfg = Config.fromfile(stock_segmentor, format_python_code=False)
    cfg.merge_from_dict(TEST)
    cfg.tta_pipeline = [
        LOAD,
        dict(type="TestTimeAug", transforms=[SCALES, FLIPS, [PACK]]),
    ]
    iou = dict(type="IoUMetric", format_only=True, output_dir="predicted")
    cfg.test_evaluator = dict(type="mmwood.NamedEvaluator", metrics=dict(iou=iou))
    dataset = dict(cfg.train_dataloader.dataset, pipeline=[LOAD, PACK])
    dataset["data_prefix"] = dict(img_path="JPEGImages")
    cfg.test_dataloader = dict(
        batch_size=1,
        num_workers=0,
        sampler=dict(type="DefaultSampler", shuffle=False),
        dataset=dataset,
    )
    cfg.dump(tmp_path / "tested.py")
    run_tool("train.py", "tested.py", "--work-dir", "work")
    run_tool("test.py", "tested.py", "work/iter_2.pth", "--tta")
    options = ("--competition", "comp6", "--split", "train", "--out", "a.tgz")
    call(tmp_path / "predicted", voc_folder, *options)
    found = server("a.tgz", voc_folder, "train", "comp6", tmp_path / "unpacked")
    assert len(found) > 1
