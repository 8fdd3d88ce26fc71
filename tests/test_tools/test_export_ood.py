"""From scores of any model, by a review, to the data of three trainers."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.fileio.candidates import read_manifest

CLASSES = ("boat", "train")


@pytest.fixture
def predicted(tmp_path, monkeypatch) -> dict[str, float]:
    """YOLO's predictions of six images, and the largest confidence of each."""
    monkeypatch.chdir(tmp_path)
    Path("images").mkdir()
    Path("predict/labels").mkdir(parents=True)
    Path("data.yaml").write_text("names: {0: boat, 1: train}\n")
    rng = np.random.default_rng(0)
    confidence = {}
    for number in range(6):
        pixels = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        name = f"{number}.png"
        Image.fromarray(pixels).save(f"images/{name}")
        confidence[name] = 0.4 + number / 10 if number else 0.0
        if number:
            lines = [f"1 0.5 0.5 0.1 0.1 {confidence[name] - 0.01 * i}" for i in (1, 0)]
            Path(f"predict/labels/{number}.txt").write_text("\n".join(lines))
    return confidence


@pytest.mark.slow
def test_from_predictions_to_trainers(predicted, call_main):
    text = call_main(
        *("mine_ood.py", "--scores", "predict/labels", "--root", "images"),
        *("--classes", "data.yaml", "--out", "ood.csv", "--threshold", 0.55),
    )
    assert "5 scores were joined with a larger one" in text
    assert re.search(r"candidates +\| +6 \|", text)
    rows = [row for _, row in read_manifest("ood.csv")]
    wanted = sorted((-p, f"images/{name}") for name, p in predicted.items())[:4]
    # A manifest has six digits.
    assert [(round(-r.probability, 6), r.image) for r in rows] == [
        (round(value, 6), image) for value, image in wanted
    ]
    assert {row.class_name for row in rows} == {"train"}
    assert Path("work_dirs/ood/unreadable.txt").read_text() == ""

    text = call_main(
        "export_ood.py", "ood.csv", "--format", "list", "--out", "out", fails=True
    )
    assert "0 of 4 rows are kept, 4 unseen: review them" in text
    rules = ("--max-probability", 0.85, "--keep-rest")
    call_main("review_ood.py", "ood.csv", "--auto", *rules)
    kept = {f"ood_{Path(image).stem}" for _, image in wanted[1:]}
    for name in ("yolo", "coco", "nnunet"):
        text = call_main("export_ood.py", "ood.csv", "--format", name, "--out", name)
        assert f"{name}: 3 images without an object (3 .png)" in text
    assert {path.stem for path in Path("yolo/labels").iterdir()} == kept
    assert {path.stem for path in Path("yolo/images").iterdir()} == kept
    assert not any(path.read_bytes() for path in Path("yolo/labels").iterdir())
    content = json.loads(Path("coco/annotations.json").read_text())
    assert {Path(i["file_name"]).stem for i in content["images"]} == kept
    # Those of the model, not only those that were found.
    assert [item["name"] for item in content["categories"]] == [*CLASSES]
    content = json.loads(Path("nnunet/dataset.json").read_text())
    assert content["labels"] == dict(background=0, boat=1, train=2)
    assert {path.stem for path in Path("nnunet/labelsTr").iterdir()} == kept
    # What was decided stays, and so does what was exported of another review.
    text = call_main(
        *("mine_ood.py", "--scores", "predict/labels", "--root", "images"),
        *("--classes", "data.yaml", "--out", "ood.csv", "--threshold", 0.45),
        "--update",
    )
    assert "4 reviewed rows were carried over" in text
    assert [r.state for _, r in read_manifest("ood.csv")] == (
        ["rejected", "kept", "kept", "kept", "unseen"]
    )
    call_main("review_ood.py", "ood.csv", "--auto", "--keep-rest")
    again = ("export_ood.py", "ood.csv", "--format", "yolo", "--out", "yolo")
    assert "holds something else" in call_main(*again, fails=True)


def test_coco_results_and_what_does_not_fit(predicted, call_main):
    images = [dict(id=n, file_name=name) for n, name in enumerate(predicted)]
    coco = dict(images=images, categories=[dict(id=8, name="boat")])
    Path("coco.json").write_text(json.dumps(coco))
    results = [dict(image_id=n, category_id=8, score=n / 10) for n in range(6)]
    Path("results.json").write_text(json.dumps(results))
    run = ("mine_ood.py", "--scores", "results.json", "--out", "ood.csv")
    assert "--annotations" in call_main(*run, fails=True)
    run = (*run, "--annotations", "coco.json")
    assert "none of its 6 images is there" in call_main(*run, fails=True)
    assert not Path("ood.csv").exists()
    text = call_main(*run, "--root", "images", "--threshold", 0.6)
    assert "no candidate reaches the threshold 0.6: the highest" in text
    call_main(*run, "--root", "images")
    assert [row.image for _, row in read_manifest("ood.csv")] == ["images/5.png"]


def test_options_of_scores_and_of_models(call_main, capfd):
    assert "--annotations JSON" in call_main("mine_ood.py", "--scores", "s", "--help")
    text = call_main("mine_ood.py", "--help")
    assert "--candidates" in text
    assert "--scores" in text
    scores = ("--scores", "s.csv", "--out", "o.csv")
    text = call_main("mine_ood.py", *scores, "--amp", fails=True)
    assert "unrecognized arguments: --amp" in text
    assert "no file or folder s.csv" in call_main("mine_ood.py", *scores, fails=True)
    text = call_main(
        "export_ood.py", "x.txt", "--format", "list", "--out", "o", fails=1
    )
    assert "must be a .csv" in text
