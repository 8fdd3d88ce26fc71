"""The examples of docs/own_method.md, in real trainings."""

import re
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmpretrain")

PAGE = Path(__file__).parents[2] / "docs/own_method.md"
BLOCK = re.compile(r"`(my_\w+\.py)`:\n\n```python\n(.*?)```", re.S)
BLOCKS = dict(BLOCK.findall(PAGE.read_text()))


def test_examples_are_short():
    assert len(BLOCKS) == 4
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
