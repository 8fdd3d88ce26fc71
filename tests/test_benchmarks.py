"""The benchmarks at their smallest: that they run and compare like with like."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.image_features import write_features

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def python(tmp_path: Path):
    """Run a program in the repository; gives its exit code and what it printed."""

    def run(program: Path, *arguments: object) -> tuple[int, str]:
        result = subprocess.run(
            [sys.executable, "-W", "ignore", str(program), *map(str, arguments)],
            cwd=FOLDER.parent,
            env=dict(os.environ, PYTHONPATH=str(FOLDER.parent), OMP_NUM_THREADS="1"),
            capture_output=True,
            text=True,
            check=False,
        )
        return result.returncode, result.stdout + result.stderr

    return run


def test_cam_extraction_gives_what_the_plain_loop_gives(python, tmp_path):
    pytest.importorskip("mmpretrain")
    found = tmp_path / "found.json"
    code, text = python(
        *(FOLDER / "cam_extraction.py", "--config", "configs/demo/classifier.py"),
        *("--images", 3, "--size", 40, 56, "--repeats", 1, "--json", found),
    )
    # The program itself compares what the two wrote, and fails where it differs.
    assert code == 0, text
    assert "labels differ in 0.0000 % of the pixels" in text
    (result,) = json.loads(found.read_text())
    assert result["repeats"] == 1
    ratio = result["ours_median"] / result["reference_median"]
    assert result["ratio"] == pytest.approx(ratio)


def test_adv_cam_gives_what_the_published_loop_gives(python, tmp_path):
    pytest.importorskip("mmpretrain")
    found = tmp_path / "found.json"
    code, text = python(
        *(FOLDER / "adv_cam.py", "--config", "configs/demo/classifier.py", "--images"),
        *(2, "--size", 40, 56, "--steps", 3, "--repeats", 1, "--json", found),
    )
    assert code == 0, text
    assert float(re.search(r"double precision by (\S+)", text)[1]) < 1e-9
    (result,) = json.loads(found.read_text())
    assert result["reference"] == "published loop"


def test_hosts_are_compared_with_plain_maps(python, tmp_path):
    pytest.importorskip("mmpretrain")
    found = tmp_path / "found.json"
    code, text = python(
        *(FOLDER / "hosts.py", "--demo", "--images", 2, "--crop", 64),
        *("--size", 40, 56, "--repeats", 1, "--json", found),
    )
    assert code == 0, text
    training = ["CAM, W-OoD", "SEAM", "SEAM, W-OoD"]
    names = [f"{name}, an image in training" for name in training]
    names += [f"{name}, maps of an image" for name in ("AdvCAM", "SEAM")]
    results = json.loads(found.read_text())
    assert [result["what"] for result in results] == names
    # Twenty-seven steps back and forth against one pass.
    assert results[3]["ratio"] > 10


@pytest.mark.long
def test_exported_networks_are_compared_with_torch(python, tmp_path):
    pytest.importorskip("mmseg")
    pytest.importorskip("onnxruntime")
    found = tmp_path / "found.json"
    code, text = python(FOLDER / "export.py", "--images", 2, "--json", found)
    assert code == 0, text
    differ = re.search(r"2 images of JPEGImages: (\d+) of [\d,]+ labels differ", text)
    assert int(differ[1]) <= 2
    results = json.loads(found.read_text())
    assert [result["repeats"] for result in results] == [2, 2]


def test_known_reviews_are_replayed(python, tmp_path):
    rng = np.random.default_rng(0)
    rows, features = [], []
    for number in range(120):
        sha256, kind = f"{number:064d}", number % 3
        # Kind 0 is kept, 1 is not, and of 2 the image that is least like the others.
        state = "kept" if kind == 0 or number == 2 else "rejected"
        rows.append(
            Candidate(f"{number}.jpg", "disc", 1 - number / 200, 1, state, sha256)
        )
        z = 30 * np.eye(3)[kind] + rng.normal(size=3) + 9 * (number == 2)
        features.append((sha256, z.astype("<f2").tobytes()))
    rows.append(Candidate("unseen.jpg", "disc", 0.1, 1, "unseen", "9" * 64))
    write_manifest(tmp_path / "ood.csv", rows)
    write_features(tmp_path / "ood.npz", 120, 3, features)
    found = tmp_path / "found.json"
    program = FOLDER / "review_orders.py"
    code, text = python(program, tmp_path / "ood.csv", "--json", found)
    assert code == 0, text
    assert "120 rows of 120 images, 41 of them usable; 3 groups" in text
    # Two samples of 12, and all of the mixed group.
    assert re.search(r"\| groups +\| +\d+ +\| +64 +\| +41 +\| +0 ", text)
    # 37 of 41; every third row is one, and the third row as well.
    assert re.search(r"\| hardest first +\| +106 +\| +120 +\| +41 +\| +0 ", text)
    assert [result["ratio"] for result in json.loads(found.read_text())][-1] < 0.6


@pytest.mark.long
def test_rates_of_stages(python, tmp_path):
    """Those that read configs' pipelines by the names of their steps, and the lists."""
    pytest.importorskip("mmpretrain")
    found = tmp_path / "found.json"
    stages = ("labels_pamr", "irn", "lists")
    code, text = python(
        *(FOLDER / "stage_rates.py", "--images", 1, "--repeats", 1),
        *("--stages", *stages, "--json", found),
    )
    assert code == 0, text
    assert json.loads(found.read_text()).keys() >= {"labels_pamr", "irn", "lists"}


def test_run_collects_skips_and_goes_on_after_a_failure(python, tmp_path):
    # A copy beside the configs' folder, with one benchmark that fails.
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    for name in ("run.py", "common.py", "openimages_ood.py"):
        shutil.copy(FOLDER / name, folder)
    (folder / "ia_iou.py").write_text("raise ValueError('of a test')\n")
    program = folder / "run.py"
    absent = '"no_such_module": "review"'
    program.write_text(program.read_text().replace('"nicegui": "review"', absent))
    out = tmp_path / "out"
    names = ("ia_iou", "review_app", "openimages_ood")
    code, text = python(program, *names, "--quick", "--out", out)
    assert code == 1, text
    table = (out / "benchmarks.md").read_text()
    assert table in text
    assert "ia_iou failed: exit code 1: ValueError: of a test" in table
    skipped = "no_such_module is not installed ('review')"
    assert f"review_app skipped: {skipped}" in table
    assert "| openimages_ood | candidates of 20,000 labels, grouped | csv.rea" in table
    content = json.loads((out / "benchmarks.json").read_text())
    assert content["machine"]["torch"]
    assert content["machine"]["mmengine"]
    assert [record["name"] for record in content["benchmarks"]] == list(names)
    (result,) = content["benchmarks"][2]["results"]
    assert result["ratio"] == pytest.approx(
        result["ours_median"] / result["reference_median"]
    )
    assert "csv.reader" in (out / "openimages_ood.log").read_text()

    code, text = python(program, "review_app", "--out", out)
    assert code == 0, text
    code, text = python(program, "nothing")
    assert code == 2
    assert "no benchmarks ['nothing']" in text
