"""Every hook beside trainings, EMAHook and other tests of one process."""

import hashlib
from pathlib import Path

import pytest

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.hooks import Hook

from mmwood.engine import hooks
from mmwood.fileio.mining_results import merged
from mmwood.ood.candidates import write_candidate_list
from mmwood.ood.config import use_candidates

pytestmark = pytest.mark.slow

#: The config of each hook, and its fields.
CASES = {
    "CAMVisualizationHook": (
        "small_config",
        dict(enable=True, interval=2, out_dir="{out}/pictures"),
    ),
    "ChannelsLastHook": ("small_config", dict()),
    "CheckpointGuardHook": ("small_config", dict()),
    "DisplacementMeanHook": ("irn_config", dict(num_workers=0)),
    "EWCHook": ("small_config", dict(mode="consolidate", num_workers=0)),
    "IgnoreBiasedHook": ("segmentor_config", dict()),
    "OoDClusterHook": ("wood_config", dict(clusters=3, num_workers=0)),
    "ProgressBarHook": ("small_config", dict()),
    "PseudoLabelHook": (
        "small_config",
        dict(out_dir="{out}/labels", save_scores=["full"]),
    ),
    "StartCheckHook": ("small_config", dict()),
    "TeacherLabelHook": ("segmentor_config", dict()),
    "TestScoresHook": ("small_config", dict()),
}
#: In tests of their own: that of tools/mine_ood.py, and one that wants a network that
#: drops something in training.
OTHERS = {"OoDMiningHook", "TeacherMapHook"}


def test_every_hook_is_listed():
    assert {*CASES, *OTHERS} == {*hooks.__all__}


def content(*folders: Path) -> dict[Path, str]:
    """Hashes of the files in folders, but for logs."""
    return {
        path: hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in (".csv", ".png", ".pth", ".safetensors")
    }


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "averaging",
    [None, dict(momentum=0.3, update_buffers=True)],
    indirect=True,
    ids=["plain", "average of buffers"],
)
def test_a_test_gives_the_same_each_time(
    request, build_runner, tmp_path, averaging, name
):
    config, fields = CASES[name]
    out = tmp_path / "out"
    fields = {
        key: value.format(out=out) if isinstance(value, str) else value
        for key, value in fields.items()
    }
    hook = dict(type=f"mmwood.{name}", **fields)
    # Where the config has it already.
    named = dict(
        OoDClusterHook="ood_clusters", DisplacementMeanHook="displacement_mean"
    )
    changes = dict(default_hooks__pseudo_label=None)
    if name in named:
        changes[f"default_hooks__{named[name]}"] = None
    if config == "segmentor_config":
        # That of sizes without an instance is NaN, which does not equal itself.
        changes["test_evaluator"] = [dict(type="IoUMetric")]
    config = request.getfixturevalue(config)
    runner = build_runner(config, "work", custom_hooks=[hook, *averaging], **changes)
    runner.train()
    first = runner.test()
    files = content(out, tmp_path / "work")
    pictures = dict(CAMVisualizationHook=3, PseudoLabelHook=6).get(name, 0)
    assert len(list(out.rglob("*.png"))) == pictures
    for _ in range(2):
        assert runner.test() == first
        assert content(out, tmp_path / "work") == files
    # Another process tests the checkpoint, with EMAHook or without.
    changes.update(load_from=(tmp_path / "work/last_checkpoint").read_text())
    if name == "PseudoLabelHook" and averaging:
        # The checkpoint holds averaged weights, the files are of the trained ones.
        hook["out_dir"] = f"{out}/averaged"
    fresh = build_runner(config, "fresh", custom_hooks=[hook], **changes).test()
    if averaging:
        # In this process mmengine's begins anew with the trained weights.
        both = [hook, *averaging]
        averaged = build_runner(config, "both", custom_hooks=both, **changes)
        assert averaged.test() == fresh
    else:
        assert fresh == first
    if hook.get("out_dir") == fields.get("out_dir"):
        assert content(out).keys() == {path for path in files if out in path.parents}


class FailOnce(Hook):
    """Ends the first test at its second batch."""

    failed = False

    def before_test_iter(self, runner, batch_idx, **kwargs):
        if batch_idx == 1 and not self.failed:
            self.failed = True
            raise KeyboardInterrupt


@pytest.mark.parametrize("fails", [False, True], ids=["whole", "broken off"])
def test_mining_gives_the_same_each_time(
    small_config, voc_folder, build_runner, tmp_path, fails
):
    build_runner(small_config, "work", default_hooks__pseudo_label=None).train()
    cfg = Config.fromfile(small_config)
    cfg.load_from = str(tmp_path / "work/epoch_1.pth")
    candidates = tmp_path / "mining/candidates.txt"
    candidates.parent.mkdir()
    write_candidate_list(voc_folder / "JPEGImages", candidates)
    use_candidates(cfg, str(candidates), threshold=0.0, batch_size=2)
    cfg.custom_hooks = [dict(type=FailOnce)] * fails
    runner = build_runner(cfg, "mined")
    if fails:
        with pytest.raises(KeyboardInterrupt):
            runner.test()
    found = []
    for _ in range(3):
        runner.test()
        assert len(runner.test_dataloader) == 3
        with merged(tmp_path / "mining") as results:
            query = "SELECT number, class, probability FROM found ORDER BY 1, 2"
            found.append(results.execute(query).fetchall())
    # Six images of three classes.
    assert len(found[0]) == 18
    assert found[0] == found[1] == found[2]
