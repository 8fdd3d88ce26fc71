import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmwood.functional.cam import own_class_maps
from mmwood.functional.pooling import POOLINGS, softmax_pooling
from mmwood.models import CAMHead, WOoDHead
from mmwood.registry import MODELS as OWN_MODELS


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


class Spread(torch.nn.Module):
    """A pooling of one's own, with a weight."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))

    def forward(self, maps):
        return self.factor * maps.std(dim=(2, 3))


class Recorder(torch.nn.Module):
    """A feature loss that keeps what it was given."""

    def __init__(self, name: str = "loss_recorder") -> None:
        super().__init__()
        self.name = name
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, features, maps, labels, is_ood):
        self.given = features, maps, labels, is_ood
        return {self.name: self.scale * features.mean(), "seen": maps.mean()}


class Asking(torch.nn.Module):
    """A feature loss that asks for more."""

    takes = ("sizes", "feats")

    def forward(self, features, maps, labels, is_ood, **more):
        self.given = more
        return {"loss_asking": features.mean()}


class AskingForTooMuch(Asking):
    takes = ("feats", "images")


OWN = (Spread, Recorder, Asking, AskingForTooMuch)


@pytest.fixture(autouse=True)
def registered():
    for kind in OWN:
        OWN_MODELS.register_module(module=kind)
    yield
    for kind in OWN:
        del OWN_MODELS.module_dict[kind.__name__]


def ood_samples():
    found = samples([0, 2], [], [3], [])
    for number, sample in enumerate(found):
        sample.set_field(number == 3, "is_ood")
    return found


@pytest.mark.parametrize("head", [CAMHead, WOoDHead])
def test_mean_pooling_is_what_it_was_to_the_bit(head):
    features = (torch.randn(3, 6, 5, 7),)
    plain, named = head(4, 6), head(4, 6, pooling="mean")
    named.load_state_dict(plain.state_dict())
    expected = features[0].mean(dim=(2, 3)) @ plain.classifier.weight[:, :, 0, 0].T
    for found in (plain(features), named(features)):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("name", POOLINGS)
def test_poolings_by_name(name):
    head = CAMHead(4, 6, pooling=name)
    features = torch.randn(3, 6, 5, 7)
    maps = F.conv2d(features, head.classifier.weight)
    torch.testing.assert_close(head((features,)), POOLINGS[name](maps))
    assert list(head.state_dict()) == ["classifier.weight"]
    (sample, *_) = head.predict((features,))
    torch.testing.assert_close(sample.pred_score, POOLINGS[name](maps)[0].sigmoid())
    torch.testing.assert_close(sample.activation, maps[0].relu())


def test_pooling_with_options_leaves_the_features_of_distances():
    config = dict(type="softmax", temperature=0.3)
    head = WOoDHead(4, 6, pooling=config, distance_weight=0.5)
    assert config == dict(type="softmax", temperature=0.3)
    head.set_centers(torch.randn(4, 6), torch.randn(3, 6))
    features = torch.randn(4, 6, 5, 7)
    maps = F.conv2d(features, head.classifier.weight)
    torch.testing.assert_close(head((features,)), softmax_pooling(maps, 0.3))
    torch.testing.assert_close(head.pre_logits((features,)), features.mean(dim=(2, 3)))
    plain = WOoDHead(4, 6, distance_weight=0.5)
    plain.load_state_dict(head.state_dict())
    losses, others = (h.loss((features,), ood_samples()) for h in (head, plain))
    for name in ("loss_in_distance", "loss_ood_distance"):
        assert torch.equal(losses[name], others[name])
    assert losses["loss_cls"] != others["loss_cls"]


def test_a_pooling_of_one_s_own():
    head = CAMHead(4, 6, pooling=dict(type="mmwood.Spread", factor=3.0))
    features = torch.randn(3, 6, 5, 7)
    maps = F.conv2d(features, head.classifier.weight)
    torch.testing.assert_close(head((features,)), 3 * maps.std(dim=(2, 3)))
    assert "pooling.factor" in head.state_dict()


@pytest.mark.parametrize(
    ("pooling", "message"),
    [
        ("average", "must be 'mean', 'max', 'softmax', 'threshold' or 'rank'"),
        (dict(temperature=2), "must be 'mean', .* but is None"),
        (dict(type="softmax", tau=2), r"no field \['tau'\]; it has \['temperature'\]"),
        (dict(type="softmax", temperature=0), "temperature must not be 0"),
        (dict(type="rank", decay=2), r"decay must be in \(0, 1\]"),
        (dict(type="max", temperature=2), r"no field \['temperature'\]"),
    ],
)
def test_wrong_poolings(pooling, message):
    with pytest.raises(ValueError, match=rf"^model\.head\.pooling.*{message}"):
        CAMHead(4, 6, pooling=pooling)


@pytest.mark.parametrize("head", [CAMHead, WOoDHead])
@pytest.mark.parametrize("form", [list, dict])
def test_what_a_feature_loss_is_given(head, form):
    config = dict(type="mmwood.Recorder")
    configs = [config] if form is list else dict(mine=config, other=None)
    fields = dict(distance_weight=0) if head is WOoDHead else {}
    head = head(4, 6, feature_losses=configs, **fields)
    features = torch.randn(4, 6, 5, 7, requires_grad=True)
    found = head.loss((features,), ood_samples())
    (loss,) = head.feature_losses
    given, maps, labels, is_ood = loss.given
    assert given is features
    assert labels.tolist() == [[1, 0, 1, 0], [0] * 4, [0, 0, 0, 1], [0] * 4]
    assert is_ood.tolist() == [False, False, False, True]
    torch.testing.assert_close(maps, own_class_maps(features, head.weight, labels))
    torch.testing.assert_close(found["loss_recorder"], 2 * features.mean())
    assert "loss" not in found
    plain = type(head)(4, 6, **fields)
    plain.load_state_dict(head.state_dict(), strict=False)
    expected = plain.loss((features,), ood_samples())
    assert torch.equal(
        found["loss_cls"], expected.get("loss", expected.get("loss_cls"))
    )
    assert list(plain.state_dict()) == [
        name for name in head.state_dict() if "feature_losses" not in name
    ]


def test_the_sum_in_the_log_and_what_is_only_logged():
    model = MODELS.build(
        dict(
            type="mmwood.CAMClassifier",
            backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
            head=dict(
                type="mmwood.CAMHead",
                num_classes=4,
                in_channels=64,
                feature_losses=[dict(type="mmwood.Recorder")],
            ),
        )
    )
    losses = model.loss(torch.randn(2, 3, 32, 32), samples([0], [2]))
    total, logged = model.parse_losses(losses)
    assert set(logged) == {"loss", "loss_cls", "loss_recorder", "seen"}
    assert torch.equal(total, losses["loss_cls"] + losses["loss_recorder"])
    assert torch.equal(logged["loss"], total)
    total.backward()
    assert model.head.feature_losses[0].scale.grad is not None
    assert model.backbone.conv1.weight.grad is not None


def test_labels_of_images_that_batch_augments_have_mixed():
    head = CAMHead(4, 6, feature_losses=[dict(type="mmwood.Recorder")])
    mixed = samples([0], [2])
    for sample in mixed:
        sample.set_gt_score(torch.tensor([0.3, 0, 0.7, 0]))
    head.loss((torch.randn(2, 6, 5, 7),), mixed)
    assert head.feature_losses[0].given[2].tolist() == [[1, 0, 1, 0]] * 2


def test_names_of_losses_are_their_own():
    for name in ("loss_cls", "loss_recorder"):
        configs = [
            dict(type="mmwood.Recorder", name=name),
            dict(type="mmwood.Recorder"),
        ]
        head = CAMHead(4, 6, feature_losses=configs)
        with pytest.raises(ValueError, match=r"feature_losses: Recorder gives \['"):
            head.loss((torch.randn(2, 6, 5, 7),), samples([0], [1]))
    with pytest.raises(
        ValueError, match=r"model\.head\.feature_losses\.fbr: has no type"
    ):
        CAMHead(4, 6, feature_losses=dict(fbr=dict(fb_weight=0)))


def test_what_a_feature_loss_asks_for():
    losses = [dict(type="mmwood.Asking"), dict(type="mmwood.Recorder")]
    head = CAMHead(4, 6, feature_losses=losses)
    feats = torch.randn(2, 3, 9, 9), torch.randn(2, 6, 5, 7)
    batch = samples([0], [2])
    with pytest.raises(ValueError, match=r"no img_shape.*PackInputs\.meta_keys"):
        head.loss(feats, batch)
    for sample, size in zip(batch, ((40, 56), (33, 47, 3))):
        sample.set_metainfo(dict(img_shape=size))
    assert "loss_asking" in head.loss(feats, batch)
    given = head.feature_losses[0].given
    assert given["feats"] is feats
    assert given["sizes"].tolist() == [[40, 56], [33, 47]]
    message = "AskingForTooMuch.takes must be 'feats', .* or 'views', but is 'images'"
    with pytest.raises(ValueError, match=message):
        CAMHead(4, 6, feature_losses=[dict(type="mmwood.AskingForTooMuch")])
