"""Scores of classes, from the samples that real models of each kind return."""

import pytest
import torch
from torch import nn

pytest.importorskip("mmseg")

from mmengine.config import ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from mmpretrain.structures import DataSample
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

from mmwood.engine.class_scores import class_scores, surest

NAMES = ("background", "disc", "square")
HEAD = dict(type="FCNHead", in_channels=8, channels=8, num_convs=1, num_classes=3)
IMAGE = torch.randn(1, 3, 32, 40, generator=torch.Generator().manual_seed(1))
METAINFO = dict(ori_shape=(30, 44), img_shape=(32, 40))
SOFTMAX = dict(type="CrossEntropyLoss")
SIGMOID = dict(type="CrossEntropyLoss", use_sigmoid=True)


@pytest.fixture
def segmentor():
    """A network with a head of some changes."""
    init_default_scope("mmseg")

    def build(**head):
        torch.manual_seed(0)
        backbone = dict(
            type="ResNet",
            depth=18,
            stem_channels=8,
            base_channels=8,
            num_stages=1,
            strides=(1,),
            dilations=(1,),
            out_indices=(0,),
        )
        config = dict(
            type="EncoderDecoder",
            backbone=backbone,
            decode_head=HEAD | head,
            test_cfg=ConfigDict(mode="whole"),
        )
        model = MODELS.build(config).eval()
        # Far from equal probabilities.
        final = model.decode_head
        final.conv_seg.weight.data.normal_(std=3)
        with torch.no_grad():
            mean = model.encode_decode(IMAGE, [METAINFO]).mean((0, 2, 3))
        final.conv_seg.bias.data -= mean
        return model

    return build


@torch.no_grad()
def predict(model) -> tuple[SegDataSample, torch.Tensor]:
    """A sample of a model, and its logits at the size of the image."""
    (sample,) = model.predict(IMAGE, [SegDataSample(metainfo=METAINFO)])
    logits = model.encode_decode(IMAGE, [METAINFO])
    logits = nn.functional.interpolate(logits, (30, 44), mode="bilinear")[0]
    return sample, logits.double()


def test_scores_of_a_softmax(segmentor):
    model = segmentor()
    sample, logits = predict(model)
    exps = logits.exp()
    p = exps / exps.sum(0)
    expected = torch.stack([p[c].max() for c in (1, 2)])
    scores = class_scores(model, NAMES)
    assert scores.names == ["disc", "square"]
    assert scores.rule == dict(score="peak", background="background")
    torch.testing.assert_close(scores(sample), expected, rtol=0, atol=1e-5)
    assert scores(sample).dtype == torch.double
    area = class_scores(model, NAMES, "area")
    labels = logits.argmax(0)
    expected = torch.stack([(labels == c).double().mean() for c in (1, 2)])
    assert 0 < expected.sum() < 1
    assert torch.equal(area(sample), expected)
    # Any class may be the background, or none.
    scores = class_scores(model, ("Background", "x", "y"), background="y")
    assert scores.names == ["Background", "x"]
    torch.testing.assert_close(scores(sample)[0], p[0].max(), rtol=0, atol=1e-5)
    scores = class_scores(model, ("x", "y", "z"))
    assert scores.names == ["x", "y", "z"]
    assert scores.rule["background"] is None
    assert len(scores(sample)) == 3


def test_scores_of_sigmoids(segmentor):
    model = segmentor(loss_decode=[SIGMOID, dict(type="DiceLoss")])
    sample, logits = predict(model)
    scores = class_scores(model, NAMES)(sample)
    expected = torch.sigmoid(logits[1:]).flatten(1).max(dim=1).values
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    # The loss of most medical configs, which takes a softmax.
    model = segmentor(loss_decode=[SOFTMAX, dict(type="DiceLoss")])
    sample, logits = predict(model)
    expected = logits.softmax(0)[1:].flatten(1).max(dim=1).values
    scores = class_scores(model, NAMES)(sample)
    torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("names", [("disc",), ("ground", "disc")])
def test_scores_of_one_channel(segmentor, names):
    model = segmentor(num_classes=2, out_channels=1, threshold=0.3, loss_decode=SIGMOID)
    sample, logits = predict(model)
    p = torch.sigmoid(logits[0])
    peak, area = (class_scores(model, names, rule) for rule in ("peak", "area"))
    assert peak.names == area.names == ["disc"]
    torch.testing.assert_close(peak(sample), p.max()[None], rtol=0, atol=1e-5)
    assert 0 < area(sample) < 1
    expected = (p > 0.3).double().mean()[None]
    torch.testing.assert_close(area(sample), expected, rtol=0, atol=1e-3)
    if len(names) == 2:
        other = class_scores(model, names, background="disc")
        assert other.names == ["ground"]
        expected = (1 - p).max()[None]
        torch.testing.assert_close(other(sample), expected, rtol=0, atol=1e-5)


def test_segmentation_networks_that_are_refused(segmentor):
    model = segmentor()
    sample, _ = predict(model)
    with pytest.raises(ValueError, match=r"3 channels, but 2 class names are known"):
        class_scores(model, NAMES[:2])(sample)
    with pytest.raises(ValueError, match=r"^--background must be 'background', 'disc'"):
        class_scores(model, NAMES, background="sky")
    with pytest.raises(ValueError, match=r"^--score must be 'peak' or 'area'"):
        class_scores(model, NAMES, "mean")
    with pytest.raises(ValueError, match="knows no class but 'background'"):
        class_scores(model, NAMES[:1])
    with pytest.raises(ValueError, match="predictions of EncoderDecoder have none"):
        class_scores(model, NAMES)(SegDataSample())
    # Masks of queries, as in Mask2Former, are trained beside their classes.
    model = segmentor(loss_decode=[SOFTMAX, SIGMOID])
    with pytest.raises(ValueError, match="no logits of classes: use --score area"):
        class_scores(model, NAMES)
    sample, _ = predict(model)
    assert len(class_scores(model, NAMES, "area")(sample)) == 2
    model = segmentor()
    del model.decode_head.loss_decode
    with pytest.raises(ValueError, match="of a FCNHead are no logits"):
        class_scores(model, NAMES)


def test_scores_of_classifiers_and_detectors():
    model = nn.Identity()
    scores = class_scores(model, NAMES)
    assert scores.names == [*NAMES]
    assert scores.rule == {}
    sample = DataSample().set_pred_score(torch.tensor([0.7, 0.2, 0.1]))
    assert scores(sample)[0] == torch.tensor(0.7).double()
    with pytest.raises(ValueError, match=r"shape \(3,\), but 2 class names"):
        class_scores(model, NAMES[:2])(sample)
    with pytest.raises(ValueError, match="predictions of Identity have none"):
        scores(DataSample())
    for options in (dict(rule="peak"), dict(background="disc")):
        with pytest.raises(ValueError, match="are for segmentation networks, and the"):
            class_scores(model, NAMES, **options)

    generator = torch.Generator().manual_seed(0)
    for count in (0, 1, 9):
        boxes = InstanceData(
            scores=torch.rand(count, generator=generator),
            labels=torch.randint(0, 3, (count,), generator=generator),
        )
        sample = DataSample(pred_instances=boxes)
        expected = [
            max(boxes.scores[boxes.labels == c].tolist(), default=0) for c in range(3)
        ]
        assert scores(sample).tolist() == expected
    for label in (-1, 3):
        with pytest.raises(ValueError, match=f"labels are {label} to {label}, but 3"):
            surest(torch.tensor([0.5]), torch.tensor([label]), 3)
