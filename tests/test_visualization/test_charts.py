import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.fileio.scores import SeedResult, read_seed_result
from mmwood.visualization import charts
from mmwood.visualization.charts import (
    Amount,
    ClassChange,
    amount_curve,
    class_changes,
    save_amount_curve,
    save_class_changes,
    save_embeddings,
)

BASE = [
    dict(background=80.0, cat=40.0, dog=30.0, cow=None),
    dict(background=82.0, cat=44.0, dog=31.0, cow=20.0),
]
OTHER = [
    dict(background=81.0, cat=52.0, dog=24.0, cow=25.0),
    dict(background=83.0, cat=50.0, dog=23.0, cow=25.0),
]


def colours(path: Path) -> set[tuple[int, int, int]]:
    """The colours that more than a few pixels of a picture have."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    found, counts = np.unique(pixels, axis=0, return_counts=True)
    return {tuple(map(int, colour)) for colour in found[counts > 20]}


def rgb(colour: str) -> tuple[int, int, int]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


def test_changes_are_sorted_and_paired():
    changes = class_changes(BASE, OTHER)
    # cow is absent from one run, so it cannot be compared.
    assert list(changes) == ["cat", "background", "dog"]
    # The changes of the pairs are 12 and 6, 1 and 1, -6 and -8.
    assert changes["cat"] == pytest.approx((42, 51, 9, math.sqrt(18)))
    assert changes["background"] == pytest.approx((81, 82, 1, 0))
    assert changes["dog"] == pytest.approx((30.5, 23.5, -7, math.sqrt(2)))


def test_runs_that_do_not_pair_up_have_no_deviation():
    assert class_changes(BASE, OTHER[:1])["cat"] == (42, 52, 10, None)
    assert class_changes(BASE[:1], OTHER[:1])["cat"] == (40, 52, 12, None)


def test_runs_of_different_classes_are_refused():
    with pytest.raises(ValueError, match=r"different classes.*'cow'.*\['cat'\]"):
        class_changes(BASE, [dict(cat=1.0)])


def test_amounts_are_grouped_and_sorted():
    curve = amount_curve([(20, 52.0), (0, 49.0), (20, 53.0), (20, 51.0)])
    zero = Amount(0, [49], 49, None, [49, 49, 49])
    assert curve == [zero, Amount(20, [52, 53, 51], 52, 1, [51.5, 52, 52.5])]


def test_reads_both_thresholds(tmp_path):
    path = tmp_path / "seed_curve.json"
    content = dict(best=dict(mIoU=52.5), configured=dict(mIoU=50))
    content |= dict(class_iou_at_best=BASE[1], class_iou_at_configured=BASE[0])
    path.write_text(json.dumps(content))
    assert read_seed_result(path, "best") == SeedResult(52.5, BASE[1])
    assert read_seed_result(path, "configured") == SeedResult(50.0, BASE[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "TypeError"),
        ("{}", "KeyError: 'class_iou_at_best'"),
        ('{"class_iou_at_best": 3}', "AttributeError"),
        ('{"class_iou_at_best": {"cat": "x"}}', "ValueError"),
        ('{"class_iou_at_best": {"cat": 1}}', "KeyError: 'best'"),
        ('{"class_iou_at_best": {"cat": 1}, "best": {"mIoU": null}}', "TypeError"),
    ],
)
def test_errors_name_the_file(tmp_path, content, message):
    path = tmp_path / "curve.json"
    path.write_bytes(content.encode())
    expected = rf"curve\.json is no seed_curve\.json.*best\.mIoU.*{message}"
    with pytest.raises(ValueError, match=expected):
        read_seed_result(path, "best")
    for broken, message in ((b"{", ":1: not JSON"), (b"\xff", ":1: is not utf-8")):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=rf"curve\.json{message}"):
            read_seed_result(path, "best")
    with pytest.raises(FileNotFoundError, match=r"there is no file .*none\.json"):
        read_seed_result(tmp_path / "none.json", "best")


@pytest.mark.slow
@pytest.mark.parametrize("runs", [1, 2])
def test_bars_have_the_colour_of_their_sign(tmp_path, runs):
    miou = ClassChange(50, 51, 1, None)
    gains, losses = rgb(charts._GAIN), rgb(charts._LOSS)
    changes = class_changes(BASE[:runs], OTHER[:runs])
    save_class_changes(changes, miou, tmp_path / "both.png", "a note")
    assert {gains, losses} <= colours(tmp_path / "both.png")
    changes.pop("dog")
    save_class_changes(changes, miou, tmp_path / "gain.png")
    assert gains in colours(tmp_path / "gain.png")
    assert losses not in colours(tmp_path / "gain.png")


@pytest.mark.slow
@pytest.mark.parametrize(
    "runs",
    [
        [(0, 49.5), (1, 51.5), (20, 52.4), (500, 53.0), (5190, 53.3), (5190, 53.1)],
        [(0, 49.5)],
        [(0, 49.5), (0, 49.9)],
        [(7, 50.0)],
    ],
)
def test_amounts_are_drawn(tmp_path, runs):
    save_amount_curve(amount_curve(runs), tmp_path / "amount.png")
    assert rgb(charts._RUN) in colours(tmp_path / "amount.png")
    curve = amount_curve(runs)
    look = dict(base=curve[:1], spread="quartiles", images="in")
    save_amount_curve(curve, tmp_path / "both.png", **look)
    found = colours(tmp_path / "both.png")
    assert {rgb(charts._BASE), rgb(charts._MEAN)} & found


@pytest.mark.slow
@pytest.mark.parametrize("panels", [1, 2, 4])
def test_embeddings_have_the_colours_of_their_classes(tmp_path, panels):
    points = np.random.default_rng(0).normal(size=(40, 2))
    names = ["train"] * 20 + ["boat"] * 20
    # No OoD image is taken for a boat.
    is_ood = [False] * 10 + [True] * 10 + [False] * 20
    embeddings = {f"epoch_{number}": points for number in range(panels)}
    save_embeddings(embeddings, names, is_ood, tmp_path / "tsne.png")
    found = colours(tmp_path / "tsne.png")
    # A cross is nearly opaque, dots let the page through.
    cross, dot = (
        tuple(round(255 + alpha * (c - 255)) for c in rgb(colour))
        for colour, alpha in zip(charts.CLASS_COLOURS, (0.9, 0.55))
    )
    for expected in (cross, dot):
        assert any(np.abs(np.subtract(expected, c)).max() <= 2 for c in found)
