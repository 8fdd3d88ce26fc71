"""FBR as a feature loss: its terms against loops, its queue, and real trainings."""

import copy
import math
import shutil
import subprocess
import sys
from collections import deque
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS

from mmwood.functional.fine_grained_background import (
    background_regions,
    class_prototypes,
    pixel_labels,
    query_pixels,
)
from mmwood.models import FineGrainedBackgroundLoss

CONFIG = (
    Path(__file__).parents[3] / "configs/wood/efficientnet-lite0_wood-fbr_mini-voc.py"
)
CHANNELS, CLASSES, DIM = 6, 4, 5
TERMS = ("fb", "if", "sim", "seg")


def make_loss(**fields) -> FineGrainedBackgroundLoss:
    torch.manual_seed(0)
    options = dict(channels=DIM, queue_size=40, prototype_part=4)
    return FineGrainedBackgroundLoss(CHANNELS, **{**options, **fields}).double()


def make_batch(images: int = 3, seed: int = 0, size=(6, 7)) -> list[torch.Tensor]:
    """Features, maps of one or two classes an image, tags; the last image is OoD."""
    torch.manual_seed(1 + seed)
    features = torch.randn(images, CHANNELS, *size, dtype=torch.float64)
    labels = torch.zeros(images, CLASSES, dtype=torch.long)
    for number in range(images - 1):
        labels[number, [number % CLASSES, (number * 2 + 1) % CLASSES]] = 1
    maps = torch.rand(images, CLASSES, *size, dtype=torch.float64) ** 4
    maps = maps * labels[:, :, None, None]
    is_ood = torch.arange(images) == images - 1
    return [features.requires_grad_(), maps, labels, is_ood]


def cosine(a, b) -> float:
    return sum(x * y for x, y in zip(a, b)) / (math.hypot(*a) * math.hypot(*b) + 1e-12)


def contrast(query, prototype, odds: list[tuple[float, list]], count: int) -> float:
    """-log of the share of the prototype, of negatives as often as expected."""
    own = math.exp(cosine(query, prototype) / 0.5)
    others = sum(share * math.exp(cosine(query, n) / 0.5) for share, n in odds)
    return -math.log(own / (own + count * others))


def test_terms_equal_loops():
    """So many negatives are drawn that the sum is its expectation."""
    count = 100_000
    weights = dict(zip((f"{name}_weight" for name in TERMS), (0.3, 0.5, 0.7, 0.9)))
    loss = make_loss(negatives=count, dropout=0, **weights)
    features, maps, labels, is_ood = make_batch()
    found = loss(features, maps, labels, is_ood)
    u = F.conv2d(features, loss.to_foreground.weight).relu().detach()
    raw = F.conv2d(features, loss.to_background.weight).detach()
    v = raw.relu()
    places, asks = pixel_labels(maps), query_pixels(maps)
    regions = background_regions(v, places == 0).tolist()
    prototypes = class_prototypes(u, maps, 6 * 7 // 4).tolist()
    pixels = [
        (label, ask, vector)
        for label, ask, vector in zip(
            places.flatten().tolist(),
            asks.flatten().tolist(),
            u.permute(0, 2, 3, 1).flatten(0, 2).tolist(),
        )
    ]
    by_class = {}
    for label in sorted({label for label, ask, _ in pixels if ask}):
        own = prototypes[label - 1]
        others = sorted({j for j, _, _ in pixels} - {0, label})
        odds = {j: math.exp(cosine(own, prototypes[j - 1]) / 0.5) for j in others}
        away = [
            (odds[j] / sum(odds.values()) / sum(i == j for i, _, _ in pixels), vector)
            for j, _, vector in pixels
            if j in odds
        ]
        ground = [(1 / len(regions), region) for region in regions]
        queries = [q for j, ask, q in pixels if ask and j == label]
        by_class[label] = [
            sum(contrast(q, own, negatives, count) for q in queries) / len(queries)
            for negatives in (ground, away)
        ]
    assert len(by_class) >= 2
    fb, away = (sum(c[n] for c in by_class.values()) / len(by_class) for n in (0, 1))
    assert found["loss_fbr_fb"].item() == pytest.approx(0.3 * fb, rel=1e-3)
    assert found["loss_fbr_if"].item() == pytest.approx(0.5 * away, rel=1e-3)
    pairs = [
        cosine(u[b, :, y, x].tolist(), v[b, :, y, x].tolist())
        for b in range(3)
        for y in range(6)
        for x in range(7)
    ]
    expected = 0.7 * sum(pairs) / len(pairs)
    assert found["loss_fbr_sim"].item() == pytest.approx(expected, rel=1e-6)
    flat = raw.transpose(0, 1).flatten(1)
    spread = flat.var(dim=1, unbiased=False)[:, None]
    seen = ((flat - flat.mean(dim=1, keepdim=True)) / (spread + 1e-5).sqrt()).relu()
    weight = loss.seg_classifier.weight.flatten().tolist()
    total = 0.0
    for vector, values in zip(seen.T.tolist(), maps.permute(0, 2, 3, 1).flatten(0, 2)):
        score = sum(w * x for w, x in zip(weight, vector))
        score += loss.seg_classifier.bias.item()
        sign = 1 if sum(values.tolist()) < 0.05 else -1
        total += math.log(1 + math.exp(-sign * score)) / len(pairs)
    assert found["loss_fbr_seg"].item() == pytest.approx(0.9 * total, rel=1e-6)
    queries = [(prototypes[j - 1], q) for j, ask, q in pixels if ask]
    near = sum(cosine(q, p) for p, q in queries) / len(queries)
    assert found["fbr_cos_prototype"].item() == pytest.approx(near, rel=1e-6)
    far = sum(cosine(q, n) for _, q in queries for n in regions)
    far /= len(queries) * len(regions)
    assert found["fbr_cos_region"].item() == pytest.approx(far, rel=1e-2)


@pytest.mark.parametrize("name", ["fb", "if"])
def test_contrasts_move_queries_alone(name):
    fields = {f"{other}_weight": 0 for other in TERMS if other != name}
    features, maps, labels, is_ood = make_batch()
    loss = make_loss(**fields)
    found = loss(features, maps, labels, is_ood)
    (moved,) = torch.autograd.grad(found[f"loss_fbr_{name}"], features)
    moved = moved.abs().sum(dim=1) > 1e-9
    asks = query_pixels(maps)
    assert asks.any()
    assert not (moved & ~asks).any()
    # But for those whose direction is fixed: all features but one are zero.
    alive = (F.conv2d(features, loss.to_foreground.weight) > 0).sum(dim=1) > 1
    assert torch.equal(moved, asks & alive)


@pytest.mark.parametrize("name", ["fb", "sim", "seg"])
def test_gradient_equals_differences(name):
    fields = {f"{other}_weight": 0 for other in TERMS if other != name}
    loss = make_loss(**fields, **{f"{name}_weight": 1.0})
    features, maps, labels, is_ood = make_batch()

    def value(features) -> torch.Tensor:
        # The same draws and the same queue every time.
        fresh = copy.deepcopy(loss)
        return fresh(features, maps, labels, is_ood)[f"loss_fbr_{name}"]

    if name != "fb":
        assert torch.autograd.gradcheck(value, (features,), fast_mode=True)
        return
    # Prototypes are fixed in the gradient: only pixels that are part of none can be
    # compared.
    (gradient,) = torch.autograd.grad(value(features), features)
    asks = query_pixels(maps)
    strongest = maps.transpose(0, 1).flatten(1).topk(6 * 7 // 4, dim=1).indices
    asks.view(-1)[strongest.flatten()] = False
    assert asks.sum() > 3
    for b, y, x in asks.nonzero().tolist():
        step = torch.zeros_like(features)
        step[b, :, y, x] = 1e-6 * torch.randn(CHANNELS, dtype=torch.float64)
        with torch.no_grad():
            change = value(features + step) - value(features - step)
        expected = 2 * (gradient * step).sum()
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-13)


def test_the_queue_is_first_in_first_out():
    loss = make_loss(queue_size=30)
    expected = deque(maxlen=30)
    for number in range(6):
        features, maps, labels, is_ood = make_batch(seed=number)
        loss(features, maps, labels, is_ood)
        v = F.conv2d(features, loss.to_background.weight).relu()
        regions = background_regions(v, pixel_labels(maps) == 0)
        expected.extend(regions.tolist())
        place = int(loss.queued) % 30
        held = loss.queue if loss.queued >= 30 else loss.queue[:place]
        if loss.queued >= 30:
            held = torch.cat([held[place:], held[:place]])
        torch.testing.assert_close(held, torch.tensor([*expected], dtype=torch.float64))
    assert loss.queued > 60


def test_a_queue_smaller_than_what_a_step_gives():
    loss = make_loss(queue_size=3)
    features, maps, labels, is_ood = make_batch()
    loss(features, maps, labels, is_ood)
    v = F.conv2d(features, loss.to_background.weight).relu()
    regions = background_regions(v, pixel_labels(maps) == 0)
    found = {tuple(row) for row in loss.queue.tolist()}
    assert found == {tuple(row) for row in regions[-3:].tolist()}


def test_ood_images_are_background_or_left_out():
    features, maps, labels, is_ood = make_batch()
    loss = make_loss()
    loss(features, maps, labels, is_ood)
    v = F.conv2d(features, loss.to_background.weight).relu()
    whole = background_regions(v[-1:], torch.ones(1, 6, 7, dtype=torch.bool))
    torch.testing.assert_close(loss.queue[int(loss.queued) - 8 : loss.queued], whole)
    without, alone = make_loss(ood_regions=False), make_loss()
    found = without(features, maps, labels, is_ood)
    expected = alone(features[:-1], maps[:-1], labels[:-1], is_ood[:-1])
    assert {k: v.item() for k, v in found.items()} == {
        k: v.item() for k, v in expected.items()
    }
    assert loss.queued == alone.queued + 8


def edge_batches():
    features, maps, labels, is_ood = make_batch()
    nothing = torch.zeros_like(maps)
    yield "no tags", (features, nothing, labels * 0, is_ood)
    yield "no pixel above the floor", (features, maps * 0.04, labels, is_ood)
    yield "one class", (features, maps * (maps == maps[:, :1]), labels, is_ood)
    every = torch.where(labels[:, :, None, None] == 1, 0.2 + 0.8 * maps, 0.0)
    yield "no background", (features[:2], every[:2], labels[:2], is_ood[:2])
    yield "all OoD", (features, nothing, labels * 0, is_ood | True)
    pixel = [make_batch(size=(1, 1))[0], make_batch(size=(1, 1))[1]]
    yield "single pixels", (*pixel, labels, is_ood)
    yield "equal features", (torch.full_like(features, -1), maps, labels, is_ood)


@pytest.mark.parametrize(
    ("name", "batch"), [pytest.param(*case, id=case[0]) for case in edge_batches()]
)
@pytest.mark.parametrize("ood_regions", [True, False])
def test_every_batch_gives_every_loss_and_every_gradient(name, batch, ood_regions):
    loss = make_loss(ood_regions=ood_regions)
    found = loss(*batch)
    assert {f"loss_fbr_{term}" for term in TERMS} == {k for k in found if "loss" in k}
    total = sum(value for key, value in found.items() if "loss" in key)
    assert total.isfinite()
    total.backward()
    # What DistributedDataParallel asks for.
    for parameter in loss.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    if name in ("no tags", "no pixel above the floor", "all OoD"):
        assert found["loss_fbr_fb"] == found["loss_fbr_if"] == 0
        assert set(found) == {f"loss_fbr_{term}" for term in TERMS}
    if name == "one class":
        assert found["loss_fbr_fb"] > 0
        assert found["loss_fbr_if"] == 0
    if name == "no background":
        assert loss.queued == 0
        assert found["loss_fbr_fb"] == 0
        assert found["loss_fbr_if"] > 0


@pytest.mark.parametrize("name", TERMS)
def test_a_weight_of_0_leaves_a_term_out(name):
    whole = make_loss()(*make_batch())
    found = make_loss(**{f"{name}_weight": 0})(*make_batch())
    assert set(whole) - set(found) == {f"loss_fbr_{name}"} | (
        {"fbr_cos_prototype", "fbr_cos_region"} if name == "fb" else set()
    )
    for other in {"sim", "seg"} - {name}:
        if other == "sim" or name == "sim":
            torch.testing.assert_close(
                found[f"loss_fbr_{other}"], whole[f"loss_fbr_{other}"]
            )


def test_at_most_so_many_queries(monkeypatch):
    from mmwood.models.losses import fine_grained_background_loss as module

    seen = []

    def cosines(queries, prototype, negatives):
        seen.append((len(queries), len(negatives)))
        return query_cosines(queries, prototype, negatives)

    query_cosines = module.query_cosines
    monkeypatch.setattr(module, "query_cosines", cosines)
    make_loss(max_queries=3, negatives=11)(*make_batch())
    assert max(seen) == (3, 11)
    assert {count for _, count in seen} == {11}


def train(loss, optimizer, steps) -> None:
    for step in steps:
        optimizer.zero_grad()
        found = loss(*make_batch(seed=step))
        sum(value for key, value in found.items() if "loss" in key).backward()
        optimizer.step()


def test_resumed_steps_are_the_same_to_the_byte():
    straight = make_loss(max_queries=3)
    optimizer = torch.optim.SGD(straight.parameters(), 0.1)
    train(straight, optimizer, range(5))
    first = make_loss(max_queries=3)
    train(first, torch.optim.SGD(first.parameters(), 0.1), range(2))
    torch.manual_seed(99)
    resumed = make_loss(max_queries=3, seed=0)
    resumed.load_state_dict(first.state_dict())
    torch.manual_seed(98)
    train(resumed, torch.optim.SGD(resumed.parameters(), 0.1), range(2, 5))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    other = make_loss(max_queries=3, seed=1)
    train(other, torch.optim.SGD(other.parameters(), 0.1), range(5))
    assert not torch.equal(other.to_foreground.weight, straight.to_foreground.weight)


def test_a_queue_of_another_size_begins_anew():
    loss = make_loss()
    loss(*make_batch())
    other = make_loss(queue_size=20)
    other.load_state_dict(loss.state_dict())
    assert other.queued == 0
    assert not other.queue.any()
    assert torch.equal(other.to_foreground.weight, loss.to_foreground.weight)
    assert other.steps == 1


def test_autocast_changes_nothing(half_dtype):
    torch.manual_seed(0)
    features, maps, labels, is_ood = make_batch()
    features, maps = features.detach().to(half_dtype), maps.float()
    expected = make_loss().float()(features.float(), maps, labels, is_ood)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = make_loss().float()(features, maps, labels, is_ood)
    for name, value in found.items():
        assert torch.equal(value, expected[name])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(fb_weight=-1), "fb_weight must be at least 0"),
        ({f"{name}_weight": 0 for name in TERMS}, "all weights are 0"),
        (dict(regions=0), "regions must be an integer of at least 1"),
        (dict(queue_size=2.5), "queue_size must be an integer"),
        (dict(unsure=60), r"unsure must be in \[0, 1\]"),
        (dict(temperature=0), "temperature must be positive"),
        (dict(dropout=1), "dropout must be at least 0 and below 1"),
        (dict(seed=-1), "seed must be an integer of at least 0"),
    ],
)
def test_wrong_fields(fields, message):
    with pytest.raises(ValueError, match=f"^mmwood.FineGrained.*: {message}"):
        make_loss(**fields)


# In a classifier

HEAD = dict(
    type="mmwood.CAMHead",
    num_classes=3,
    in_channels=64,
    feature_losses=dict(
        fbr=dict(
            type="mmwood.FineGrainedBackgroundLoss",
            in_channels=64,
            channels=8,
            queue_size=20,
        )
    ),
)
BACKBONE = dict(
    type="ResNet", depth=18, stem_channels=8, base_channels=8, strides=(1, 2, 1, 1)
)
HOSTS = {
    "CAMClassifier": dict(type="mmwood.CAMClassifier", norm_eval=True),
    "ImageClassifier": dict(type="mmpretrain.ImageClassifier"),
    "SEAM": dict(
        type="mmwood.SEAM", pcm_in_channels=[16], pcm_channels=[8], levels=["layer2"]
    ),
}


@pytest.mark.parametrize("name", HOSTS)
@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_hosts(name, pooling):
    mmpretrain = pytest.importorskip("mmpretrain")
    head = dict(HEAD, pooling=pooling)
    model = MODELS.build(dict(HOSTS[name], backbone=BACKBONE, head=head)).train()
    samples = [
        mmpretrain.structures.DataSample().set_gt_label(torch.tensor(label))
        for label in ([0], [1, 2])
    ]
    losses = model.loss(torch.randn(2, 3, 64, 64), samples)
    total, _ = model.parse_losses(losses)
    total.backward()
    (loss,) = model.head.feature_losses
    assert loss.to_foreground.weight.grad.any()
    # SEAM sees each image twice.
    assert loss.steps == (2 if name == "SEAM" else 1)
    # Normalised by the batch although the backbone's normalisation is fixed.
    x = torch.randn(4, 8, 3, 3) + 5
    assert loss.seg_norm(x).mean().abs() < 1e-5


@pytest.mark.slow
def test_training_with_ood_images_and_its_resume(wood_config, call_main, tmp_path):
    """The fields are those of mini_voc's config; the second epoch is run twice."""
    pytest.importorskip("mmpretrain")
    from mmengine.config import Config

    cfg = Config.fromfile(CONFIG)
    losses = cfg.model.head.feature_losses.to_dict()
    losses["fbr"].update(in_channels=64, queue_size=100)
    rules = cfg.optim_wrapper.paramwise_cfg.to_dict()
    path = tmp_path / "fbr.py"
    path.write_text(
        f"""
_base_ = ["{wood_config}"]
model = dict(head=dict(feature_losses={losses!r}))
optim_wrapper = dict(paramwise_cfg={rules!r})
train_cfg = dict(max_epochs=2)
# Two steps an epoch; the order of a resumed epoch is drawn anew.
train_dataloader = dict(
    sampler=dict(in_per_batch=3, ood_per_batch=1),
    dataset=dict(in_distribution=dict(indices=6)))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=-1))
"""
    )
    arguments = ("train.py", path, "--no-validate", "--work-dir")
    text = call_main(*arguments, "whole")
    for name in (*(f"loss_fbr_{term}" for term in TERMS), "fbr_cos_region"):
        assert f" {name}: " in text
    (tmp_path / "part").mkdir()
    shutil.copy(tmp_path / "whole/epoch_1.pth", tmp_path / "part")
    call_main(*arguments, "part", "--resume", "part/epoch_1.pth")
    states = [
        torch.load(tmp_path / folder / "epoch_2.pth", weights_only=False)["state_dict"]
        for folder in ("whole", "part")
    ]
    assert states[0]["head.feature_losses.0.steps"] == 4
    # Eight regions of each of the eight images of an epoch.
    assert states[0]["head.feature_losses.0.queued"] > 64
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
    first = torch.load(tmp_path / "whole/epoch_1.pth", weights_only=False)["state_dict"]
    name = "head.feature_losses.0.to_foreground.weight"
    assert not torch.equal(first[name], states[0][name])


def test_a_classifier_names_what_is_each_process_s_own():
    pytest.importorskip("mmpretrain")
    model = MODELS.build(dict(HOSTS["CAMClassifier"], backbone=BACKBONE, head=HEAD))
    own = model._ddp_params_and_buffers_to_ignore
    names = FineGrainedBackgroundLoss.process_buffers
    assert own == [f"head.feature_losses.0.{name}" for name in names]
    assert set(own) <= {name for name, _ in model.named_buffers()}


PROCESSES = """
import sys
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from mmwood.models import FineGrainedBackgroundLoss

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
for broadcast, own in ((False, []), (True, []), (True, ["queue", "queued", "steps"])):
    torch.manual_seed(0)
    loss = FineGrainedBackgroundLoss(6, channels=4, queue_size=40)
    loss._ddp_params_and_buffers_to_ignore = own
    wrapped = DistributedDataParallel(loss, broadcast_buffers=broadcast)
    torch.manual_seed(rank + 1)
    for step in range(2):
        features, maps = torch.randn(2, 6, 5, 5), torch.rand(2, 3, 5, 5) ** 4
        # Eight regions an image; then one process's images show nothing at all.
        maps[:, :, :3] = 0
        maps = maps * (rank == 0 or step == 0)
        losses = wrapped(features, maps, maps.amax((2, 3)) > 0, torch.zeros(2) > 0)
        sum(v for k, v in losses.items() if "loss" in k).backward()
    gradients = torch.cat([p.grad.flatten() for p in loss.parameters()])
    for values in (gradients, loss.queue[:16], loss.queue[16:32]):
        both = [torch.zeros_like(values) for _ in range(2)]
        dist.all_gather(both, values.contiguous())
        print(int(torch.allclose(*both)), end="")
    print(end=" ")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_queues_of_two_processes(tmp_path):
    """Each has its own; torch's broadcasting takes the first's where none says no."""
    processes = [
        subprocess.Popen(
            [
                sys.executable,
                "-W",
                "ignore",
                "-c",
                PROCESSES,
                str(rank),
                tmp_path / "s",
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        # Equal are the gradients, and what is in the queue of the first step.
        assert process.communicate(timeout=300)[0].split() == ["100", "110", "100"]
