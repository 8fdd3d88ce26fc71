"""The examples of docs/own_method.md, in real trainings."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mmwood.fileio.files import files_by_id
from mmwood.fileio.label_folder import PSEUDO_LABELS, LabelFolder
from mmwood.fileio.labels import BIASED, read_label_png, save_label_png

pytest.importorskip("mmpretrain")

PAGE = Path(__file__).parents[2] / "docs/own_method.md"
BLOCK = re.compile(r"`(my_\w+\.py)`:\n\n```python\n(.*?)```", re.S)
BLOCKS = dict(BLOCK.findall(PAGE.read_text()))


def test_examples_are_short():
    assert len(BLOCKS) == 7
    for text in BLOCKS.values():
        assert len(text.splitlines()) < 30


@pytest.mark.slow
@pytest.mark.parametrize("name", ["loss", "pooling"])
def test_training_with_the_page_s_example(name, wood_config, run_tool, tmp_path):
    (tmp_path / f"my_{name}.py").write_text(BLOCKS[f"my_{name}.py"])
    config = BLOCKS[f"my_{name}_config.py"]
    config, count = re.subn(r'_base_ = ".*"', f'_base_ = "{wood_config}"', config)
    assert count == 1
    (tmp_path / f"my_{name}_config.py").write_text(config)
    text = run_tool("train.py", f"my_{name}_config.py", "--no-validate")
    state = torch.load(
        tmp_path / f"work_dirs/my_{name}_config/epoch_1.pth",
        map_location="cpu",
        weights_only=False,
    )["state_dict"]
    assert [key for key in state if key.startswith("head.")] == [
        "head.in_centers",
        "head.ood_centers",
        "head.classifier.weight",
    ]
    found = re.findall(r" (?:loss|cosine)_away: (\S+)", text)
    if name == "loss":
        values = [float(value) for value in found]
        assert len(values) == 6
        # The loss, its weight included, and the cosine.
        assert values[0] == pytest.approx(0.2 * values[1], abs=1e-3)
        assert values[0] != 0
    else:
        assert not found
        assert " loss_ood_distance: " in text


@pytest.mark.slow
def test_the_page_s_filter_and_teacher(
    segmentor_config, voc_folder, run_tool, tmp_path
):
    """Specks are taken out of masks, and a training has a teacher for them."""
    irn = LabelFolder(tmp_path / "work_dirs/irn/pseudo_labels")
    masks = files_by_id(voc_folder / "SegmentationClass")
    description = dict(format=PSEUDO_LABELS, classes=["disc", "square", "stripe"])
    for name, path in masks.items():
        label = read_label_png(path)
        label[:3, :4] = 2
        save_label_png(label, irn.label(name))
    irn.finish(description, len(masks))
    filtered = tmp_path / "work_dirs/no_specks"
    (tmp_path / "my_filter.py").write_text(BLOCKS["my_filter.py"])
    command = [sys.executable, "my_filter.py", str(irn.root), str(filtered)]
    # A second time it finds its own folder.
    for _ in range(2):
        subprocess.run(command, cwd=tmp_path, check=True)
    for name in masks:
        before, after = (
            read_label_png(LabelFolder(root).label(name))
            for root in (irn.root, filtered)
        )
        changed = before != after
        assert (after[:3, :4] == BIASED).all() or (before == 2).sum() >= 50
        assert (after[changed] == BIASED).all()
    config = BLOCKS["my_teacher_config.py"]
    config = re.sub(r'_base_ = ".*"', f'_base_ = "{segmentor_config}"', config)
    config = config.replace('"work_dirs/', f'"{tmp_path}/work_dirs/')
    config = config.replace("begin_iter=1000", "begin_iter=0")
    config += "default_hooks.update(logger=dict(interval=1))\n"
    (tmp_path / "my_teacher_config.py").write_text(config)
    text = run_tool("train.py", "my_teacher_config.py", "--no-validate")
    assert " teacher_given_back: " in text
