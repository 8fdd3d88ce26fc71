"""Cluster centres in real trainings, against features computed image by image."""

import csv
import json
from itertools import combinations
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
from mmwood.utils.last_checkpoint import last_checkpoint

pytestmark = pytest.mark.slow

CLASSES = ("disc", "square", "stripe")
#: The lower median of the long sides of the in-distribution images (conftest.SIZES).
LONG_SIDE = 47


def slow_features(
    config: Path, checkpoint: str, paths: list[str], long_side: int | None = None
) -> np.ndarray:
    """(N, D) features, one image at a time, without a data set or a loader."""
    init_default_scope("mmpretrain")
    cfg = Config.fromfile(config)
    cfg.model.head.type = "mmwood.CAMHead"
    model = MODELS.build(cfg.model).eval()
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    model.load_state_dict({k: v for k, v in state.items() if "centers" not in k})
    rows = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        if long_side is not None:
            sides = [int(s * long_side / max(image.size) + 0.5) for s in image.size]
            image = image.resize(sides, Image.Resampling.BICUBIC)
        picture = np.array(image, dtype=np.float32)
        image = torch.from_numpy((picture - 127.5) / 127.5).permute(2, 0, 1)[None]
        with torch.no_grad():
            rows.append(model.backbone(image)[-1].mean(dim=(2, 3))[0].numpy())
    return np.stack(rows).astype(np.float64)


def centers_of(checkpoint: Path) -> tuple[np.ndarray, np.ndarray]:
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return tuple(state[f"head.{name}_centers"].numpy() for name in ("in", "ood"))


def scale_of(checkpoint: Path) -> float:
    state = torch.load(checkpoint, map_location="cpu", weights_only=False)["state_dict"]
    return state["head.measured_scale"].item()


def members_of(folder: Path) -> list[dict]:
    with (folder / "members.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def start(small_config, build_runner, tmp_path) -> str:
    """A checkpoint of one epoch of the classifier without OoD images."""
    build_runner(small_config, "start").train()
    return str(tmp_path / "start/epoch_1.pth")


@pytest.fixture
def train(wood_config, build_runner):
    """A whole training with OoD images."""

    def train(work_dir: str, config: Path = wood_config, **changes) -> Runner:
        runner = build_runner(config, work_dir, **changes)
        runner.train()
        return runner

    return train


def log_of(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("*/*.log"))


@pytest.mark.long
def test_centers_by_one_process_by_two_and_after_resume(
    wood_config, train, start, voc_folder, run_tool, tmp_path
):
    scaled = dict(model__head__distance_scale="start")
    train("one", load_from=start, **scaled)
    text = log_of(tmp_path / "one")
    assert "3 OoD clusters of 7 images" in text
    for name in ("loss_cls", "loss_cls_ood", "loss_in_distance", "loss_ood_distance"):
        assert f" {name}: " in text
    in_centers, ood_centers = centers_of(tmp_path / "one/epoch_1.pth")

    paths = [str(voc_folder / f"JPEGImages/image_{i}.jpg") for i in range(6)]
    z = slow_features(wood_config, start, paths)
    shown = [{0}, {1, 2}, {2}, {0, 1}, {1}, {2, 0}]
    for c in range(3):
        rows = [z[i] for i in range(6) if c in shown[i]]
        np.testing.assert_allclose(in_centers[c], np.mean(rows, axis=0), atol=1e-5)

    # The unit of distances.
    distances = [
        np.linalg.norm(z[i] - in_centers[c]) for i in range(6) for c in shown[i]
    ]
    scale = scale_of(tmp_path / "one/epoch_1.pth")
    assert scale == pytest.approx(np.mean(distances), rel=1e-5)
    assert f"distances are divided by {scale:.5g}" in text

    folder = tmp_path / "one/ood_clusters"
    members = members_of(folder)
    z = slow_features(wood_config, start, [row["image"] for row in members], LONG_SIDE)
    means = KMeans(3, n_init=10, random_state=0).fit(z)
    order = lambda centers: centers[np.lexsort(centers.T)]  # noqa: E731
    np.testing.assert_allclose(
        order(ood_centers), order(means.cluster_centers_), atol=1e-5
    )
    for row, features in zip(members, z):
        distances = np.linalg.norm(ood_centers - features, axis=1)
        assert int(row["cluster"]) == distances.argmin()
        assert float(row["distance"]) == pytest.approx(distances.min(), abs=1e-5)
        assert row["class"] in CLASSES
        assert 0 < float(row["probability"]) < 1
    content = json.loads((folder / "clusters.json").read_text())
    own = [int(row["cluster"]) for row in members]
    assert content["sizes"] == [own.count(cluster) for cluster in range(3)]
    assert content["method"] == "kmeans"
    assert content["ood_long_side"] == LONG_SIDE
    assert f"resized to a long side of {LONG_SIDE} pixels" in text
    assert content["checkpoint"] == start
    assert content["distance_scale"] == scale

    # Resumed, the centres are those of the checkpoint.
    runner = train("one", resume=True, train_cfg__max_epochs=2, **scaled)
    assert scale_of(tmp_path / "one/epoch_2.pth") == scale
    assert runner.epoch == 2
    assert log_of(tmp_path / "one").count("OoD clusters of") == 1
    for found, expected in zip(
        centers_of(tmp_path / "one/epoch_2.pth"), (in_centers, ood_centers)
    ):
        np.testing.assert_array_equal(found, expected)

    # Two processes share the extraction and get the same centres.
    run_tool(
        *("dist_train.sh", wood_config, 2, "--work-dir", "two", "--cfg-options"),
        *(f"load_from={start}", "default_hooks.ood_clusters.batch_size=2"),
        "model.head.distance_scale=start",
    )
    assert scale_of(tmp_path / "two/epoch_1.pth") == pytest.approx(scale, rel=1e-5)
    for found, expected in zip(
        centers_of(tmp_path / "two/epoch_1.pth"), (in_centers, ood_centers)
    ):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_and_its_double_are_one(
    wood_config, train, start, save_doubles, tmp_path
):
    """Three images, each in two sizes, are three clusters."""
    pairs = save_doubles(tmp_path / "ood", 3)
    names = [path.name for pair in pairs for path in pair]
    (tmp_path / "ood/list.txt").write_text("\n".join(names))
    train("work", load_from=start)
    members = {
        Path(row["image"]).name: (row["cluster"], float(row["distance"]))
        for row in members_of(tmp_path / "work/ood_clusters")
    }
    for image, double in pairs:
        assert members[image.name][0] == members[double.name][0]
    _, centers = centers_of(tmp_path / "work/epoch_1.pth")
    between = min(np.linalg.norm(a - b) for a, b in combinations(centers, 2))
    # The centre of two is halfway between them.
    within = max(2 * distance for _, distance in members.values())
    assert within < 0.1 * between
    # As they are, they lie farther apart.
    z = slow_features(wood_config, start, [str(p) for pair in pairs for p in pair])
    assert np.linalg.norm(z[::2] - z[1::2], axis=1).min() > 3 * within


def test_checkpoint_of_another_network(wood_config, train, tmp_path):
    state = {"backbone.conv1.weight": torch.zeros(3, 3)}
    path = str(tmp_path / "other.pth")
    torch.save(dict(state_dict=state), path)
    changes = dict(default_hooks__ood_clusters__checkpoint=path)
    message = r"OoDClusterHook.checkpoint .*other\.pth holds no backbone\."
    with pytest.raises(ValueError, match=message):
        train("refused", **changes)
    train("anyway", **changes, default_hooks__checkpoint_guard__min_share=0)


def test_predicted_classes_and_a_given_checkpoint(wood_config, train, start, tmp_path):
    train(
        "predicted",
        default_hooks__ood_clusters__method="predicted",
        default_hooks__ood_clusters__checkpoint=start,
        model__head__distance_scale="start",
    )
    folder = tmp_path / "predicted/ood_clusters"
    content = json.loads((folder / "clusters.json").read_text())
    scale = scale_of(tmp_path / "predicted/epoch_1.pth")
    assert scale == content["distance_scale"] > 0
    members = members_of(folder)
    z = slow_features(wood_config, start, [row["image"] for row in members], LONG_SIDE)
    _, centers = centers_of(tmp_path / "predicted/epoch_1.pth")
    # The weights that were trained are not those that the centres come from.
    assert content["checkpoint"] == start
    used = [name for name in CLASSES if any(row["class"] == name for row in members)]
    assert content["names"] == used
    for name, center in zip(used, centers):
        rows = [f for f, row in zip(z, members) if row["class"] == name]
        np.testing.assert_allclose(center, np.mean(rows, axis=0), atol=1e-5)
    text = log_of(tmp_path / "predicted")
    for name in set(CLASSES) - set(used):
        assert name in text.split("no OoD cluster: ")[1].splitlines()[0]


def test_centers_with_ema(wood_config, build_runner, train, start, tmp_path, averaging):
    """The checkpoint's are those that were made, and tests have them too."""

    def check(name: str, expected=None, **changes) -> list[np.ndarray]:
        head = train(name, **changes).model.head
        made = [head.in_centers.numpy(), head.ood_centers.numpy()]
        for centers in (made, expected or made):
            for found, other in zip(
                centers_of(last_checkpoint(tmp_path / name)), centers
            ):
                np.testing.assert_array_equal(found, other)
        return made

    own = dict(custom_hooks=averaging)
    expected = check("once", load_from=start, **own)
    first = str(last_checkpoint(tmp_path / "once"))
    assert len(expected[1]) == 3
    assert np.abs(expected[1]).max(axis=1).min() > 0
    # Made from the classifier, before any step: averaging has no part in it.
    check("plain", expected, load_from=start)
    # Tests of the checkpoint need no EMAHook.
    tested = [
        build_runner(wood_config, "tested", load_from=first, custom_hooks=hooks).test()
        for hooks in ([], averaging)
    ]
    assert tested[0] == tested[1]
    # Resumed, they are there.
    check("once", expected, resume=True, train_cfg__max_epochs=2, **own)
    # And where a training starts from a checkpoint that has them, without the hook.
    check("bare", expected, load_from=first, default_hooks__ood_clusters=None, **own)


BY_ITER = dict(
    train_cfg=dict(type="IterBasedTrainLoop", max_iters=4),
    param_scheduler=[],
    log_processor=dict(by_epoch=False),
    default_hooks__checkpoint__by_epoch=False,
    default_hooks__ood_clusters__by_epoch=False,
)


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
def test_intervals(train, start, tmp_path, averaging, changes, times):
    """Centres are those of the trained weights of their time, in both copies."""
    changes = dict(changes, model__head__distance_scale="start", load_from=start)
    head = train("work", custom_hooks=averaging, **changes).model.head
    text = log_of(tmp_path / "work")
    assert text.count("3 OoD clusters of 7 images") == times
    # The unit of distances stays that of the start.
    assert text.count("distances are divided by") == 1
    scale = scale_of(last_checkpoint(tmp_path / "work"))
    assert f"distances are divided by {scale:.5g}, " in text
    made = (head.in_centers, head.ood_centers)
    for found, expected in zip(centers_of(last_checkpoint(tmp_path / "work")), made):
        np.testing.assert_array_equal(found, expected.numpy())


def test_a_network_without_a_classifier_is_said(train, tmp_path):
    train("work")
    assert "no classifier was loaded" in log_of(tmp_path / "work")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            dict(default_hooks__ood_clusters__clusters=50),
            "7 OoD images cannot be 50 clusters",
        ),
        (
            dict(train_dataloader__batch_size=3),
            "batch_size is 3, but its sampler makes batches of 4 images",
        ),
        # Without the hook nobody makes centres.
        (
            dict(default_hooks__ood_clusters=None),
            r"default_hooks\.ood_clusters\.type=mmwood\.OoDClusterHook",
        ),
        (dict(model__head__type="mmwood.CAMHead"), "model.head is a CAMHead"),
        (
            dict(
                BY_ITER,
                default_hooks__ood_clusters__by_epoch=True,
                default_hooks__ood_clusters__interval=1,
            ),
            "interval is 1 epochs, but train_cfg counts",
        ),
    ],
)
def test_faults(train, changes, message):
    with pytest.raises(ValueError, match=message):
        train("work", **changes)


def test_a_config_without_ood_images(train, small_config):
    changes = dict(
        default_hooks__ood_clusters=dict(type="mmwood.OoDClusterHook"),
        model__head__type="mmwood.WOoDHead",
    )
    with pytest.raises(ValueError, match="it is a ImageLevelDataset"):
        train("work", small_config, **changes)


def test_a_class_that_no_image_shows_has_no_centre(train, voc_folder):
    names = voc_folder / "ImageSets/Segmentation/train.txt"
    names.write_text("image_0\nimage_2\nimage_5\n")
    with pytest.raises(ValueError, match="no in-distribution image shows square"):
        train("work")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(method="mean"), "method must be 'kmeans' or 'predicted'"),
        (dict(clusters=0), "clusters must be an integer of at least 1"),
        (dict(interval=-1), "interval must be an integer of at least 0"),
        (dict(init="last"), "init must be"),
        (dict(ood_size=0), "ood_size must be an integer of at least 1"),
        (dict(ood_size="large"), "ood_size must be 'in_distribution' or 'own'"),
    ],
)
def test_wrong_fields(options, message):
    with pytest.raises(ValueError, match=f"^mmwood.OoDClusterHook: .*{message}"):
        OoDClusterHook(**options)
