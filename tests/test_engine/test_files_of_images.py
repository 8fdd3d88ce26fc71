"""Files that hooks name after images: each in its folder, none shared, none stale."""

import gc
import json
import weakref
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.engine.image_ids import ImageIds

pytestmark = pytest.mark.slow

CLASSES = ["cat", "dog"]


def save_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (40, 48, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def dataset_of(root: Path, *names: str, table: str = "tags.csv", **changes) -> dict:
    rows = "".join(f"{name},{CLASSES[n % 2]}\n" for n, name in enumerate(names))
    (root / table).write_text(f"image,labels\n{rows}")
    return dict(
        type="mmwood.ImageLevelDataset",
        ann_file=table,
        classes=CLASSES,
        data_root=str(root),
        pipeline=[dict(type="mmwood.LoadImage"), dict(type="PackInputs")],
        **changes,
    )


@pytest.fixture
def run(build_runner, small_config):
    """A Runner that tests a data set with a classifier of two classes."""

    def run(dataset: dict, work_dir: str = "work", **changes):
        settings = dict(
            model__head__num_classes=2,
            test_dataloader__dataset=dataset,
            test_evaluator=[],
            randomness=dict(seed=0),
        )
        return build_runner(small_config, work_dir, **settings, **changes)

    return run


def test_the_hooks_of_a_test_list_its_images_once():
    class Counted:
        calls, length = 0, 3

        def __len__(self) -> int:
            return self.length

        def get_data_info(self, index: int) -> dict:
            self.calls += 1
            return dict(img_path=f"jpg/{index}.jpg")

    dataset = Counted()
    for field in ("pseudo_label", "visualization"):
        assert [*ImageIds(dataset, field)] == ["0", "1", "2"]
    assert dataset.calls == 3
    # As by get_subset_.
    dataset.length = 2
    assert [*ImageIds(dataset, "pseudo_label")] == ["0", "1"]
    kept = weakref.ref(dataset)
    del dataset
    gc.collect()
    assert kept() is None


def test_images_of_one_name_have_files_of_their_own(run, tmp_path, hashes):
    """PackInputs hands over no img_id by default."""
    names = ("x/a.jpg", "y/a.jpg", "b.jpg")
    for seed, name in enumerate(names):
        save_image(tmp_path / "data" / name, seed)
    hook = dict(default_hooks__visualization__enable=True)
    hook.update(default_hooks__visualization__out_dir=str(tmp_path / "pictures"))
    run(dataset_of(tmp_path / "data", *names), **hook).test()
    expected = ["b.png", "x/a.png", "y/a.png"]
    assert list(hashes(tmp_path / "work/pseudo_labels/labels")) == expected
    assert list(hashes(tmp_path / "pictures")) == expected


def test_a_data_set_of_another_package_has_ids_too(run, tmp_path, hashes):
    for seed, name in enumerate(("cat/a.jpg", "dog/a.jpg", "dog/b.jpg")):
        save_image(tmp_path / "data" / name, seed)
    foreign = dict(
        type="mmpretrain.CustomDataset",
        data_root=str(tmp_path / "data"),
        pipeline=[dict(type="mmwood.LoadImage"), dict(type="PackInputs")],
    )
    run(foreign).test()
    labels = hashes(tmp_path / "work/pseudo_labels/labels")
    assert list(labels) == ["cat/a.png", "dog/a.png", "dog/b.png"]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ("a.jpg", "a.jpg", "was listed before"),
        ("a.jpg", "a.png", "was listed before"),
        ("Photo.jpg", "photo.jpg", "letter case"),
        ("\u00fc.jpg", "u\u0308.jpg", "form of Unicode"),
    ],
)
@pytest.mark.parametrize("hook", ["pseudo_label", "visualization"])
def test_two_images_of_a_loader_never_share_a_file(
    hook, first, second, reason, run, tmp_path
):
    """Each data set is fine; together they are refused before the first file."""
    for number, name in enumerate((first, second)):
        save_image(tmp_path / f"{number}/{name}", number)
    parts = [
        dataset_of(tmp_path / str(number), name)
        for number, name in enumerate((first, second))
    ]
    other = dict(pseudo_label="visualization", visualization="pseudo_label")[hook]
    changes = {f"default_hooks__{other}": None}
    if hook == "visualization":
        changes.update(default_hooks__visualization__enable=True)
        changes.update(default_hooks__visualization__out_dir=str(tmp_path / "work/p"))
    runner = run(dict(type="ConcatDataset", datasets=parts), **changes)
    with pytest.raises(ValueError, match=reason) as error:
        runner.test()
    assert str(tmp_path / "0" / first) in str(error.value)
    assert str(tmp_path / "1" / second) in str(error.value)
    assert not list((tmp_path / "work").rglob("*.png"))


def test_drawings_replace_nothing_of_the_user(run, tmp_path, hashes):
    """--show-dir may be the folder of the images itself."""
    for name in ("0.jpg", "1.jpg", "a.png"):
        save_image(tmp_path / "data" / name)
    # Nothing is drawn before the one that cannot be.
    dataset = dataset_of(tmp_path / "data", "0.jpg", "1.jpg", "a.png")
    before = hashes(tmp_path / "data")
    runner = run(
        dataset,
        default_hooks__pseudo_label=None,
        default_hooks__visualization__enable=True,
        default_hooks__visualization__out_dir=str(tmp_path / "data"),
    )
    with pytest.raises(FileExistsError, match=r"a\.png is there, and mmwood did not"):
        runner.test()
    assert hashes(tmp_path / "data") == before


@pytest.mark.parametrize("manifest", [None, {}, {"format": "another program's"}])
def test_labels_of_somebody_else_are_never_removed(manifest, run, tmp_path, hashes):
    save_image(tmp_path / "data/a.jpg")
    save_image(tmp_path / "masks/labels/a.png")
    if manifest is not None:
        (tmp_path / "masks/manifest.json").write_text(json.dumps(manifest))
    before = hashes(tmp_path / "masks")
    for overwrite in (False, True):
        runner = run(
            dataset_of(tmp_path / "data", "a.jpg"),
            default_hooks__pseudo_label__out_dir=str(tmp_path / "masks"),
            default_hooks__pseudo_label__overwrite=overwrite,
        )
        with pytest.raises(ValueError, match="name another folder"):
            runner.test()
    assert hashes(tmp_path / "masks") == before


def test_labels_of_an_earlier_training_are_made_anew(
    build_runner, small_config, tmp_path, hashes
):
    """Runner.train() and test(), twice into one work dir with other weights."""

    def train_and_test(work_dir: str, lr: float) -> dict:
        runner = build_runner(
            small_config,
            work_dir,
            optim_wrapper__optimizer__lr=lr,
            default_hooks__pseudo_label__save_scores=["full"],
            randomness=dict(seed=0),
        )
        runner.train()
        scores = runner.test()
        # Any number of times, from the files.
        assert runner.test() == runner.test() == scores
        return scores, hashes(tmp_path / work_dir / "pseudo_labels")

    first = train_and_test("work", 0.001)
    second = train_and_test("work", 1.0)
    assert second == train_and_test("fresh", 1.0)
    assert second != first


def test_labels_of_other_weights_are_not_mixed_in(
    build_runner, small_config, tmp_path, hashes
):
    """Without a checkpoint, too: nobody knows how often such weights were drawn."""

    def test(seed: int):
        return build_runner(small_config, "work", randomness=dict(seed=seed)).test()

    test(0)
    before = hashes(tmp_path / "work/pseudo_labels")
    with pytest.raises(ValueError, match="made with another weights_sha256"):
        test(1)
    assert hashes(tmp_path / "work/pseudo_labels") == before
    test(0)
    assert hashes(tmp_path / "work/pseudo_labels") == before


def test_labels_of_another_pipeline_of_a_joined_data_set(run, tmp_path):
    def test(size: int) -> None:
        parts = []
        for number in range(2):
            save_image(tmp_path / f"{number}/{number}.jpg", number)
            parts.append(dataset_of(tmp_path / str(number), f"{number}.jpg"))
        resize = dict(type="Resize", scale=(size, size))
        parts[1]["pipeline"].insert(1, resize)
        run(dict(type="ConcatDataset", datasets=parts)).test()

    test(24)
    with pytest.raises(ValueError, match="made with another config_sha256"):
        test(48)
