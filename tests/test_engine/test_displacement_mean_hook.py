"""The mean displacement that checkpoints hold, against slow references."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, init_default_scope

pytestmark = pytest.mark.slow

INSTANCES = dict(model__test_cfg__instances=dict(background=0.25))


def load(checkpoint: Path) -> dict:
    return torch.load(checkpoint, map_location="cpu", weights_only=False)


@torch.no_grad()
def slow_mean(config: Path, state: dict, folder: Path) -> torch.Tensor:
    """Of every pixel of every image, one image at a time, without loader or hook."""
    init_default_scope("mmpretrain")
    model = MODELS.build(Config.fromfile(config).model).eval()
    model.load_state_dict(state)
    values = []
    for path in sorted((folder / "JPEGImages").glob("*.jpg")):
        pixels = np.array(Image.open(path).convert("RGB"))
        x = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
        height, width = x.shape[2:]
        pad = [0, max(0, 32 - width), 0, max(0, 32 - height)]
        _, displacement = model(F.pad((x - 127.5) / 127.5, pad))
        rows, columns = ((side - 1) // 4 + 1 for side in (height, width))
        values.append(displacement[0, :, :rows, :columns].flatten(1))
    return torch.cat(values, dim=1).mean(dim=1)


class StopAt(Hook):
    """Ends a training as EarlyStoppingHook does, in a given hook point."""

    priority = "LOWEST"

    def __init__(self, point: str, iteration: int) -> None:
        def stop(runner, *args, **kwargs):
            if runner.iter + (point == "after_train_iter") == iteration:
                runner.train_loop.stop_training = True

        setattr(self, point, stop)


def validated(config: Path) -> dict:
    """A config's changes that make it validate on its test images."""
    cfg = Config.fromfile(config)
    return dict(
        val_cfg=dict(),
        val_dataloader=cfg.test_dataloader,
        val_evaluator=cfg.test_evaluator,
    )


BY_ITER = dict(
    train_cfg=dict(type="IterBasedTrainLoop", max_iters=8, val_interval=2),
    param_scheduler=[],
    log_processor=dict(by_epoch=False),
    default_hooks__checkpoint__by_epoch=False,
)
#: Where a training of 3 epochs of 3 iterations is stopped, and its last checkpoint.
STOPS = {
    "whole": ([], dict(train_cfg__max_epochs=1), "epoch_1.pth"),
    "after validation": (
        [dict(type=StopAt, point="after_val_epoch", iteration=6)],
        dict(train_cfg__max_epochs=3),
        "epoch_2.pth",
    ),
    "after an epoch": (
        [dict(type=StopAt, point="after_train_epoch", iteration=6)],
        dict(train_cfg__max_epochs=3),
        "epoch_2.pth",
    ),
    "whole, by iterations": ([], dict(BY_ITER, train_cfg__max_iters=2), "iter_2.pth"),
    "after validation, by iterations": (
        [dict(type=StopAt, point="after_val_epoch", iteration=4)],
        dict(BY_ITER, default_hooks__checkpoint__interval=4),
        "iter_4.pth",
    ),
    "after an iteration": (
        [dict(type=StopAt, point="after_train_iter", iteration=3)],
        dict(BY_ITER),
        "iter_3.pth",
    ),
}


@pytest.mark.parametrize(("stop", "changes", "last"), STOPS.values(), ids=STOPS)
def test_the_last_checkpoint_has_the_mean_of_its_weights(
    irn_config, build_runner, tmp_path, voc_folder, stop, changes, last
):
    changes = dict(validated(irn_config), **changes)
    hooks = [dict(type="mmengine.EMAHook", momentum=0.3), *stop]
    runner = build_runner(irn_config, "work", custom_hooks=hooks, **changes)
    runner.train()
    assert (tmp_path / "work/last_checkpoint").read_text().endswith(last)
    checkpoint = load(tmp_path / "work" / last)
    expected = slow_mean(irn_config, checkpoint["state_dict"], voc_folder)
    for found in (
        checkpoint["state_dict"]["displacement_mean"],
        checkpoint["ema_state_dict"]["module.displacement_mean"],
        runner.model.displacement_mean,
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_mean_with_ema(irn_config, build_runner, tmp_path, voc_folder, averaging):
    runner = build_runner(irn_config, "work", custom_hooks=averaging)
    runner.train()
    state = load(tmp_path / "work/epoch_1.pth")["state_dict"]
    expected = slow_mean(irn_config, state, voc_folder)
    for found in (state["displacement_mean"], runner.model.displacement_mean):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # Resumed, and with another learning rate, it is that of the new weights.
    runner = build_runner(
        irn_config,
        "work",
        custom_hooks=averaging,
        resume=True,
        train_cfg__max_epochs=2,
    )
    runner.train()
    state = load(tmp_path / "work/epoch_2.pth")["state_dict"]
    again = slow_mean(irn_config, state, voc_folder)
    assert not torch.allclose(again, expected, rtol=1e-3)
    torch.testing.assert_close(state["displacement_mean"], again, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "averaging", [None, dict(momentum=0.3, update_buffers=True)], indirect=True
)
def test_checkpoints_of_mid_training(
    irn_config, build_runner, tmp_path, voc_folder, averaging
):
    """They have no mean; tests that make instances measure it, others need none."""
    changes = dict(
        validated(irn_config),
        train_cfg__max_epochs=2,
        custom_hooks=averaging,
    )
    build_runner(irn_config, "work", **changes, **INSTANCES).train()
    first = tmp_path / "work/epoch_1.pth"
    state = load(first)["state_dict"]
    assert state["displacement_mean"].isnan().all()
    expected = slow_mean(irn_config, state, voc_folder)

    def test(name: str, **more) -> torch.Tensor:
        runner = build_runner(
            irn_config, name, load_from=str(first), custom_hooks=averaging, **more
        )
        runner.test()
        return runner.model.displacement_mean

    found = test("instances", **INSTANCES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert test("maps").isnan().all()
    if not averaging:
        with pytest.raises(ValueError, match="needs the mean displacement, which"):
            test(
                "bare",
                **INSTANCES,
                train_dataloader=None,
                train_cfg=None,
                optim_wrapper=None,
                param_scheduler=None,
            )


def test_validation_leaves_the_training_as_it_is(irn_config, build_runner, tmp_path):
    """Its mean is forgotten, and no random number of torch is drawn for it."""
    shuffled = dict(train_dataloader__sampler__shuffle=True, train_cfg__max_epochs=2)
    states = []
    for name, more in (
        ("plain", {}),
        ("validated", dict(validated(irn_config), **INSTANCES)),
    ):
        build_runner(irn_config, name, **shuffled, **more).train()
        states.append(load(tmp_path / name / "epoch_2.pth")["state_dict"])
    for name, values in states[0].items():
        assert torch.equal(values, states[1][name]), name
