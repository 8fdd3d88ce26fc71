"""The figure of the README: its numbers, and that it is drawn."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from mmwood.fileio.labels import save_label_png

SCRIPT = Path(__file__).parents[2] / "docs/figures/ia_iou_cases.py"


@pytest.mark.slow
def test_figure(tmp_path, monkeypatch, capsys):
    figure = runpy.run_path(str(SCRIPT))
    # Sheep of 4, 12 and 6 pixels, two of which touch, and void; another class.
    gt = np.zeros((2, 8, 10), dtype=np.uint8)
    ids = np.zeros_like(gt)
    for number, place in enumerate(((0, 0, 2, 2), (0, 2, 4, 3), (1, 4, 2, 3)), start=1):
        image, left, height, width = place
        at = (image, slice(1, 1 + height), slice(left, left + width))
        gt[at], ids[at] = 5, number
    gt[0, 7], ids[0, 7] = 3, 9
    gt[:, 0] = ids[:, 0] = 255
    case = figure["removal"](list(zip(gt, ids)))
    # Of 22 pixels 4, 6 and 12 are lost; of three instances one at each step.
    assert case.iou == pytest.approx([100, 1800 / 22, 1200 / 22, 0])
    assert case.ia_iou == pytest.approx([100, 200 / 3, 100 / 3, 0])
    assert "3 instances in 2 images" in case.title
    # Both images change once, the second one more.
    assert [(states == 2).sum() for _, states in case.pictures.values()] == [0, 0, 6]

    for name, area in (("large", 3072), ("small", 64)):
        case = figure["growth"](name)
        covered = np.linspace(0, 1, 9)
        assert case.x == pytest.approx(100 * covered)
        # Of two instances one is covered so far and the other is missed.
        assert case.ia_iou == pytest.approx(50 * covered)
        assert case.iou == pytest.approx(100 * covered * area / 3136)

    # Until it reaches the small one, 10 columns away, the large one alone pays.
    case = figure["merging"]()
    wrong = np.array(case.x)
    whole = 3136 / (3136 + wrong)
    alone = np.where(wrong < 480, (3072 / (3072 + wrong) + 1) / 2, whole)
    assert case.iou == pytest.approx(100 * whole)
    assert case.ia_iou == pytest.approx(100 * alone)
    case = figure["stray"]()
    assert case.iou == pytest.approx(100 * 3136 / (3136 + np.array(case.x)))
    assert case.ia_iou == pytest.approx([100] * 9)
    case = figure["pieces"]()
    # A cut takes 4 columns of 48 pixels.
    lost = 192 * np.arange(9)
    assert case.iou == pytest.approx(100 * (1 - lost / 3136))
    assert case.ia_iou == pytest.approx(100 * (1 - lost / 3072 + 1) / 2)
    for step, (_, states) in case.pictures.items():
        assert ndimage.label(states == 1)[1] == case.x[step] + 1

    for folder, maps in (("SegmentationClass", gt), ("SegmentationObject", ids)):
        for number, pixels in enumerate(maps):
            save_label_png(pixels, tmp_path / folder / f"{number}.png")
    out = tmp_path / "cases.png"
    monkeypatch.setattr(sys, "argv", ["", str(tmp_path), "--out", str(out)])
    figure["main"]()
    table = " ".join(capsys.readouterr().out.replace("|", " ").split())
    assert "removal 1 gone 81.82 66.67" in table
    with Image.open(out) as image:
        pixels = np.asarray(image.convert("RGB"))
    found, missed, wrong = (
        (pixels == [int(colour[i : i + 2], 16) for i in (1, 3, 5)]).all(axis=2).sum()
        for colour in np.array(figure["STATE_COLOURS"])[[1, 2, 4]]
    )
    assert min(found, missed, wrong) > 1000
