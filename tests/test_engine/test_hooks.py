"""What the hooks refuse when they are built; tests/test_tools runs them for real."""

from types import SimpleNamespace

import pytest
import torch
from matplotlib import pyplot
from torch import nn

from mmwood.engine import CAMVisualizationHook, ChannelsLastHook, PseudoLabelHook


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(threshold=1.0), "threshold must be at least 0 and below 1"),
        (dict(threshold=-0.1), "threshold must be at least 0 and below 1"),
        (dict(save_scores="full"), "save_scores must be a list"),
        (dict(save_scores=["half"]), "save_scores must be a list"),
    ],
)
def test_wrong_fields_of_pseudo_labels(options, message):
    with pytest.raises(ValueError, match=f"^mmwood.PseudoLabelHook: .*{message}"):
        PseudoLabelHook(**options)


def test_wrong_interval_of_pictures():
    with pytest.raises(ValueError, match=r"^mmwood\.CAMVisualizationHook: interval"):
        CAMVisualizationHook(interval=0)


@pytest.mark.slow
def test_pictures_take_the_fields_that_stock_tools_set(small_config, build_runner):
    """Those of MMPretrain's test.py --show --show-dir; here without a display."""
    pyplot.switch_backend("agg")
    runner = build_runner(
        small_config,
        "work",
        default_hooks__pseudo_label=None,
        # Without end where somebody can press a key.
        default_hooks__visualization=dict(
            type="mmwood.CAMVisualizationHook",
            enable=True,
            show=True,
            wait_time=0,
            out_dir=str(small_config.parent / "pictures"),
            interval=1,
        ),
    )
    runner.test()
    assert len(list((small_config.parent / "pictures").glob("*.png"))) == 6
    log = next((small_config.parent / "work").glob("*/*.log")).read_text()
    assert log.count("there is no display") == 1


def test_channels_last_leaves_wrapped_models_alone():
    """A wrapper's gradients keep the order that weights had when it was made."""
    hook = ChannelsLastHook()
    for wrap, changed in ((nn.Sequential, True), (nn.DataParallel, False)):
        convolution = nn.Conv2d(3, 4, 3)
        hook.before_train(SimpleNamespace(model=wrap(convolution)))
        order = convolution.weight.is_contiguous(memory_format=torch.channels_last)
        assert order == changed
