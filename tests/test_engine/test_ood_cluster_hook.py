"""Cluster centres in real trainings, against features computed image by image."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("mmpretrain")

from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from sklearn.cluster import KMeans

from mmwood.engine import OoDClusterHook

HOOK = "default_hooks.ood_clusters"


def slow_features(config: Path, checkpoint: Path, paths: list[str]) -> np.ndarray:
    """(N, D) features, one image at a time, without a data set or a loader."""
    init_default_scope("mmpretrain")
    cfg = Config.fromfile(config)
    cfg.model.head.type = "mmwood.CAMHead"
    model = MODELS.build(cfg.model).eval()
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict({k: v for k, v in state.items() if "centers" not in k})
    rows = []
    for path in paths:
        picture = np.array(Image.open(path).convert("RGB"), dtype=np.float32)
        image = torch.from_numpy((picture - 127.5) / 127.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            rows.append(model.backbone(image)[-1].mean(dim=(2, 3))[0].numpy())
    return np.stack(rows).astype(np.float64)


def centers_of(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return tuple(state[f"head.{name}_centers"].numpy() for name in ("in", "ood"))


def members_of(folder: Path) -> list[dict]:
    with (folder / "members.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def classifier(small_config: Path, run_tool, tmp_path: Path) -> Path:
    """One epoch of the classifier without OoD images."""
    run_tool("train.py", small_config, "--work-dir", "f_in")
    return tmp_path / "f_in/epoch_1.pth"


def test_centers_by_one_process_by_two_and_after_resume(
    wood_config, classifier, voc_folder, run_tool, tmp_path
):
    start = f"load_from={classifier}"
    text = run_tool(
        "train.py", wood_config, "--work-dir", "one", "--cfg-options", start
    )
    assert "3 OoD clusters of 7 images" in text
    for name in ("loss_cls", "loss_cls_ood", "loss_in_distance", "loss_ood_distance"):
        assert f" {name}: " in text
    in_centers, ood_centers = centers_of(tmp_path / "one/epoch_1.pth")

    paths = [str(voc_folder / f"JPEGImages/image_{i}.jpg") for i in range(6)]
    z = slow_features(wood_config, classifier, paths)
    shown = [{0}, {1, 2}, {2}, {0, 1}, {1}, {2, 0}]
    for c in range(3):
        rows = [z[i] for i in range(6) if c in shown[i]]
        np.testing.assert_allclose(in_centers[c], np.mean(rows, axis=0), atol=1e-5)

    folder = tmp_path / "one/ood_clusters"
    members = members_of(folder)
    z = slow_features(wood_config, classifier, [row["image"] for row in members])
    means = KMeans(3, n_init=10, random_state=0).fit(z)
    order = lambda centers: centers[np.lexsort(centers.T)]  # noqa: E731
    np.testing.assert_allclose(
        order(ood_centers), order(means.cluster_centers_), atol=1e-5
    )
    for row, features in zip(members, z):
        distances = np.linalg.norm(ood_centers - features, axis=1)
        assert int(row["cluster"]) == distances.argmin()
        assert float(row["distance"]) == pytest.approx(distances.min(), abs=1e-5)
        assert row["class"] in ("disc", "square", "stripe")
        assert 0 < float(row["probability"]) < 1
    content = json.loads((folder / "clusters.json").read_text())
    sizes = [0, 0, 0]
    for row in members:
        sizes[int(row["cluster"])] += 1
    assert content["sizes"] == sizes
    assert content["method"] == "kmeans"
    assert content["checkpoint"] == str(classifier)

    # Resumed, the centres are those of the checkpoint.
    text = run_tool(
        *("train.py", wood_config, "--work-dir", "one", "--resume"),
        *("--cfg-options", "train_cfg.max_epochs=2"),
    )
    assert "resumed epoch: 1" in text
    assert "OoD clusters of" not in text
    for found, expected in zip(
        centers_of(tmp_path / "one/epoch_2.pth"), (in_centers, ood_centers)
    ):
        np.testing.assert_array_equal(found, expected)

    # Tests need no centres made, and no OoD images.
    run_tool("test.py", wood_config, "one/epoch_2.pth", "--work-dir", "tested")

    # Two processes share the extraction and get the same centres.
    run_tool(
        *("dist_train.sh", wood_config, 2, "--work-dir", "two"),
        *("--cfg-options", start, f"{HOOK}.batch_size=2"),
    )
    for found, expected in zip(
        centers_of(tmp_path / "two/epoch_1.pth"), (in_centers, ood_centers)
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_checkpoint_of_another_network(wood_config, run_tool, tmp_path):
    state = {"backbone.conv1.weight": torch.zeros(3, 3)}
    torch.save(dict(state_dict=state), tmp_path / "other.pth")
    options = ("--cfg-options", f"{HOOK}.checkpoint=other.pth")
    text = run_tool("train.py", wood_config, *options, fails=True)
    assert "OoDClusterHook.checkpoint other.pth holds no backbone." in text
    anyway = "default_hooks.checkpoint_guard.min_share=0"
    run_tool("train.py", wood_config, *options, anyway)


def test_predicted_classes_given_checkpoint_and_interval(
    wood_config, classifier, run_tool, tmp_path
):
    text = run_tool(
        *("train.py", wood_config, "--work-dir", "predicted", "--cfg-options"),
        *(f"{HOOK}.method=predicted", f"{HOOK}.checkpoint={classifier}"),
    )
    folder = tmp_path / "predicted/ood_clusters"
    content = json.loads((folder / "clusters.json").read_text())
    members = members_of(folder)
    z = slow_features(wood_config, classifier, [row["image"] for row in members])
    _, centers = centers_of(tmp_path / "predicted/epoch_1.pth")
    # The weights that were trained are not those that the centres come from.
    assert content["checkpoint"] == str(classifier)
    classes = ("disc", "square", "stripe")
    used = [name for name in classes if any(row["class"] == name for row in members)]
    assert content["names"] == used
    for name, center in zip(used, centers):
        rows = [f for f, row in zip(z, members) if row["class"] == name]
        np.testing.assert_allclose(center, np.mean(rows, axis=0), atol=1e-5)
    for name in set(classes) - set(used):
        assert name in text.split("no OoD cluster: ")[1].splitlines()[0]

    text = run_tool(
        *("train.py", wood_config, "--work-dir", "again", "--cfg-options"),
        *(f"{HOOK}.interval=1", "train_cfg.max_epochs=2"),
    )
    assert text.count("3 OoD clusters of 7 images") == 3
    assert "no classifier was loaded" in text


BY_ITER = dict(
    train_cfg=dict(type="IterBasedTrainLoop", max_iters=4),
    param_scheduler=[],
    log_processor=dict(by_epoch=False),
    default_hooks__checkpoint__by_epoch=False,
    default_hooks__ood_clusters__by_epoch=False,
)


@pytest.fixture
def start(small_config, build_runner, tmp_path) -> str:
    """A checkpoint of one epoch of the classifier without OoD images."""
    build_runner(small_config, "start").train()
    return str(tmp_path / "start/epoch_1.pth")


def test_centers_with_ema(wood_config, build_runner, start, tmp_path, averaging):
    """The checkpoint's are those that were made, and tests have them too."""

    def train(name: str, **changes) -> Runner:
        runner = build_runner(
            wood_config, name, load_from=start, custom_hooks=averaging, **changes
        )
        runner.train()
        made = [getattr(runner.model.head, f"{n}_centers") for n in ("in", "ood")]
        for found, expected in zip(centers_of(newest(tmp_path / name)), made):
            np.testing.assert_array_equal(found, expected.numpy())
        return runner

    train("once")
    expected = centers_of(newest(tmp_path / "once"))
    assert len(expected[1]) == 3
    assert np.abs(expected[1]).max(axis=1).min() > 0
    # Made from the classifier, before any step: averaging has no part in it.
    plain = build_runner(wood_config, "plain", load_from=start)
    plain.train()
    for found, other in zip(centers_of(newest(tmp_path / "plain")), expected):
        np.testing.assert_array_equal(found, other)
    # Tests of the checkpoint need no EMAHook.
    tested = [
        build_runner(
            wood_config,
            f"tested_{len(hooks)}",
            load_from=str(newest(tmp_path / "once")),
            custom_hooks=hooks,
        ).test()
        for hooks in ([], averaging)
    ]
    assert tested[0] == tested[1]
    # Resumed, they are there.
    again = train("once", resume=True, train_cfg__max_epochs=2)
    for found, other in zip(centers_of(tmp_path / "once/epoch_2.pth"), expected):
        np.testing.assert_array_equal(found, other)
    assert again.epoch == 2
    # And where a training starts from a checkpoint that has them, without the hook.
    bare = build_runner(
        wood_config,
        "bare",
        load_from=str(newest(tmp_path / "once")),
        custom_hooks=averaging,
        default_hooks__ood_clusters=None,
    )
    bare.train()
    for found, other in zip(centers_of(newest(tmp_path / "bare")), expected):
        np.testing.assert_array_equal(found, other)


@pytest.mark.parametrize("averaging", [dict(update_buffers=True)], indirect=True)
@pytest.mark.parametrize(
    ("changes", "times"),
    [
        (dict(train_cfg__max_epochs=2, default_hooks__ood_clusters__interval=1), 3),
        (dict(BY_ITER, default_hooks__ood_clusters__interval=2), 3),
        (dict(BY_ITER, default_hooks__ood_clusters__interval=3), 2),
        (dict(BY_ITER, default_hooks__ood_clusters__interval=0), 1),
        # Iterations of a training that counts epochs, of three each.
        (
            dict(
                train_cfg__max_epochs=2,
                default_hooks__ood_clusters__interval=2,
                default_hooks__ood_clusters__by_epoch=False,
            ),
            4,
        ),
    ],
)
def test_intervals(
    wood_config, build_runner, start, tmp_path, averaging, changes, times
):
    """Centres are those of the trained weights of their time, in both copies."""
    runner = build_runner(
        wood_config, "work", load_from=start, custom_hooks=averaging, **changes
    )
    runner.train()
    log = next((tmp_path / "work").glob("*/*.log")).read_text()
    assert log.count("3 OoD clusters of 7 images") == times
    for found, expected in zip(
        centers_of(newest(tmp_path / "work")),
        (runner.model.head.in_centers, runner.model.head.ood_centers),
    ):
        np.testing.assert_array_equal(found, expected.numpy())


def test_an_interval_of_epochs_needs_epochs(wood_config, build_runner):
    changes = dict(BY_ITER, default_hooks__ood_clusters__by_epoch=True)
    runner = build_runner(
        wood_config, "work", default_hooks__ood_clusters__interval=1, **changes
    )
    with pytest.raises(ValueError, match="interval is 1 epochs, but train_cfg counts"):
        runner.train()


def newest(folder: Path) -> Path:
    return Path((folder / "last_checkpoint").read_text())


def test_faults(wood_config, small_config, voc_folder, run_tool, tmp_path):
    def failing(*options: str, config: Path = wood_config) -> str:
        return run_tool("train.py", config, "--cfg-options", *options, fails=True)

    text = failing(f"{HOOK}.clusters=50")
    assert "7 OoD images cannot be 50 clusters" in text
    text = failing("train_dataloader.batch_size=3")
    assert "batch_size is 3, but its sampler makes batches of 4 images" in text
    # Without the hook nobody makes centres.
    bare = tmp_path / "bare.py"
    bare.write_text(wood_config.read_text().split("default_hooks")[0])
    text = failing("train_cfg.max_epochs=1", config=bare)
    assert "default_hooks.ood_clusters.type=mmwood.OoDClusterHook" in text
    text = failing("model.head.type=mmwood.CAMHead")
    assert "model.head is a CAMHead" in text
    text = failing(f"{HOOK}.type=mmwood.OoDClusterHook", config=small_config)
    assert "ValueError" in text
    # A class that no image shows has no centre.
    (voc_folder / "ImageSets/Segmentation/train.txt").write_text(
        "image_0\nimage_2\nimage_5\n"
    )
    text = failing("train_cfg.max_epochs=1")
    assert "no in-distribution image shows square" in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(method="mean"), "method must be one of"),
        (dict(clusters=0), "clusters must be at least 1"),
        (dict(interval=-1), "interval must not be negative"),
    ],
)
def test_wrong_fields(options, message):
    with pytest.raises(ValueError, match=message):
        OoDClusterHook(**options)
