"""tools/analysis_tools/evaluate_labels.py against scikit-learn."""

import json

import numpy as np
import pytest
from sklearn.metrics import jaccard_score, precision_score, recall_score

from mmwood.fileio.labels import read_label_png, save_label_png

TOOL = "analysis_tools/evaluate_labels.py"


@pytest.fixture
def folders(tmp_path):
    rng = np.random.default_rng(0)
    masks, labels = tmp_path / "masks", tmp_path / "run/labels"
    pairs = []
    for number in range(3):
        truth = rng.choice([0, 1, 2, 255], size=(9, 8 + number)).astype(np.uint8)
        label = rng.choice([0, 1, 2, 255], size=truth.shape).astype(np.uint8)
        save_label_png(truth, masks / f"{number}.png")
        save_label_png(label, labels / f"{number}.png")
        pairs.append((truth[truth != 255], label[truth != 255]))
    return masks, labels.parent, pairs


def test_scores(folders, call_main, tmp_path):
    masks, run, pairs = folders
    text = call_main(
        *(TOOL, f"mine={run}", f"truth={masks}", "--masks", masks),
        *("--classes", 2, "--out", "out.json"),
    )
    assert "mine" in text
    found = json.loads((tmp_path / "out.json").read_text())
    truth, label = (np.concatenate(parts) for parts in zip(*pairs))
    options = dict(labels=[0, 1, 2], average="macro")
    expected = dict(
        mIoU=jaccard_score(truth, label, **options),
        precision=precision_score(truth, label, **options),
        recall=recall_score(truth, label, **options),
        open=(label == 255).mean(),
    )
    for name, value in expected.items():
        assert found["mine"][name] == pytest.approx(100 * value, abs=1e-3), name
    assert found["truth"]["mIoU"] == 100
    assert found["mine"]["images"] == 3


def test_removed_pixels_are_open_and_counted(folders, call_main, tmp_path):
    masks, run, pairs = folders
    call_main(TOOL, f"a={run}", "--masks", masks, "--classes", 2, "--out", "void.json")
    for number in range(3):
        path = run / f"labels/{number}.png"
        label = read_label_png(path)
        save_label_png(np.where(label == 255, np.uint8(254), label), path)
    text = call_main(
        *(TOOL, f"a={run}", "--masks", masks, "--classes", 2, "--out", "removed.json")
    )
    void, removed = (
        json.loads((tmp_path / f"{name}.json").read_text())["a"]
        for name in ("void", "removed")
    )
    assert void["removed"] == 0
    assert removed == dict(void, removed=void["open"])
    label = np.concatenate([label for _, label in pairs])
    share = 100 * (label == 255).mean()
    assert removed["removed"] == pytest.approx(share, abs=1e-3)
    assert "removed" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda masks, run: (masks / "1.png").unlink(), "there is no label map"),
        (
            lambda masks, run: save_label_png(
                np.zeros((3, 3), np.uint8), masks / "1.png"
            ),
            "but the mask's (3, 3)",
        ),
        (
            lambda masks, run: save_label_png(
                np.full((9, 9), 3, np.uint8), run / "labels/1.png"
            ),
            "labels/1.png: the label map holds 3; with 2 classes",
        ),
        (
            lambda masks, run: save_label_png(
                np.full((9, 9), 3, np.uint8), masks / "1.png"
            ),
            "masks/1.png holds [3]; with 2 classes",
        ),
    ],
)
def test_faults(folders, call_main, change, message):
    masks, run, _ = folders
    change(masks, run)
    text = call_main(TOOL, f"mine={run}", "--masks", masks, "--classes", 2, fails=True)
    assert message in text


def test_numbers_replace_no_other_file(folders, run_tool):
    masks, run, _ = folders
    before = (masks / "1.png").read_bytes()
    out = ("--out", masks / "1.png")
    text = run_tool(
        TOOL, f"a={run}", "--masks", masks, "--classes", 2, *out, fails=True
    )
    assert text == f"--out: {masks / '1.png'} is there and holds no scores: name " + (
        "another file, or move it away\n"
    )
    assert (masks / "1.png").read_bytes() == before
