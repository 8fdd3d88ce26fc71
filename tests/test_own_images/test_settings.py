"""The rules from data and machine to settings, as a table."""

from dataclasses import replace

import pytest

from mmwood.own_images.backbones import KNOWN, find_backbone
from mmwood.own_images.settings import Facts, choose_settings, default_backbone

pytest.importorskip("torchvision")

FACTS = Facts(classes=("boat", "train"), long_sides=(320,) * 1149, untagged=127)
H200 = dict(gpu="H200", memory=141.0)


def settings(short=False, **changes):
    facts = replace(FACTS, **changes)
    names = default_backbone(facts.gpu)
    return choose_settings(facts, *map(find_backbone, names), short=short)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        # mini_voc's hand-written settings.
        (
            {},
            dict(long_side=320, crop=256, batch=16, network_batch=8, epochs=5)
            | dict(wood_epochs=1, irn_epochs=3, iterations=500, walk_steps=64)
            | dict(clusters=31, soften=None, wood=True),
        ),
        (dict(untagged=200), dict(clusters=50)),
        # VOC on a GPU: the published lengths, K and batch.
        (
            dict(long_sides=(500,) * 10582, untagged=5190, **H200),
            dict(long_side=500, crop=384)
            | dict(batch=16, epochs=5, wood_epochs=5, irn_epochs=3, clusters=50)
            | dict(iterations=20000, walk_steps=256),
        ),
        # Large photographs.
        (dict(long_sides=(4000,) * 60), dict(long_side=320, epochs=50, irn_epochs=50)),
        (dict(long_sides=(4000,) * 60, **H200), dict(long_side=512, crop=416)),
        # The lower median.
        (
            dict(long_sides=(100, 200, 300, 4000)),
            dict(long_side=200, crop=160, batch=4),
        ),
        (dict(long_sides=(20,) * 9), dict(long_side=20, crop=32, walk_steps=16)),
        # Memory.
        (dict(memory=7.0), dict(batch=8, network_batch=4)),
        (dict(memory=3.0), dict(batch=4, network_batch=2)),
        (
            dict(long_sides=(512,) * 99, gpu="small", memory=8.0),
            dict(batch=8, network_batch=5),
        ),
        # No OoD images, or too few.
        (dict(untagged=0), dict(wood=False, clusters=0)),
        (dict(untagged=3), dict(wood=False, clusters=0)),
        (dict(untagged=4), dict(wood=True, clusters=1)),
        (dict(untagged=0, candidates=1810), dict(wood=True, clusters=45)),
        # Fewer classes than the learning rates are for, and smaller batches. One class
        # learns from the images without a tag, too.
        ({}, dict(rate=0.1)),
        (dict(classes=("a",) * 20), dict(rate=1.0)),
        (dict(classes=("a",) * 81), dict(rate=1.0)),
        (dict(classes=("a", "b"), memory=7.0), dict(rate=0.05)),
        (dict(classes=("a",), untagged=10000), dict(rate=0.05, epochs=5)),
        (
            dict(classes=("a",), long_sides=(320,) * 160, untagged=160),
            dict(epochs=18, irn_epochs=22),
        ),
        # Soft OoD images.
        (dict(ood_long_side=128), dict(soften=(96, 128))),
        (dict(ood_long_side=240), dict(soften=None)),
        (dict(ood_long_side=128, untagged=0), dict(soften=None)),
    ],
)
def test_rules(facts, expected):
    found = settings(**facts)
    assert {name: getattr(found, name) for name in expected} == expected


def test_every_choice_has_a_reason():
    rows = {row.name: row for row in settings(ood_long_side=128, masks=9).rows}
    assert all(row.value and row.reason for row in rows.values())
    assert rows["long side"].reason == (
        "half of the images have a long side of 320 or less; at most 320 on a CPU"
    )
    assert rows["W-OoD"].reason == "127 images without a tag, which need no review"
    left_out = {row.name: row for row in settings(untagged=0).rows}
    assert left_out["W-OoD"].value == "left out"
    assert "neither images without a tag nor --candidates" in left_out["W-OoD"].reason
    assert "epochs of W-OoD" not in left_out


def test_short():
    found = settings(short=True)
    lengths = (found.epochs, found.wood_epochs, found.irn_epochs, found.iterations)
    assert lengths == (1, 1, 1, 4)


def test_backbones():
    assert find_backbone("resnet18").level_channels == (64, 64, 128, 256, 512)
    found = find_backbone("resnet50")
    assert "98 MB, https://download.pytorch.org/models/resnet50-" in found.weights.text
    with pytest.raises(ValueError, match=f"there are {', '.join(KNOWN)} and timm:NAME"):
        find_backbone("resnet5")


def test_wide_resnet38_needs_its_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"wide_resnet38\.pth: make it with"):
        find_backbone("wide-resnet38")


def test_timm_models_show_their_levels_in_one_pass():
    pytest.importorskip("timm")
    # As the project's own config has them, but for the last level.
    own, found = map(
        find_backbone, ("efficientnet-lite0", "timm:tf_efficientnet_lite0")
    )
    assert found.levels[:4] == own.levels[:4]
    assert found.level_channels[:4] == own.level_channels[:4]
    assert found.channels == own.channels
    assert found.preprocessor == dict(mean=[127.5] * 3, std=[127.5] * 3)
    with pytest.raises(ValueError, match=r"gives no maps|of any size"):
        find_backbone("timm:vit_tiny_patch16_224")
    with pytest.raises(ValueError, match="timm has no model 'resnet18x'"):
        find_backbone("timm:resnet18x")
