import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmpretrain")

from mmpretrain.structures import DataSample

from mmwood.models import CAMHead


def samples(*labels):
    return [DataSample().set_gt_label(torch.tensor(label).long()) for label in labels]


def test_loss_is_the_multi_label_soft_margin_loss():
    head = CAMHead(num_classes=4, in_channels=6)
    features = torch.randn(3, 6, 5, 7)
    target = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 1]]).float()
    loss = head.loss((features,), samples([0, 2], [], [3]))["loss"]
    scores = F.conv2d(features, head.classifier.weight).mean(dim=(2, 3))
    torch.testing.assert_close(loss, F.multilabel_soft_margin_loss(scores, target))


def test_prediction_has_scores_labels_and_maps():
    head = CAMHead(num_classes=4, in_channels=6, thr=0.5)
    features = torch.randn(2, 6, 5, 7)
    for feature, sample in zip(features, head.predict((features,))):
        maps = F.conv2d(feature, head.classifier.weight)
        expected = maps.mean(dim=(1, 2)).sigmoid()
        torch.testing.assert_close(sample.pred_score, expected)
        assert sample.pred_label.tolist() == torch.where(expected >= 0.5)[0].tolist()
        torch.testing.assert_close(sample.activation, maps.relu())


def test_has_no_bias():
    assert [name for name, _ in CAMHead(3, 4).named_parameters()] == [
        "classifier.weight"
    ]


def test_refuses_pooled_features_and_other_channels():
    head = CAMHead(num_classes=4, in_channels=6)
    with pytest.raises(ValueError, match="neck=None"):
        head((torch.zeros(2, 6),))
    with pytest.raises(ValueError, match=r"in_channels is 6.*5 channels"):
        head((torch.zeros(2, 5, 3, 3),))
