"""Every term of W-OoD's loss against loops in double precision."""

import math

import numpy as np
import pytest
import torch

pytest.importorskip("mmpretrain")

from mmengine.registry import MODELS
from mmpretrain.structures import DataSample

from mmwood.functional.ood_distance import (
    in_distribution_centers,
    mean_in_distance,
    ood_centers,
)
from mmwood.models import CAMClassifier, CAMHead, WOoDHead

CLASSES, CHANNELS, CLUSTERS = 3, 5, 4


def make_head(**fields) -> WOoDHead:
    torch.manual_seed(0)
    head = WOoDHead(CLASSES, CHANNELS, **fields).double()
    head.set_centers(torch.randn(CLASSES, CHANNELS), torch.randn(CLUSTERS, CHANNELS))
    return head


def make_batch() -> tuple[tuple[torch.Tensor], list[DataSample]]:
    """Three in-distribution and three OoD images, mixed; one without any class."""
    torch.manual_seed(1)
    features = torch.randn(6, CHANNELS, 2, 3, dtype=torch.float64, requires_grad=True)
    labels = ([0], [], [1, 2], [], [], [])
    ood = (False, True, False, True, True, False)
    samples = []
    for label, is_ood in zip(labels, ood):
        sample = DataSample().set_gt_label(torch.tensor(label, dtype=torch.long))
        sample.set_field(is_ood, "is_ood")
        samples.append(sample)
    return (features,), samples


def log_sigmoid(value: float) -> float:
    return -math.log(1 + math.exp(-value))


def reference(head: WOoDHead, features, samples, excluded=()) -> dict[str, float]:
    """METHOD: all four terms without weights, one number at a time."""
    z = features[0].detach().flatten(2).mean(dim=2).tolist()
    weight = head.weight.detach().tolist()
    near = max(1, round(0.2 * CLUSTERS))
    terms = dict.fromkeys(("cls", "ood", "in_distance", "ood_distance"), 0.0)
    for image, sample in zip(z, samples):
        scores = [sum(w * x for w, x in zip(row, image)) for row in weight]
        present = sample.gt_label.tolist()
        if sample.is_ood:
            if scores.index(max(scores)) in excluded:
                continue
            terms["ood"] -= sum(log_sigmoid(-s) for s in scores) / CLASSES / 3
            continue
        for c, score in enumerate(scores):
            sign = 1 if c in present else -1
            terms["cls"] -= log_sigmoid(sign * score) / CLASSES / 3
        for c in present:
            terms["in_distance"] += math.dist(image, head.in_centers[c].tolist())
        distances = sorted(math.dist(image, p.tolist()) for p in head.ood_centers)
        terms["ood_distance"] -= sum(distances[:near])
    for name in ("in_distance", "ood_distance"):
        terms[name] /= 3 * CLUSTERS
    return terms


def test_terms_against_loops():
    head = make_head(alpha=0.3, distance_weight=0.7)
    losses = head.loss(*make_batch())
    expected = reference(head, *make_batch())
    assert {key: value.item() for key, value in losses.items()} == pytest.approx(
        dict(
            loss_cls=expected["cls"],
            loss_cls_ood=0.3 * expected["ood"],
            loss_in_distance=0.7 * expected["in_distance"],
            loss_ood_distance=0.7 * expected["ood_distance"],
        )
    )


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        (dict(alpha=0, distance_weight=0), {"cls"}),
        (dict(distance_weight=0), {"cls", "cls_ood"}),
        (dict(alpha=0, use_in=False), {"cls", "ood_distance"}),
        (dict(use_ood=False), {"cls", "cls_ood", "in_distance"}),
        (dict(use_in=False), {"cls", "cls_ood", "ood_distance"}),
        (dict(), {"cls", "cls_ood", "in_distance", "ood_distance"}),
    ],
    ids="abcdef",
)
def test_ablations_switch_single_terms(fields, names):
    losses = make_head(**fields).loss(*make_batch())
    assert set(losses) == {f"loss_{name}" for name in names}
    whole = make_head().loss(*make_batch())
    for name, value in losses.items():
        torch.testing.assert_close(value, whole[name])


def test_only_in_distribution_images_are_moved_by_distances():
    features, samples = make_batch()
    losses = make_head(distance_weight=1.0).loss(features, samples)
    distance = losses["loss_in_distance"] + losses["loss_ood_distance"]
    (gradient,) = torch.autograd.grad(distance, features[0])
    moved = [bool(row.abs().sum() > 0) for row in gradient]
    assert moved == [not sample.is_ood for sample in samples]


def test_excluded_classes_leave_images_out_of_the_sum_alone():
    features, samples = make_batch()
    scores = make_head()(features).tolist()
    tops = {max(range(CLASSES), key=row.__getitem__) for row in scores}
    for excluded in [{top} for top in tops] + [set(range(CLASSES))]:
        head = make_head(excluded_classes=sorted(excluded))
        expected = reference(head, features, samples, excluded)["ood"]
        value = head.loss(features, samples)["loss_cls_ood"]
        assert value.item() == pytest.approx(expected)
        value.backward(retain_graph=True)


@pytest.mark.parametrize("labels", ["uniform", "background"])
def test_naive_labels_of_ood_images_against_loops(labels):
    features, samples = make_batch()
    head = make_head(alpha=0.3, distance_weight=0, ood_labels=labels)
    losses = head.loss(features, samples)
    plain = make_head(alpha=0.3, distance_weight=0)
    plain.load_state_dict(head.state_dict(), strict=False)
    expected = reference(plain, features, samples)
    z = features[0].detach().flatten(2).mean(dim=2).tolist()
    ood = background = 0.0
    for image, sample in zip(z, samples):
        rows = head.weight.detach().tolist()
        targets = [1 / CLASSES if labels == "uniform" else 0.0] * CLASSES
        if labels == "background":
            own = head.classifier_background.weight.detach()[0].tolist()
            score = sum(w * x for w, x in zip(own, image))
            background -= (not sample.is_ood) * log_sigmoid(-score) / CLASSES / 3
            rows, targets = [*rows, own], [*targets, 1.0]
        if sample.is_ood:
            for row, target in zip(rows, targets):
                score = sum(w * x for w, x in zip(row, image))
                likelihood = target * log_sigmoid(score)
                likelihood += (1 - target) * log_sigmoid(-score)
                ood -= likelihood / CLASSES / 3
    terms = dict(loss_cls=expected["cls"], loss_cls_ood=0.3 * ood)
    if labels == "background":
        terms["loss_cls_background"] = background
    found = {name: value.item() for name, value in losses.items()}
    assert found == pytest.approx(terms)
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in head.parameters())
    # Test-time scores are those of the classes alone.
    torch.testing.assert_close(head(features), plain(features))


def test_naive_labels_heed_excluded_classes():
    features, samples = make_batch()
    every = list(range(CLASSES))
    fields = dict(distance_weight=0, excluded_classes=every, ood_labels="background")
    losses = make_head(**fields).loss(features, samples)
    assert losses["loss_cls_ood"] == 0
    assert losses["loss_cls_background"] > 0


def test_without_ood_terms_it_is_the_cam_head():
    features, samples = make_batch()
    head = make_head(alpha=0, distance_weight=0)
    inside = [index for index, sample in enumerate(samples) if not sample.is_ood]
    plain = CAMHead(CLASSES, CHANNELS).double()
    plain.load_state_dict(head.state_dict(), strict=False)
    chosen = (features[0][inside],), [samples[index] for index in inside]
    torch.testing.assert_close(
        head.loss(*chosen)["loss_cls"], plain.loss(*chosen)["loss"]
    )


def test_centers_travel_with_the_checkpoint():
    head = make_head()
    for clusters in (CLUSTERS, 2):
        head.set_centers(
            torch.randn(CLASSES, CHANNELS), torch.randn(clusters, CHANNELS)
        )
        fresh = WOoDHead(CLASSES, CHANNELS).double()
        fresh.load_state_dict(head.state_dict())
        torch.testing.assert_close(fresh.ood_centers, head.ood_centers)
        torch.testing.assert_close(fresh.in_centers, head.in_centers)
        assert not fresh.ood_centers.requires_grad


def test_distances_are_divided_by_the_scale():
    fields = dict(alpha=0, distance_weight=0.7)
    plain, scaled = make_head(**fields), make_head(**fields, distance_scale="start")
    with pytest.raises(ValueError, match=r"^model\.head\.distance_scale is 'start'"):
        scaled.loss(*make_batch())
    centers = plain.in_centers, plain.ood_centers
    scaled.set_centers(*centers, torch.tensor(2.5))
    expected, found = (head.loss(*make_batch()) for head in (plain, scaled))
    assert set(found) == {"loss_cls", "loss_in_distance", "loss_ood_distance"}
    for name, value in expected.items():
        divisor = 1 if name == "loss_cls" else 2.5
        torch.testing.assert_close(found[name], value / divisor)
    # Later centres leave it, and a margin is in its unit.
    scaled.set_centers(2 * centers[0], centers[1])
    assert scaled.measured_scale == 2.5
    near = make_head(**fields, distance_scale="start", margin=0.2)
    near.set_centers(*centers, torch.tensor(2.5))
    other = make_head(**fields, margin=0.5)
    name = "loss_ood_distance"
    losses = [head.loss(*make_batch())[name] for head in (near, other)]
    torch.testing.assert_close(losses[0], losses[1] / 2.5)
    assert losses[0] != found[name]
    for wrong in (0.0, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"model\.head\.distance_scale: the mean"):
            scaled.set_centers(*centers, torch.tensor(wrong))


def test_the_scale_travels_with_the_checkpoint():
    assert "measured_scale" not in make_head().state_dict()
    head = make_head(distance_scale="start")
    head.set_centers(head.in_centers, head.ood_centers, torch.tensor(2.5))
    fresh = WOoDHead(CLASSES, CHANNELS, distance_scale="start").double()
    fresh.load_state_dict(head.state_dict())
    assert fresh.measured_scale == 2.5
    torch.testing.assert_close(fresh.loss(*make_batch()), head.loss(*make_batch()))
    # Without the field it is as published, whatever the checkpoint has.
    plain = WOoDHead(CLASSES, CHANNELS).double()
    keys = plain.load_state_dict(head.state_dict(), strict=False)
    assert keys.unexpected_keys == ["measured_scale"]
    assert plain.measured_scale is None


#: Small networks of several families, with their random weights, and their channels.
FAMILIES = {
    "ResNet": (dict(depth=18, stem_channels=8, base_channels=8), 64),
    "ConvNeXt": (
        dict(
            arch=dict(depths=[1] * 4, channels=[8, 8, 16, 16]),
            gap_before_final_norm=False,
        ),
        16,
    ),
    "SwinTransformer": (
        dict(
            arch=dict(embed_dims=12, depths=[1] * 4, num_heads=[1, 1, 2, 2]),
            window_size=4,
            pad_small_map=True,
        ),
        96,
    ),
    "VisionTransformer": (
        dict(
            arch=dict(
                embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32
            ),
            img_size=64,
            out_type="featmap",
        ),
        16,
    ),
    "XCiT": (
        dict(
            patch_size=16, embed_dims=32, depth=2, num_heads=2, mlp_ratio=4,
            out_type="featmap",
        ),
        32,
    ),
    "VAN": (
        dict(
            arch=dict(
                embed_dims=[8, 16, 32, 64], depths=[1] * 4, ffn_ratios=[2] * 4
            )
        ),
        64,
    ),
    "MobileNetV3": (dict(arch="small"), 576),
}  # fmt: skip


@torch.no_grad()
def ratios_of(family: str, **fields) -> list[float]:
    """Both terms of L_d in units of the classification loss at the first step."""
    config, channels = FAMILIES[family]
    torch.manual_seed(0)
    head = dict(type="mmwood.WOoDHead", num_classes=CLASSES, in_channels=channels)
    model = MODELS.build(
        dict(
            type="mmwood.CAMClassifier",
            backbone=dict(type=family, **config),
            head=dict(head, distance_weight=1.0, alpha=0, **fields),
        )
    )
    model.init_weights()
    model.eval()
    torch.manual_seed(1)
    contrast, colour = torch.rand(24, 1, 1, 1), torch.randn(24, 3, 1, 1)
    feats = model.extract_feat(2 * contrast * torch.randn(24, 3, 64, 64) + colour)
    z = model.head.pre_logits(feats)
    numbers = torch.arange(16) % CLASSES
    labels = torch.eye(CLASSES)[numbers]
    centers = in_distribution_centers(z[:16], labels)
    scale = mean_in_distance(z[:16], labels, centers)
    model.head.set_centers(centers, ood_centers(z[16:], CLUSTERS, 0), scale)
    samples = [DataSample().set_gt_label(number) for number in numbers]
    losses = model.head.loss(tuple(f[:16] for f in feats), samples)
    return [
        abs(losses[f"loss_{name}_distance"].item()) / losses["loss_cls"].item()
        for name in ("in", "ood")
    ]


@pytest.mark.slow
def test_with_a_scale_one_weight_serves_all_families():
    found = [
        list(zip(*(ratios_of(family, **fields) for family in FAMILIES)))
        for fields in ({}, dict(distance_scale="start"))
    ]
    for plain, scaled in zip(*found):
        assert max(plain) / min(plain) > 1e6
        # Without the one that batch normalisation of random weights makes tiny.
        assert max(plain[:-1]) / min(plain[:-1]) > 10
        assert max(scaled) / min(scaled) < 3
        assert min(scaled) > 0.05
        assert max(scaled) < 0.5


def test_faults_of_batches():
    features, samples = make_batch()
    head = WOoDHead(CLASSES, CHANNELS).double()
    with pytest.raises(ValueError, match=r"OoDClusterHook"):
        head.loss(features, samples)
    for is_ood in (True, False):
        for sample in samples:
            sample.set_field(is_ood, "is_ood")
        with pytest.raises(ValueError, match="needs both in every batch"):
            make_head().loss(features, samples)
    # Without a term that looks at OoD images none are needed.
    make_head(alpha=0).loss(features, samples)
    with pytest.raises(ValueError, match=r"in_centers \(3, 5\)"):
        head.set_centers(torch.zeros(2, CHANNELS), torch.zeros(4, CHANNELS))
    with pytest.raises(ValueError, match="ood_centers"):
        head.set_centers(torch.zeros(CLASSES, CHANNELS), torch.zeros(0, CHANNELS))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(alpha=-1), "alpha must be at least 0"),
        (dict(distance_weight=-0.1), "distance_weight must be at least 0"),
        (dict(nearest=20), "nearest must be a fraction"),
        (dict(per="epoch"), "per must be 'image' or 'batch'"),
        (dict(margin=0), "margin must be a positive distance"),
        (dict(adversarial_step=0), "adversarial_step must be positive"),
        (dict(excluded_classes=[3]), r"\[3\] are no classes"),
        (dict(distance_scale="end"), "distance_scale must be None or 'start'"),
        (dict(ood_labels="none"), "ood_labels must be 'zeros', 'uniform' or"),
        (dict(ood_labels="uniform", alpha=0), "ood_labels is 'uniform', but with"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=rf"^model\.head\..*{message}"):
        make_head(**fields)


def make_classifier(**fields) -> CAMClassifier:
    torch.manual_seed(0)
    model = CAMClassifier(
        backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
        head=dict(
            type="mmwood.WOoDHead",
            num_classes=CLASSES,
            in_channels=64,
            distance_weight=0,
            **fields,
        ),
        norm_eval=True,
    )
    model.train()
    return model


def test_adversarial_step_climbs_as_far_as_it_says():
    model = make_classifier(adversarial_step=0.07)
    torch.manual_seed(1)
    images = torch.randn(6, 3, 32, 32)
    samples = make_batch()[1]
    ood = torch.tensor([sample.is_ood for sample in samples])
    moved = model.head.perturb(images, samples, model.extract_feat)
    assert torch.equal(moved[~ood], images[~ood])
    low, high = images[ood].min(), images[ood].max()
    assert moved[ood].min() >= low
    assert moved[ood].max() <= high
    assert (moved - images).abs().max() == pytest.approx(0.07, abs=1e-5)

    def top(batch):
        return model.head(model.extract_feat(batch))[ood].max(dim=1).values.sum()

    with torch.no_grad():
        assert top(moved) > top(images)
    # The direction is the gradient's: central differences at some pixels.
    images = images.double()
    model.double()
    moved = model.head.perturb(images, samples, model.extract_feat)
    step = (moved - images)[ood]
    numbers = torch.randint(step.numel(), (8,))
    slopes = []
    with torch.no_grad():
        for number in numbers:
            change = torch.zeros_like(step).flatten()
            change[number] = 1e-6
            whole = torch.zeros_like(images)
            whole[ood] = change.view_as(step)
            slopes.append((top(images + whole) - top(images - whole)) / 2e-6)
    slopes = torch.stack(slopes)
    inside = (moved[ood] > images[ood].min()) & (moved[ood] < images[ood].max())
    chosen = inside.flatten()[numbers]
    ratio = step.flatten()[numbers][chosen] / slopes[chosen]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio), rtol=1e-4, atol=0)


def test_adversarial_step_in_training_and_without_the_classifier():
    images, samples = torch.randn(6, 3, 32, 32), make_batch()[1]
    plain = make_classifier().loss(images, samples)
    harder = make_classifier(adversarial_step=0.07).loss(images, samples)
    torch.testing.assert_close(harder["loss_cls"], plain["loss_cls"])
    assert harder["loss_cls_ood"] > plain["loss_cls_ood"]
    harder["loss_cls_ood"].backward()
    with pytest.raises(ValueError, match=r"needs model\.type='mmwood\.CAMClassifier'"):
        make_head(adversarial_step=0.07).loss(*make_batch())


AUGMENTS = {
    "Mixup": dict(type="Mixup", alpha=1.0),
    "CutMix": dict(type="CutMix", alpha=1.0),
    "ResizeMix": dict(type="ResizeMix", alpha=1.0),
}
HOSTS = {
    "CAMClassifier": dict(type="mmwood.CAMClassifier"),
    "SEAM": dict(
        type="mmwood.SEAM", pcm_in_channels=[16], pcm_channels=[8], levels=["layer2"]
    ),
    "ImageClassifier": dict(type="mmpretrain.ImageClassifier"),
}


def augmented(host: str, field: str, augment: str, head="mmwood.WOoDHead"):
    augments = dict(augments=AUGMENTS[augment])
    preprocessor = dict(mean=[0] * 3, std=[1] * 3, num_classes=CLASSES)
    fields = dict(train_cfg=augments)
    if field == "batch_augments":
        preprocessor["batch_augments"] = augments
        fields = {}
    head = dict(type=head, num_classes=CLASSES, in_channels=64)
    if head["type"] == "mmwood.WOoDHead":
        head["distance_weight"] = 0
    return MODELS.build(
        dict(
            **HOSTS[host],
            data_preprocessor=preprocessor,
            backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
            head=head,
            **fields,
        )
    )


def step(model, ood=(4, 5)):
    """Losses of a batch, and whether its images were mixed."""
    samples = []
    for number in range(6):
        labels = [] if number in ood else [number % CLASSES]
        sample = DataSample().set_gt_label(torch.tensor(labels, dtype=torch.long))
        sample.set_field(number in ood, "is_ood")
        samples.append(sample)
    images = torch.arange(6).view(6, 1, 1, 1).expand(6, 3, 32, 32)
    data = dict(inputs=images.to(torch.uint8), data_samples=samples)
    # CutMix may draw an empty box.
    torch.manual_seed(0)
    np.random.seed(0)
    data = model.data_preprocessor(data, True)
    return model(**data, mode="loss"), not torch.equal(data["inputs"], images)


@pytest.mark.parametrize("augment", AUGMENTS)
@pytest.mark.parametrize("field", ["train_cfg", "batch_augments"])
@pytest.mark.parametrize("host", HOSTS)
def test_ood_images_are_not_mixed_with_others(host, field, augment):
    if host == "ImageClassifier":
        model = augmented(host, field, augment)
        with pytest.raises(ValueError, match=r"train_cfg\.augments"):
            step(model)
    else:
        with pytest.raises(ValueError, match=r"train_cfg\.augments .*batch_augments"):
            augmented(host, field, augment)
    # Without OoD images they are as welcome as ever.
    losses, mixed = step(augmented(host, field, augment, head="mmwood.CAMHead"), ood=())
    assert mixed
    assert torch.isfinite(sum(losses.values()))


def test_one_hot_scores_alone_are_no_mixture():
    model = MODELS.build(
        dict(
            type="mmpretrain.ImageClassifier",
            data_preprocessor=dict(num_classes=CLASSES, to_onehot=True),
            backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8),
            head=dict(
                type="mmwood.WOoDHead",
                num_classes=CLASSES,
                in_channels=64,
                distance_weight=0,
            ),
        )
    )
    losses, _ = step(model)
    assert set(losses) == {"loss_cls", "loss_cls_ood"}
