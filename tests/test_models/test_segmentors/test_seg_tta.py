import copy

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmseg")

from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from mmwood.functional.refine import dense_crf

SIZE = (24, 30)


def segmentor(classes: int = 3) -> ConfigDict:
    return ConfigDict(
        type="EncoderDecoder",
        data_preprocessor=dict(type="SegDataPreProcessor"),
        backbone=dict(type="ResNetV1c", depth=18, stem_channels=4, base_channels=4),
        decode_head=dict(
            type="FCNHead",
            in_channels=32,
            in_index=3,
            channels=4,
            num_classes=max(classes, 2),
            out_channels=classes,
            threshold=0.3 if classes == 1 else None,
            loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=classes == 1),
        ),
        test_cfg=dict(mode="whole"),
    )


def build(scope: str, classes: int = 3, **fields):
    init_default_scope("mmseg")
    return MODELS.build(
        dict(type=f"{scope}.SegTTAModel", module=segmentor(classes), **fields)
    )


@pytest.fixture
def image(tmp_path) -> str:
    """A red half and a blue half."""
    picture = np.zeros((*SIZE, 3), dtype=np.uint8)
    picture[:, :15, 0] = 255
    picture[:, 15:, 2] = 255
    path = tmp_path / "image.png"
    Image.fromarray(picture).save(path)
    return str(path)


def make_views(image: str, classes: int = 3) -> list[SegDataSample]:
    """Two views whose logits are noise but for a lean of each half to a class."""
    generator = torch.Generator().manual_seed(0)
    views = []
    for _ in range(2):
        logits = torch.randn(classes, *SIZE, generator=generator)
        logits[0, :, :15] += 0.5
        logits[-1, :, 15:] += 0.5
        view = SegDataSample(seg_logits=PixelData(data=logits))
        view.set_metainfo(dict(img_path=image, seg_map_path="mask.png"))
        views.append(view)
    return views


@pytest.mark.parametrize("classes", [1, 3])
def test_without_crf_it_is_mmsegs(image, classes):
    found, expected = (
        build(scope, classes).merge_preds([make_views(image, classes)])[0]
        for scope in ("mmwood", "mmseg")
    )
    assert torch.equal(found.pred_sem_seg.data, expected.pred_sem_seg.data)


def test_crf_is_that_of_the_mean_probabilities(image):
    views = make_views(image)
    merged = build("mmwood", crf=dict(iterations=5)).merge_preds([copy.deepcopy(views)])
    probs = torch.stack([view.seg_logits.data.softmax(0) for view in views]).mean(0)
    picture = np.array(Image.open(image))
    expected = dense_crf(
        picture,
        probs.numpy(),
        iterations=5,
        gaussian_sxy=1,
        gaussian_compat=3,
        bilateral_sxy=67,
        bilateral_srgb=3,
        bilateral_compat=4,
    ).argmax(0)
    label = merged[0].pred_sem_seg.data[0].numpy()
    assert (label == expected).all()
    # Noise before, the two halves of the image after.
    assert (label[:, :15] == 0).all()
    assert (label[:, 15:] == 2).all()
    assert (probs.argmax(0).numpy() != expected).mean() > 0.2
    # What metrics read of the image is still there.
    assert merged[0].seg_map_path == "mask.png"


def test_wrong_fields(image, tmp_path):
    with pytest.raises(ValueError, match=r"tta_model\.crf: .* has no option 'sigma'"):
        build("mmwood", crf=dict(sigma=1))
    with pytest.raises(ValueError, match=r"tta_model\.crf: bilateral_srgb must be pos"):
        build("mmwood", crf=dict(bilateral_srgb=0))
    with pytest.raises(ValueError, match="out_channels is 1"):
        build("mmwood", classes=1, crf=dict())
    Image.new("RGB", (30, 25)).save(image)
    with pytest.raises(ValueError, match=r"has \(H, W\) = \(25, 30\), its prediction"):
        build("mmwood", crf=dict()).merge_preds([make_views(image)])
