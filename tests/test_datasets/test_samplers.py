import itertools
import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch.utils.data import DataLoader, Dataset

from mmwood.datasets import OoDFractionSampler, OoDRatioSampler
from mmwood.datasets.samplers import ratio_indices


class Numbers(Dataset):
    """As many numbers as there are images of both kinds."""

    def __init__(self, num_in: int, num_ood: int) -> None:
        self.num_in = num_in
        self.num_ood = num_ood

    def __len__(self) -> int:
        return self.num_in + self.num_ood

    def __getitem__(self, index: int) -> int:
        return index


def slow_training(num_in, num_ood, in_per_batch, ood_per_batch, world, seed, epochs):
    """Batches by [epoch][step][rank], dealt out image by image."""

    def endless():
        for number in itertools.count():
            generator = np.random.default_rng((seed, number))
            yield from (num_in + generator.permutation(num_ood)).tolist()

    ood = endless()
    training = []
    for epoch in range(epochs):
        generator = torch.Generator().manual_seed(seed + epoch)
        images = torch.randperm(num_in, generator=generator).tolist()
        training.append([])
        while len(images) >= in_per_batch * world:
            batches = [[] for _ in range(world)]
            for _ in range(in_per_batch):
                for batch in batches:
                    batch.append(images.pop(0))
            for _ in range(ood_per_batch):
                for batch in batches:
                    batch.append(next(ood))
            training[-1].append(batches)
    return training


sizes = st.fixed_dictionaries(
    dict(
        num_in=st.integers(6, 30),
        num_ood=st.integers(1, 20),
        in_per_batch=st.integers(1, 2),
        ood_per_batch=st.integers(0, 5),
        seed=st.integers(0, 2**31 - 1),
    )
)


@given(sizes, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_indices_of_all_processes_and_epochs(size, world):
    expected = slow_training(**size, world=world, epochs=4)
    for epoch, rank in itertools.product(range(4), range(world)):
        found = ratio_indices(**size, epoch=epoch, rank=rank, world=world)
        batches = [step[rank] for step in expected[epoch]]
        assert found.tolist() == batches


@given(sizes, st.integers(1, 3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_image_comes_once_before_any_comes_again(size, world, shuffle):
    num_in, inside = size["num_in"], size["in_per_batch"]
    used = []
    for epoch in range(3):
        ranks = [
            ratio_indices(**size, epoch=epoch, rank=rank, world=world, shuffle=shuffle)
            for rank in range(world)
        ]
        # Several processes do together what one does with larger batches.
        larger = dict(
            in_per_batch=inside * world, ood_per_batch=size["ood_per_batch"] * world
        )
        one = ratio_indices(
            **{**size, **larger}, epoch=epoch, rank=0, world=1, shuffle=shuffle
        )
        together = np.concatenate(ranks, axis=1)
        assert together.shape == one.shape
        np.testing.assert_array_equal(np.sort(together), np.sort(one))
        assert all((rank[:, :inside] < num_in).all() for rank in ranks)
        assert all((rank[:, inside:] >= num_in).all() for rank in ranks)
        labelled = one[:, : inside * world].flatten()
        assert len(set(labelled)) == len(labelled) > num_in - inside * world
        used.extend(one[:, inside * world :].flatten() - num_in)
    rounds = [
        used[start : start + size["num_ood"]]
        for start in range(0, len(used), size["num_ood"])
    ]
    for images in rounds:
        assert len(set(images)) == len(images)


@pytest.mark.parametrize("shuffle", [True, False])
def test_without_ood_images_it_is_the_stock_sampler(shuffle):
    dataset = Numbers(20, 0)
    options = dict(seed=3, shuffle=shuffle)
    sampler = OoDRatioSampler(dataset, in_per_batch=4, ood_per_batch=0, **options)
    stock = DefaultSampler(dataset, **options)
    assert sampler.batch_size == 4
    assert len(sampler) == 20
    for epoch in (0, 1, 5):
        sampler.set_epoch(epoch)
        stock.set_epoch(epoch)
        assert list(sampler) == list(stock)


def training(sampler: OoDRatioSampler, loops: int) -> list[int]:
    """What a loop draws that counts its epochs from 0."""
    indices = []
    for number in range(loops):
        sampler.set_epoch(number)
        indices.extend(sampler)
    return indices


def test_skip_leads_where_an_undisturbed_training_would_be():
    options = dict(
        dataset=Numbers(11, 7), in_per_batch=3, ood_per_batch=2, seed=5, shuffle=True
    )
    length = len(OoDRatioSampler(**options))
    assert length == 15
    whole = training(OoDRatioSampler(**options), 6)
    for skipped in range(0, 4 * length):
        sampler = OoDRatioSampler(**options)
        # The epoch of a checkpoint, which does not count for an absolute place.
        sampler.set_epoch(skipped % 3)
        sampler.skip(skipped)
        first = list(sampler)
        assert first == whole[skipped : length * (skipped // length + 1)]
        sampler.set_epoch(1)
        second = list(sampler)
        rest = whole[skipped + len(first) :]
        assert second == rest[:length]
    with pytest.raises(ValueError, match="num_samples must be at least 0, but is -1"):
        sampler.skip(-1)


def test_batches_of_a_loader_with_persistent_workers():
    dataset = Numbers(9, 5)
    sampler = OoDRatioSampler(dataset, in_per_batch=2, ood_per_batch=3, seed=1)
    loader = DataLoader(
        dataset,
        batch_size=sampler.batch_size,
        sampler=sampler,
        num_workers=2,
        persistent_workers=True,
        # Python 3.14's default imports this file anew.
        multiprocessing_context="fork",
    )
    expected = slow_training(9, 5, 2, 3, world=1, seed=1, epochs=3)
    assert len(loader) == 4
    for epoch in range(3):
        sampler.set_epoch(epoch)
        batches = [batch.tolist() for batch in loader]
        assert batches == [step[0] for step in expected[epoch]]


PROCESS = """
import json, sys
import torch.distributed as dist
from torch.utils.data import TensorDataset
import torch

from mmwood.datasets import OoDRatioSampler

rank, store = int(sys.argv[1]), sys.argv[2]
dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
dataset = TensorDataset(torch.zeros(14))
dataset.num_in = 9
sampler = OoDRatioSampler(dataset, in_per_batch=2, ood_per_batch=1)
sampler.set_epoch(2)
print(json.dumps([sampler.seed, len(sampler), list(sampler)]))
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", PROCESS, str(rank), tmp_path / "s"],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    results = [json.loads(process.communicate()[0]) for process in processes]
    (seed, *_), (other_seed, *_) = results
    assert seed == other_seed
    expected = slow_training(9, 5, 2, 1, world=2, seed=seed, epochs=3)[2]
    for rank, (_, length, indices) in enumerate(results):
        assert length == 6
        assert indices == [index for step in expected for index in step[rank]]


@pytest.mark.parametrize(
    ("dataset", "inside", "ood", "message"),
    [
        ([1, 2], 1, 1, "OoDMixDataset, it is a list"),
        (Numbers(4, 4), 0, 1, "in_per_batch must be at least 1, but is 0"),
        (Numbers(4, 4), 1, -1, "ood_per_batch must be at least 0, but is -1"),
        (Numbers(4, 4), 5, 1, r"4 in-distribution images .* 1 x 5 = 5"),
        (Numbers(4, 0), 2, 1, r"ood_per_batch is 1, but .* no OoD image"),
    ],
)
def test_refusals(dataset, inside, ood, message):
    with pytest.raises(ValueError, match=message):
        OoDRatioSampler(dataset, in_per_batch=inside, ood_per_batch=ood)


class Recorder(BaseModel):
    """Write down the images of every step."""

    def __init__(self, log: str) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.log = log

    def forward(self, inputs, data_samples, mode="loss"):
        line = [[s.img_id, s.is_ood] for s in data_samples]
        with Path(self.log).open("a") as file:
            file.write(json.dumps(line) + "\n")
        return dict(loss=self.weight * 0.0)


def train(root: Path, name: str, resume: str | None = None, **train_cfg) -> list:
    """Train a :class:`Recorder` in a Runner; gives the images of its steps."""
    part = dict(
        type="mmwood.OoDDataset",
        data_root=str(root),
        serialize_data=False,
        pipeline=[
            dict(type="mmwood.LoadImage"),
            dict(type="Resize", scale=(16, 16)),
            dict(type="PackInputs", meta_keys=["img_id"]),
        ],
    )
    by_epoch = "max_epochs" in train_cfg
    log = root / f"{name}.jsonl"
    Runner(
        model=Recorder(str(log)),
        work_dir=str(root / name),
        experiment_name=f"{root.name}_{name}",
        train_dataloader=dict(
            dataset=dict(
                type="mmwood.OoDMixDataset",
                in_distribution=dict(**part, data_prefix=dict(img_path="JPEGImages")),
                ood=dict(**part, data_prefix=dict(img_path="SegmentationClass")),
            ),
            batch_size=5,
            num_workers=0,
            sampler=dict(
                type="mmwood.OoDRatioSampler", in_per_batch=2, ood_per_batch=3
            ),
            collate_fn=dict(type="default_collate"),
        ),
        train_cfg=dict(by_epoch=by_epoch, **train_cfg),
        optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.1)),
        default_hooks=dict(
            checkpoint=dict(
                type="CheckpointHook", by_epoch=by_epoch, interval=1 if by_epoch else 4
            )
        ),
        randomness=dict(seed=4),
        default_scope="mmpretrain",
        load_from=resume and str(root / resume),
        resume=resume is not None,
    ).train()
    return [json.loads(line) for line in log.read_text().splitlines()]


@pytest.mark.slow
def test_resuming(voc_folder):
    pytest.importorskip("mmpretrain")
    whole = train(voc_folder, "epochs", max_epochs=3)
    assert len(whole) == 9
    for batch in whole:
        assert [is_ood for _, is_ood in batch] == [False] * 2 + [True] * 3
    rest = train(voc_folder, "rest", "epochs/epoch_1.pth", max_epochs=3)
    assert rest == whole[3:]
    # Three steps an epoch: the checkpoint is in the second one, the end in the third.
    assert train(voc_folder, "steps", max_iters=7) == whole[:7]
    rest = train(voc_folder, "rest_steps", "steps/iter_4.pth", max_iters=7)
    assert rest == whole[4:7]


fractions = st.fixed_dictionaries(
    dict(
        num_in=st.integers(12, 40),
        num_ood=st.integers(1, 9),
        batch=st.integers(1, 4),
        percent=st.integers(0, 50),
        seed=st.integers(0, 2**31 - 1),
    )
)


@given(fractions, st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_fraction_of_all_images(size, world):
    """Image by image: another OoD one is due when the fraction of all asks for it."""
    batch, percent, num_in = size["batch"], size["percent"], size["num_in"]
    ood = Fraction(percent, 100) * batch
    options = dict(in_per_batch=batch - ood, ood_per_batch=ood, world=world)
    options |= {key: size[key] for key in ("num_in", "num_ood", "seed")}
    given_out, steps = 0, 0
    used: list[int] = []
    for epoch in range(3):
        ranks = [ratio_indices(**options, epoch=epoch, rank=r) for r in range(world)]
        inside = []
        for step in zip(*ranks):
            steps += 1
            counts = []
            for images in step:
                assert len(images) == batch
                outside = [image for image in images.tolist() if image >= num_in]
                # In-distribution images come first.
                assert images.tolist()[batch - len(outside) :] == outside
                inside += images.tolist()[: batch - len(outside)]
                counts.append(len(outside))
            due = steps * batch * world * percent // 100
            assert sum(counts) == due - given_out
            assert max(counts) - min(counts) <= 1
            given_out = due
            used += [
                number - num_in
                for slot in range(batch)
                for number in (int(images[slot]) for images in step)
                if number >= num_in
            ]
        assert len(set(inside)) == len(inside)
        # What is left over would not fill another step.
        assert num_in - len(inside) < batch * world + 1
    for start in range(0, len(used), size["num_ood"]):
        images = used[start : start + size["num_ood"]]
        assert len(set(images)) == len(images)
    # One process with larger batches has the same images in each step.
    larger = dict(in_per_batch=(batch - ood) * world, ood_per_batch=ood * world)
    one = ratio_indices(**{**options, **larger, "world": 1}, epoch=2, rank=0)
    np.testing.assert_array_equal(np.sort(np.concatenate(ranks, axis=1)), np.sort(one))


def test_fractions_and_their_batches():
    def sampler(**options) -> OoDFractionSampler:
        return OoDFractionSampler(Numbers(100, 7), **{"batch_size": 8, **options})

    def outside(found: OoDFractionSampler) -> list[int]:
        batches = np.array(training(found, 2)).reshape(-1, 8)
        return (batches >= 100).sum(axis=1).tolist()

    first, other = sampler(seed=0), sampler(seed=1)
    assert first.batch_size == 8
    assert len(first) % 8 == 0
    # floor(0.8 n) after n steps.
    assert outside(first)[:10] == [0, 1, 1, 1, 1] * 2
    assert training(first, 2) == training(sampler(seed=0), 2)
    assert training(first, 2) != training(other, 2)
    assert outside(first) == outside(other)
    assert sum(outside(sampler(fraction=0.0, seed=0))) == 0
    # One eighth is what whole numbers can say.
    whole = OoDRatioSampler(Numbers(100, 7), in_per_batch=7, ood_per_batch=1, seed=0)
    assert training(sampler(fraction=0.125, seed=0), 3) == training(whole, 3)
    # A single image a batch, of which every tenth is OoD.
    single = sampler(batch_size=1, seed=0)
    assert [n >= 100 for n in single][:20] == ([False] * 9 + [True]) * 2
    undisturbed = training(sampler(seed=0), 4)
    resumed = sampler(seed=0)
    resumed.skip(len(resumed) + 24)
    assert list(resumed) == undisturbed[len(resumed) + 24 : 2 * len(resumed)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(fraction=1), "fraction must be at least 0 and below 1, but is 1"),
        (dict(fraction=-0.1), "sampler.fraction must be at least 0"),
        (dict(batch_size=0), "batch_size must be an integer of at least 1"),
        (dict(batch_size=300), "20 in-distribution images cannot fill one step of 1 x"),
    ],
)
def test_refused_fractions(options, message):
    with pytest.raises(ValueError, match=message):
        OoDFractionSampler(Numbers(20, 4), **{"batch_size": 8, **options})
