"""Masks that a person reviews in Chromium, and a training without what is rejected."""

import csv
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_processes import tool_environment

from mmwood.fileio.candidates import read_manifest
from mmwood.fileio.labels import VOID, read_label_png

pytestmark = pytest.mark.slow

TOOLS = Path(__file__).parents[2] / "tools"
YELLOW = (255, 214, 0)


@pytest.fixture
def labels(score_folder: Path, voc_folder: Path) -> Path:
    """A folder of pseudo labels with score maps, in the test's folder."""
    shutil.copytree(voc_folder / "SegmentationClass", score_folder / "labels")
    return score_folder


@pytest.fixture
def serve(tmp_path):
    """Start the page; gives its process and its address."""
    pytest.importorskip("nicegui", reason="the review app needs the extra `review`")
    started = []

    def start(*arguments: object):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        tool = [TOOLS / "review_masks.py", *arguments, "--port", port, "--no-browser"]
        # NiceGUI behaves in another way where it sees a test, or no main process.
        environment = tool_environment()
        del environment["PYTEST_CURRENT_TEST"]
        command = [sys.executable, "-W", "ignore", *map(str, tool)]
        started.append(subprocess.Popen(command, cwd=tmp_path, env=environment))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and started[-1].poll() is None:
            with suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                return started[-1], f"http://127.0.0.1:{port}"
            time.sleep(0.05)
        raise RuntimeError(f"{tool} did not start: {started[-1].poll()}")

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.wait()


def open_tab(browser, url: str):
    page = browser.new_context(viewport=dict(width=1280, height=900)).new_page()
    page.errors = []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.goto(url)
    page.wait_for_selector(".card.focused")
    return page


def wait_for(page, **expected: str) -> None:
    """Wait until the cards of these rows have these states, and the others none."""
    page.wait_for_function(
        """expected => [...document.querySelectorAll(".review-grid .card")].every(
            card => card.classList.contains(expected[card.dataset.row] || "unseen"))""",
        arg={name.removeprefix("row"): state for name, state in expected.items()},
    )


def states(path: Path) -> dict[tuple[str, str], str]:
    return {
        (Path(row.image).stem, row.class_name): row.state
        for _, row in read_manifest(path)
    }


def test_masks_are_reviewed_and_a_training_takes_the_result(
    labels, voc_folder, segmentor_config, serve, browser, run_tool, tmp_path
):
    options = (labels, "--images", voc_folder / "JPEGImages", "--out", "review.csv")
    process, url = serve(*options)
    out = tmp_path / "review.csv"
    order = [*states(out)]
    page = open_tab(browser, url)
    text = page.inner_text("body")
    assert "class is right" in text
    assert "class is wrong" in text
    assert "Tinted: other classes" in text
    for word in ("no object", "usable", "wanted", "positive rate", "candidate"):
        assert word not in text
    # Of all classes, the least confident first, its class in bold.
    cards = page.locator(".review-grid .card")
    assert cards.count() == len(order)
    assert page.locator(".card .line b").all_inner_texts() == [c for _, c in order]
    assert "confidence 0." in cards.first.get_attribute("aria-label")
    page.wait_for_function(
        """() => [...document.querySelectorAll(".card img")].every(
            image => image.complete && image.naturalWidth > 0)"""
    )
    page.keyboard.press("k")
    page.keyboard.press("r")
    wait_for(page, row0="kept", row1="rejected")
    # All rows of an image of several classes, by one key; undone as one decision.
    names = [name for name, _ in order]
    image = next(n for n in names[2:] if names.count(n) == 2 and n not in names[:2])
    both = [row for row, name in enumerate(names) if name == image]
    cards.nth(both[0]).locator("img").click()
    decided = {f"row{row}": "rejected" for row in both}
    page.keyboard.press("x")
    wait_for(page, row0="kept", row1="rejected", **decided)
    page.keyboard.press("u")
    wait_for(page, row0="kept", row1="rejected")
    page.wait_for_selector(f'.card.focused[data-row="{both[0]}"]')
    page.keyboard.press("x")
    wait_for(page, row0="kept", row1="rejected", **decided)
    left = 1 + (names.count(names[1]) == 1)
    page.get_by_text(f"→ {left} image").wait_for()
    # The image alone, and large.
    page.keyboard.press("c")
    page.locator(".note", has_text="without the mask of").wait_for()
    page.keyboard.press("c")
    page.keyboard.press("Enter")
    large = page.locator(".review-large")
    assert "Reject image" in large.inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    page.get_by_text("the class is wrong here").wait_for()
    assert page.errors == []
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    found = states(out)
    assert found[order[0]] == "kept"
    assert {key for key, state in found.items() if state == "rejected"} == {
        order[1],
        *(order[row] for row in both),
    }

    said = run_tool(
        *("exclude_masks.py", labels, "--exclude", "review.csv"),
        *(
            "--out",
            "reviewed",
            "--list",
            f"{voc_folder}/ImageSets/Segmentation/train.txt",
        ),
    )
    assert f"reviewed: {left} images left out" in said
    listed = (tmp_path / "reviewed/images.txt").read_text().split()
    assert image not in listed
    assert len(listed) == 6 - left
    assert (read_label_png(tmp_path / f"reviewed/labels/{image}.png") == VOID).all()
    dataset = "train_dataloader.dataset"
    text = run_tool(
        *("train.py", segmentor_config, "--work-dir", "work", "--cfg-options"),
        f"{dataset}.data_prefix.seg_map_path={tmp_path}/reviewed/labels",
        f"{dataset}.ann_file={tmp_path}/reviewed/images.txt",
    )
    assert "nan" not in text
    assert (tmp_path / "work/iter_1.pth").is_file()


def test_the_pictures_are_masks_of_images_of_any_depth(serve, tmp_path):
    rasterio = pytest.importorskip("rasterio", reason="bands need the extra `bands`")
    from rasterio.errors import NotGeoreferencedWarning

    (tmp_path / "images").mkdir()
    values = np.zeros((4, 30, 40), dtype=np.uint16)
    values[2] = 4000
    with (
        pytest.warns(NotGeoreferencedWarning),
        rasterio.open(
            tmp_path / "images/a.tif", "w", "GTiff", 40, 30, 4, dtype="uint16"
        ) as file,
    ):
        file.write(values)
    label = np.zeros((30, 40), dtype=np.uint8)
    label[10:20, 10:30] = 1
    (tmp_path / "masks").mkdir()
    Image.fromarray(label).save(tmp_path / "masks/a.png")
    process, url = serve(
        *("masks", "--images", "images", "--classes", "disc", "--out", "review.csv"),
        *("--bands", 3, 2, 1, 4, "--levels", 0, 4000),
    )
    pictures = {}
    for kind in ("small", "large", "map"):
        with urllib.request.urlopen(f"{url}/picture/{kind}/0") as answer:
            pictures[kind] = np.array(Image.open(io.BytesIO(answer.read())))
    assert pictures["small"].shape == (270, 360, 3)
    assert pictures["large"].shape == (600, 800, 3)
    # Red within the class, grey beside it; alone it is red everywhere.
    assert pictures["large"][300, 400].tolist() == pytest.approx([255, 0, 0], abs=9)
    assert np.ptp(pictures["large"][30, 30].astype(int)) < 9
    assert pictures["map"][30, 30].tolist() == pytest.approx([255, 0, 0], abs=9)
    assert (np.abs(pictures["large"].astype(int) - YELLOW).max(axis=2) < 60).any()
    assert json.loads((tmp_path / "review.json").read_text())["images"] == "images"
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0


def test_predictions_come_in_the_order_of_their_table(
    network_folder, voc_folder, run_tool, tmp_path
):
    from mmwood.converters.mask_review import make_mask_review, open_masks

    images = voc_folder / "JPEGImages"
    run_tool("predict.py", network_folder, images, "--out", "predicted")
    masks = open_masks(tmp_path / "predicted")
    make_mask_review(masks, images, tmp_path / "review.csv")
    with (tmp_path / "predicted/predictions.csv").open() as file:
        table = [row for row in csv.DictReader(file) if row["class"] != "background"]
    expected = {(r["image"], r["class"]): float(r["confidence"]) for r in table}
    assert expected
    rows = [row for _, row in read_manifest(tmp_path / "review.csv")]
    found = {(Path(r.image).name, r.class_name): r.probability for r in rows}
    assert found == pytest.approx(expected, abs=1e-4)
    assert sorted(found.values()) == list(found.values())


def test_what_is_wrong_is_named_at_the_start(labels, voc_folder, call_main, tmp_path):
    pytest.importorskip("nicegui", reason="the review app needs the extra `review`")
    tool = ("review_masks.py", labels, "--out", "review.csv", "--port", 0)
    images = ("--images", voc_folder / "JPEGImages")
    said = call_main(*tool, "--images", "none", fails=True)
    assert said == "--images: there is no folder none"
    assert "at least 1" in call_main(*tool, *images, "--page-size", 0, fails=True)
    said = call_main(*tool, *images, "--classes", "disc", fails=True)
    assert said.startswith("--classes: ['disc'] are not those of")
    assert "bands" in call_main(*tool, *images, "--bands", 0, fails=True)
    Image.new("L", (9, 9)).save(labels / "labels/image_0.png")
    said = call_main(*tool, *images, fails=True)
    assert re.search(
        r"image_0.png has \(W, H\) = \(9, 9\), its image .* \(48, 40\)", said
    )
    assert not (tmp_path / "review.csv").exists()


def test_a_review_of_masks_is_none_of_candidates(
    labels, voc_folder, tmp_path, call_main
):
    pytest.importorskip("nicegui", reason="the review app needs the extra `review`")
    from mmwood.converters.mask_review import make_mask_review, open_masks
    from mmwood.datasets import OoDDataset
    from mmwood.ood.results import check_manifest

    out = tmp_path / "review.csv"
    make_mask_review(open_masks(labels), voc_folder / "JPEGImages", out)
    for options in (("--auto", "--keep-rest"), ("--port", 0)):
        said = call_main("review_ood.py", "review.csv", *options, fails=True)
        assert said.startswith("review.csv is a review of masks")
    with pytest.raises(ValueError, match=r"ann_file: .* is a review of masks"):
        OoDDataset(ann_file=str(out), classes=["disc"])
    with pytest.raises(ValueError, match=r"--out: .* is a review of masks"):
        check_manifest(out, update=True)
    said = call_main(
        *("exclude_masks.py", labels, "--exclude", "none.csv", "--out", "x"), fails=True
    )
    assert said == "--exclude: there is no file none.csv"
