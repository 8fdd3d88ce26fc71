import itertools
import shutil
from pathlib import Path

import numpy as np
import pytest
from mmengine.dataset import ConcatDataset
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from PIL import Image

from mmwood.datasets import ImageLevelDataset, OoDDataset, OoDMixDataset
from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.journal import journal_path
from mmwood.ood.review.decisions import Review

CLASSES = ["disc", "square", "stripe"]
#: image, class, probability, state
ROWS = [
    ("a.jpg", "disc", 0.9, "kept"),
    ("b.jpg", "disc", 0.8, "rejected"),
    ("c.jpg", "disc", 0.7, "unseen"),
    ("d.jpg", "disc", 0.6, "kept"),
    ("a.jpg", "square", 0.95, "kept"),
    ("b.jpg", "square", 0.85, "kept"),
    ("c.jpg", "square", 0.6, "kept"),
    ("e.jpg", "square", 0.55, "unseen"),
    ("./d.jpg", "square", 0.5, "kept"),
]


def write_images(folder: Path, names: str, seed: int = 1) -> None:
    """Small pictures, each another one."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for name in names.split():
        picture = rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)
        Image.fromarray(picture).save(folder / name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images and their manifest ``ood.csv``."""
    write_images(tmp_path / "ood", "a.jpg b.jpg c.jpg d.jpg e.jpg")
    write_rows(tmp_path / "ood", ROWS)
    return tmp_path / "ood"


def write_rows(folder: Path, rows: list[tuple]) -> None:
    write_manifest(
        folder / "ood.csv",
        (
            Candidate(image, name, probability, 1, state, "")
            for image, name, probability, state in rows
        ),
    )


def ood(folder: Path, **kwargs) -> OoDDataset:
    return OoDDataset(**{"ann_file": "ood.csv", "data_root": str(folder), **kwargs})


def names_of(dataset) -> str:
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    return " ".join(info["img_id"] for info in infos)


def test_states_of_a_manifest(folder):
    assert names_of(ood(folder)) == "a d c"
    # An image that one row rejects may show a foreground object.
    assert names_of(ood(folder, states=("unseen",))) == "c e"
    assert names_of(ood(folder, states=["unseen", "kept"])) == "a c d e"
    assert names_of(ood(folder, states=("kept", "rejected"))) == "a b d c"


def test_decisions_that_the_manifest_lacks_are_refused(folder):
    review = Review(folder / "ood.csv")
    # An open review alone does no harm.
    assert names_of(ood(folder)) == "a d c"
    review.decide([3], "rejected")
    review.decide([7], "kept")
    for states in (["kept"], ["unseen"]):
        with pytest.raises(ValueError, match=r"ood\.csv lacks 2 decisions") as error:
            ood(folder, states=states)
    assert f"`python tools/review_ood.py {folder / 'ood.csv'}`" in str(error.value)
    assert str(journal_path(folder / "ood.csv")) in str(error.value)
    # A list is no manifest.
    (folder / "list.txt").write_text("a.jpg\n")
    assert names_of(ood(folder, ann_file="list.txt")) == "a"
    review.save()
    assert names_of(ood(folder)) == "a c e"
    review.close()
    assert names_of(ood(folder)) == "a c e"


def test_data_info(folder):
    info = ood(folder, classes=CLASSES).get_data_info(0)
    assert info["img_path"] == str(folder / "a.jpg")
    assert info["img_id"] == "a"
    assert info["gt_label"] == []
    assert info["ood_class"] == 1
    found = [ood(folder, classes=CLASSES).get_data_info(i)["ood_class"] for i in (1, 2)]
    # c.jpg is more probably a disc, but nobody kept that row.
    assert found == [0, 1]
    assert ood(folder).get_data_info(0)["ood_class"] is None

    (folder / "classes.txt").write_text("square\ndisc\n")
    dataset = ood(folder, classes="classes.txt")
    assert dataset.metainfo["classes"] == ("square", "disc")
    assert dataset.get_data_info(0)["ood_class"] == 0


def test_lists_and_folders(folder):
    (folder / "list.txt").write_text("d.jpg\n\na.jpg\n")
    dataset = ood(folder, ann_file="list.txt", classes=CLASSES)
    assert names_of(dataset) == "d a"
    assert dataset.get_data_info(0)["ood_class"] is None

    (folder.parent / "list").write_text(f"ood/b.jpg\n{folder / 'a.jpg'}\n")
    dataset = ood(folder.parent, ann_file="list")
    assert dataset.get_data_info(0)["img_id"] == "ood/b"
    # No file may be named after an absolute path.
    assert dataset.get_data_info(1)["img_id"] is None
    assert dataset.get_data_info(1)["img_path"] == str(folder / "a.jpg")

    write_images(folder / "deep", "z.png")
    assert names_of(ood(folder, ann_file="")) == "a b c d deep/z e"
    prefix = dict(img_path="deep")
    assert names_of(ood(folder, ann_file="", data_prefix=prefix)) == "z"


def test_samples_are_nested_and_do_not_depend_on_the_order(folder):
    names = "".join(f"{number}.jpg\n" for number in range(40))
    (folder / "list.txt").write_text(names)
    (folder / "turned.txt").write_text("".join(reversed(names.splitlines(True))))

    def sample(number: int, **kwargs) -> list[str]:
        options = {"ann_file": "list.txt", "check": "none", **kwargs}
        return names_of(ood(folder, num_images=number, **options)).split()

    samples = [set(sample(number)) for number in range(1, 41)]
    assert [len(found) for found in samples] == list(range(1, 41))
    for smaller, larger in itertools.pairwise(samples):
        assert smaller < larger
    assert sample(9) == sorted(sample(9), key=int)
    assert sample(9) == sample(9, ann_file="turned.txt")[::-1]
    assert sample(9) != sample(9, seed=1)
    with pytest.raises(ValueError, match=r"num_images: 41 .*list\.txt gives 40 images"):
        sample(41)


def test_samples_per_class(folder):
    rows = [(f"{number}.jpg", "disc", 0.9, "kept") for number in range(30)]
    rows += [(f"{number}.jpg", "square", 0.8, "kept") for number in range(25, 40)]
    write_rows(folder, rows)

    def sample(number: int) -> set[int]:
        dataset = ood(folder, num_per_class=number, check="none")
        return {int(name) for name in names_of(dataset).split()}

    for number in (1, 4, 10):
        found = sample(number)
        assert len([image for image in found if image < 30]) == number
        assert len([image for image in found if image >= 30]) == number
        assert found < sample(number + 1) if number < 10 else True
    with pytest.raises(
        ValueError, match=r"num_per_class: 11 are asked .* 10 images of class 'square'"
    ):
        sample(11)
    with pytest.raises(ValueError, match="num_per_class needs the classes of a"):
        ood(folder, ann_file="list.txt", num_per_class=1)


def test_empty_manifests_say_what_they_hold(folder):
    write_rows(folder, [(*row[:3], "unseen") for row in ROWS])
    with pytest.raises(
        ValueError,
        match=r"0 of 9 rows are kept, 9 unseen: review them, or set states=\('unseen'",
    ):
        ood(folder)
    write_rows(folder, [ROWS[1], ROWS[5]])
    with pytest.raises(
        ValueError, match=r"1 of 2 rows are kept, 1 rejected; each .* another row$"
    ):
        ood(folder)
    write_rows(folder, [])
    with pytest.raises(ValueError, match=r"0 of 0 rows are kept$"):
        ood(folder)
    (folder / "list.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"list\.txt lists no image"):
        ood(folder, ann_file="list.txt")
    (folder / "none").mkdir()
    with pytest.raises(ValueError, match="none holds no image"):
        ood(folder, ann_file="", data_prefix=dict(img_path="none"))


def test_refused_lists(folder):
    with pytest.raises(FileNotFoundError, match=r"ann_file: there is no file .*x\.csv"):
        ood(folder, ann_file="x.csv")
    with pytest.raises(FileNotFoundError, match="img_path: there is no folder"):
        ood(folder, ann_file="", data_prefix=dict(img_path="x"))
    with pytest.raises(ValueError, match=r"ood\.csv:6: 'square'"):
        ood(folder, classes=["disc"])
    (folder / "list.txt").write_text("a.jpg\nb.jpg\n./a.jpg\n")
    with pytest.raises(ValueError, match=r"txt:3: image '\./a\.jpg' .* at .*txt:1$"):
        ood(folder, ann_file="list.txt")
    with pytest.raises(ValueError, match="a name occurs twice"):
        ood(folder, classes=["disc", "disc"])


def test_missing_and_damaged_images(folder):
    (folder / "d.jpg").unlink()
    ood(folder, check="none")
    with pytest.raises(FileNotFoundError, match=r"1 of 3 files.*\n.*csv:5: .*/d\.jpg"):
        ood(folder)
    (folder / "d.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"1 of 3 images cannot .*\n.*csv:5: .*d\.jpg"):
        ood(folder)
    (folder / "d.jpg").write_bytes((folder / "c.jpg").read_bytes()[:-200])
    ood(folder)
    with pytest.raises(ValueError, match=r"csv:5: .*d\.jpg.*truncated"):
        ood(folder, check="decode")


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (dict(states="kept"), "states must be a list of"),
        (dict(states=()), "states must be a list of"),
        (dict(states=("seen",)), "states must be a list of"),
        (dict(check="some"), "check must be one of"),
        (dict(num_images=0), "num_images must be at least 1, got 0"),
        (dict(num_per_class=-1), "num_per_class must be at least 1, got -1"),
        (dict(num_images=1, num_per_class=1), "not both"),
    ],
)
def test_refused_fields(folder, field, message):
    with pytest.raises(ValueError, match=message):
        ood(folder, **field)


def labelled(root: Path, **kwargs) -> dict:
    """The config of the in-distribution data set."""
    return dict(
        type="mmwood.ImageLevelDataset",
        ann_file="ImageSets/Segmentation/train.txt",
        label_source="mask",
        data_root=str(root),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        **{"classes": CLASSES, **kwargs},
    )


def unlabelled(root: Path, **kwargs) -> dict:
    """The config of the OoD data set."""
    options = dict(type="mmwood.OoDDataset", ann_file="ood.csv", data_root=str(root))
    return {**options, **kwargs}


def pipeline(side: int) -> list[dict]:
    return [
        dict(type="mmwood.LoadImage"),
        dict(type="mmpretrain.Resize", scale=(side, side)),
        dict(type="mmpretrain.PackInputs", meta_keys=["img_id"]),
    ]


def test_mixture(voc_folder, folder):
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder), ood=unlabelled(folder)
    )
    assert len(mixture) == 9
    assert mixture.num_in == 6
    assert isinstance(mixture.in_distribution, ImageLevelDataset)
    assert isinstance(mixture.ood, OoDDataset)
    assert mixture.metainfo["classes"] == tuple(CLASSES)
    assert names_of(mixture).split() == [f"image_{i}" for i in range(6)] + [*"adc"]
    same = OoDMixDataset(mixture.in_distribution, mixture.ood)
    assert names_of(same) == names_of(mixture)
    late = OoDMixDataset(
        labelled(voc_folder, lazy_init=True),
        unlabelled(folder, lazy_init=True),
        lazy_init=True,
    )
    assert not late.ood._fully_initialized
    assert late.metainfo["classes"] == tuple(CLASSES)
    late.full_init()
    assert names_of(late) == names_of(mixture)


def test_mixture_of_wrapped_parts(voc_folder, folder):
    part = labelled(voc_folder)
    mixture = OoDMixDataset(
        in_distribution=dict(type="ConcatDataset", datasets=[part, part]),
        ood=dict(type="RepeatDataset", dataset=unlabelled(folder), times=2),
    )
    assert isinstance(mixture.in_distribution, ConcatDataset)
    assert (mixture.num_in, len(mixture)) == (12, 18)
    wrong = dict(
        type="RepeatDataset", dataset=unlabelled(folder, classes=CLASSES[:2]), times=2
    )
    with pytest.raises(ValueError, match=r"classes are \['disc', 'square'\], those of"):
        OoDMixDataset(part, wrong)


def test_mixture_in_a_dataloader(voc_folder, folder):
    pytest.importorskip("mmpretrain")
    loader = Runner.build_dataloader(
        dict(
            dataset=dict(
                type="mmwood.OoDMixDataset",
                in_distribution=labelled(voc_folder, pipeline=pipeline(16)),
                ood=unlabelled(folder, pipeline=pipeline(16)),
            ),
            batch_size=3,
            num_workers=2,
            persistent_workers=True,
            sampler=dict(
                type="mmwood.OoDRatioSampler", in_per_batch=2, ood_per_batch=1
            ),
            collate_fn=dict(type="default_collate"),
        ),
        seed=0,
    )
    tags = [[0], [1, 2], [2], [0, 1], [1], [0, 2]]
    for epoch in range(2):
        loader.sampler.set_epoch(epoch)
        seen = []
        for batch in loader:
            assert batch["inputs"].shape == (3, 3, 16, 16)
            samples = batch["data_samples"]
            assert [sample.is_ood for sample in samples] == [False, False, True]
            for sample in samples:
                number = sample.img_id[6:]
                assert sample.gt_label.tolist() == (tags[int(number)] if number else [])
            seen.extend(sample.img_id for sample in samples)
        assert sorted(seen) == ["a", "c", "d"] + [f"image_{i}" for i in range(6)]
    assert not loader.dataset[-9]["data_samples"].is_ood
    assert loader.dataset[-1]["data_samples"].is_ood

    with pytest.raises(ValueError, match=r"leave out .*num_batch_per_epoch"):
        Runner.build_dataloader(
            dict(
                dataset=loader.dataset,
                num_batch_per_epoch=1,
                batch_size=3,
                sampler=dict(type="mmwood.OoDRatioSampler", in_per_batch=2),
            )
        )


def test_each_part_has_its_own_pipeline_or_both_have_one(voc_folder, folder):
    pytest.importorskip("mmpretrain")
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder, pipeline=pipeline(16)),
        ood=unlabelled(folder, pipeline=pipeline(12)),
    )
    assert mixture[5]["inputs"].shape == (3, 16, 16)
    assert mixture[6]["inputs"].shape == (3, 12, 12)
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder),
        ood=unlabelled(folder),
        pipeline=pipeline(8),
    )
    assert mixture[5]["inputs"].shape == mixture[6]["inputs"].shape == (3, 8, 8)
    mixture = OoDMixDataset(
        in_distribution=labelled(voc_folder, pipeline=pipeline(16)),
        ood=unlabelled(folder, pipeline=pipeline(12)[:2]),
    )
    assert not mixture[0]["data_samples"].is_ood
    with pytest.raises(ValueError, match=r"dataset\.ood\.pipeline must .* PackInputs"):
        mixture[6]


def test_mixture_refuses_copies_and_unknown_classes(voc_folder, folder):
    shutil.copy(voc_folder / "JPEGImages/image_3.jpg", folder / "d.jpg")
    with pytest.raises(
        ValueError, match=r"1 OoD images .*\n.*/d\.jpg is .*image_3\.jpg"
    ):
        OoDMixDataset(labelled(voc_folder), unlabelled(folder))
    # Of the same size, but another image.
    content = bytearray((folder / "d.jpg").read_bytes())
    content[-10] ^= 1
    (folder / "d.jpg").write_bytes(content)
    OoDMixDataset(labelled(voc_folder), unlabelled(folder))

    write_rows(folder, [*ROWS, ("e.jpg", "cube", 0.5, "unseen")])
    with pytest.raises(ValueError, match=r"unknown classes.*\n.*ood\.csv:11: 'cube'"):
        OoDMixDataset(labelled(voc_folder), unlabelled(folder))


def test_report(folder):
    log = folder / "log.txt"
    MMLogger.get_instance("test_ood", log_file=str(log))
    ood(folder, classes=CLASSES)
    report = (
        "ood.csv: 3 OoD images; taken for square: 2, disc: 1; classes that none is "
        "taken for: stripe\n"
    )
    assert log.read_text().endswith(report)
