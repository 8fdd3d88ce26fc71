"""Fisher information of real networks: what it does not depend on, and leaves alone."""

import copy
import random
from functools import partial

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.runner.activation_checkpointing import turn_on_activation_checkpointing
from torch import nn
from torch.nn import functional as F

pytest.importorskip("mmpretrain")
pytest.importorskip("mmseg")

from mmwood.engine.fisher import measure_fisher

PIPELINE = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations"),
    dict(type="RandomCrop", crop_size=(32, 32)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]


@pytest.mark.slow
def test_random_pipelines_workers_and_checkpointing(segmentor_config, load):
    cfg = load(segmentor_config, train_dataloader__dataset__pipeline=PIPELINE)
    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(cfg.model).train()
    model.init_weights()
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    params = dict(model.named_parameters())
    for param in params.values():
        param.grad = torch.ones_like(param)

    def states():
        return [
            torch.get_rng_state().tolist(),
            np.random.get_state()[1].tolist(),
            random.getstate(),
        ]

    measure = partial(measure_fisher, model, dataset, params, collate_fn=pseudo_collate)
    torch.rand(3), np.random.rand(3)
    before = states()
    first, images = measure(seed=5, num_workers=0)
    assert images == 6
    assert states() == before
    assert model.training
    assert all(bool((param.grad == 1).all()) for param in params.values())
    torch.rand(3), np.random.rand(3)
    again, _ = measure(seed=5, num_workers=2)
    other, _ = measure(seed=6, num_workers=0)
    for block in model.backbone.layer1:
        block.with_cp = True
    checkpointed, _ = measure(seed=5, num_workers=0)
    assert all(block.with_cp for block in model.backbone.layer1)
    # The Runner's field.
    turn_on_activation_checkpointing(model, ["backbone", "decode_head"])
    by_runner, _ = measure(seed=5, num_workers=0)
    for found in (again, checkpointed, by_runner):
        torch.testing.assert_close(found, first, rtol=2e-3, atol=1e-9)
    bias = "decode_head.conv_seg.bias"
    assert not torch.allclose(first[bias], other[bias], rtol=0.01)
    with torch.no_grad():
        params[bias].fill_(float("nan"))
    with pytest.raises(ValueError, match=r"backbone\.conv1\.weight is not finite"):
        measure(num_workers=0)


class NormAct(nn.BatchNorm1d):
    """Batch norm with its activation inside, as in timm's networks."""

    def __init__(self, channels):
        super().__init__(channels)
        self.act = nn.Identity()

    def forward(self, x):
        return self.act(super().forward(x))


class Counting(BaseModel):
    """Counts its images, and gives what its loss needs in training mode only."""

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)
        self.norm = NormAct(3)
        self.norm.running_mean += 0.1
        self.fc = nn.Linear(3, 2)
        self.register_buffer("seen", torch.zeros(()))

    def scores(self, x):
        if self.training:
            self.seen = self.seen + len(x)
        scores = self.fc(self.norm(self.drop(x)))
        return [scores, 2 * scores] if self.training else scores

    def forward(self, x, label, mode="loss"):
        once, twice = self.scores(x)
        parts = [F.cross_entropy(once, label), F.cross_entropy(twice, label)]
        return dict(loss_once=parts[0], loss_twice=parts[1])


def test_a_loss_of_training_mode_leaves_buffers_and_flags():
    images = torch.rand(4, 3, generator=torch.manual_seed(0))
    dataset = [dict(x=image, label=number % 2) for number, image in enumerate(images)]
    model = Counting()
    norm, fc = model.norm, model.fc
    expected = torch.zeros(2, 3)
    for number, image in enumerate(images):
        features = (image - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
        scores = fc.weight @ features + fc.bias
        loss = -scores.log_softmax(0)[number % 2]
        loss = loss - (2 * scores).log_softmax(0)[number % 2]
        (gradient,) = torch.autograd.grad(loss, fc.weight)
        expected += gradient**2 / 4

    before = copy.deepcopy(model.state_dict())
    for training in (True, False):
        model.train(training)
        # A layer that a hook has fixed.
        norm.eval()
        flags = [module.training for module in model.modules()]
        fisher, _ = measure_fisher(model, dataset, {"fc": fc.weight}, num_workers=0)
        torch.testing.assert_close(fisher["fc"], expected)
        assert flags == [module.training for module in model.modules()]
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
