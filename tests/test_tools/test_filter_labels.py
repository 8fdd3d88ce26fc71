"""tools/filter_labels.py as a newcomer runs it, wrong input too."""

import json
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip("mmpretrain")

from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.functional.debias import Rule

TOOL = "filter_labels.py"


@pytest.fixture
def arguments(small_config: Path, voc_folder: Path, tmp_path: Path) -> list:
    """A classifier of random weights, and masks as labels."""
    init_default_scope("mmpretrain")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(small_config).model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "weights.pth")
    folder = LabelFolder(tmp_path / "labels")
    for path in (voc_folder / "SegmentationClass").glob("*.png"):
        save_label_png(read_label_png(path), folder.label(path.stem))
    manifest = dict(format=PSEUDO_LABELS, classes=["disc", "square", "stripe"])
    write_json(folder.manifest_path, dict(manifest, complete=True))
    return [small_config, "labels", "--checkpoint", "weights.pth", "--multiple", 16]


def test_the_help_names_all_rules(call_main):
    assert f"{{{','.join(get_args(Rule))}}}" in call_main(TOOL, "--help")


@pytest.mark.slow
def test_labels_tables_and_drawings(arguments, call_main, tmp_path):
    arguments += ["--out", "out", "--features", "features", "--components", 4]
    arguments += ["--show-dir", "drawn", "--interval", 3, "--device", "cpu"]
    text = call_main(TOOL, *arguments)
    assert "out: 6 label maps made, 0 were there" in text
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["filter"] == dict(
        rule="nearest",
        alpha=0.4,
        centers=2,
        background_centers=2,
        center=True,
        nearest=0.05,
        components=4,
        seed=0,
    )
    numbers = manifest["removed"]["square"]
    row = next(line for line in text.splitlines() if line.startswith("| square"))
    share = f"{numbers['removed'] / numbers['pixels']:.1%}"
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    expected = ["square", str(numbers["pixels"]), share, str(numbers["emptied"])]
    assert cells == expected
    before = [
        read_label_png(tmp_path / f"labels/labels/image_{n}.png") for n in range(6)
    ]
    after = [read_label_png(tmp_path / f"out/labels/image_{n}.png") for n in range(6)]
    removed = sum(int((a != b).sum()) for a, b in zip(after, before))
    assert removed == sum(part["removed"] for part in manifest["removed"].values()) > 0
    names = sorted(path.name for path in (tmp_path / "drawn").iterdir())
    assert names == ["image_0.png", "image_3.png"]

    text = call_main(TOOL, *arguments)
    assert "out: 0 label maps made, 6 were there" in text
    text = call_main(TOOL, *arguments, "--nearest", "all", fails=True)
    assert "another filter.nearest (0.05 instead of None)" in text
    text = call_main(TOOL, *arguments, "--nearest", "all", "--no-center", "--overwrite")
    assert "out: 6 label maps made" in text

    # They can be filtered once more: what is removed stays.
    second = [*arguments[:1], "out", *arguments[2:-8], "--out", "again"]
    call_main(TOOL, *[v for v in second if v != "drawn"], "--rule", "otsu")
    for number in range(6):
        first = read_label_png(tmp_path / f"out/labels/image_{number}.png")
        again = read_label_png(tmp_path / f"again/labels/image_{number}.png")
        assert (again[first == 254] == 254).all()
        assert np.isin(again[first != 254], (*range(4), 254, 255)).all()


@pytest.mark.slow
def test_faults_are_told_without_a_traceback(arguments, call_main):
    out = ("--out", "out")
    for wrong, message in (
        (["none.py", *arguments[1:], *out], "there is no file none.py"),
        ([arguments[0], "none", *arguments[2:], *out], "LABELS: there is no none/mani"),
        ([*arguments, *out, "--rule", "max"], "invalid choice: 'max'"),
        (
            [*arguments, *out, "--alpha", 0],
            "--alpha must be a fraction in (0, 1], but is 0",
        ),
        ([*arguments, *out, "--nearest", "most"], "argument --nearest"),
        ([*arguments, *out, "--batch-size", 0], "--batch-size must be at least 1"),
        ([*arguments, *out, "--components", 999], "components is 999, but"),
        ([*arguments[:2], *out], "--checkpoint: name the weights of the backbone"),
        ([*arguments, *out, "--checkpoint", "no.pth"], "--checkpoint: there is no fil"),
        ([*arguments, "--out", "labels"], "--out: labels holds the labels that are to"),
    ):
        text = call_main(TOOL, *wrong, fails=True)
        assert message in text, text[-600:]
        assert "Traceback" not in text
