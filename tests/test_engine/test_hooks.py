"""What the hooks refuse when they are built; tests/test_tools runs them for real."""

import pytest

from mmwood.engine import CAMVisualizationHook, PseudoLabelHook


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(threshold=1.0), r"threshold must be in \[0, 1\)"),
        (dict(threshold=-0.1), r"threshold must be in \[0, 1\)"),
        (dict(save_scores="full"), "save_scores must be a list"),
        (dict(save_scores=["half"]), "save_scores must be a list"),
    ],
)
def test_wrong_fields_of_pseudo_labels(options, message):
    with pytest.raises(ValueError, match=message):
        PseudoLabelHook(**options)


def test_wrong_interval_of_pictures():
    with pytest.raises(ValueError, match="interval must be at least 1"):
        CAMVisualizationHook(interval=0)
