import pytest
import torch

from mmwood.functional.axes import channels_first, is_channels_last

# (channels, h, w) and the image's (H, W).
MAPS = [
    ((768, 7, 7), (224, 224)),
    ((7, 32, 48), (512, 768)),
    ((64, 2, 3), (64, 96)),
    ((64, 63, 84), (500, 667)),
    ((2048, 32, 32), (500, 500)),
    # Inception's convolutions take the borders away.
    ((2048, 8, 8), (299, 299)),
    ((64, 2, 1), (50, 1)),
    ((64, 1, 2), (1, 50)),
    ((64, 1, 1), (1, 1)),
]


@pytest.mark.parametrize(("shape", "size"), MAPS)
def test_proportions_tell_the_order(shape, size):
    features = torch.randn(2, *shape)
    assert channels_first(features, size) is features
    turned = channels_first(features.permute(0, 2, 3, 1), size)
    assert torch.equal(turned, features)


def test_where_both_orders_fit_the_declared_one_holds():
    size = (384, 384)
    assert not is_channels_last((1, 96, 96, 96), size)
    assert is_channels_last((1, 96, 96, 96), size, "NHWC")
    # And where neither does.
    assert not is_channels_last((1, 4, 50, 900), size)
    assert is_channels_last((1, 4, 50, 900), size, "NHWC")
