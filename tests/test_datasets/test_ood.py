import itertools
from pathlib import Path

import pytest
from mmengine.dataset import ConcatDataset
from mmengine.logging import MMLogger
from PIL import Image

from mmwood.datasets import OoDDataset
from mmwood.fileio.journal import journal_path
from mmwood.ood.review.decisions import Review

CLASSES = ["disc", "square", "stripe"]


def write_rows(folder: Path, rows: list[str]) -> None:
    """Replace the manifest by one of some rows: image,class,probability,state."""
    lines = ["image,class,probability,rank,state,sha256"]
    for row in rows:
        *first, state = row.split(",")
        lines.append(",".join([*first, "1", state, ""]))
    (folder / "ood.csv").write_text("\n".join(lines) + "\n")


def ood(folder: Path, **kwargs) -> OoDDataset:
    # Serialising collects garbage, which takes a while between tests.
    options = dict(ann_file="ood.csv", data_root=str(folder), serialize_data=False)
    return OoDDataset(**{**options, **kwargs})


def infos(dataset) -> list[dict]:
    return [dataset.get_data_info(index) for index in range(len(dataset))]


def names_of(dataset) -> str:
    return " ".join(info["img_id"] for info in infos(dataset))


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
    assert f"tools/review_ood.py {folder / 'ood.csv'}`" in str(error.value)
    assert str(journal_path(folder / "ood.csv")) in str(error.value)
    # A list is no manifest.
    (folder / "list.txt").write_text("a.jpg\n")
    assert names_of(ood(folder, ann_file="list.txt")) == "a"
    review.save()
    assert names_of(ood(folder)) == "a c e"
    review.close()
    assert names_of(ood(folder)) == "a c e"


def test_data_info(folder):
    first, *others = infos(ood(folder, classes=CLASSES))
    expected = dict(img_path=str(folder / "a.jpg"), img_id="a", gt_label=[])
    assert first == dict(expected, ood_class=1, sample_idx=0)
    # c.jpg is more probably a disc, but nobody kept that row.
    assert [info["ood_class"] for info in others] == [0, 1]
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

    (folder / "deep").mkdir()
    Image.new("RGB", (8, 6)).save(folder / "deep/z.png")
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
    rows = [f"{number}.jpg,disc,0.9,kept" for number in range(30)]
    rows += [f"{number}.jpg,square,0.8,kept" for number in range(25, 40)]
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


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["a.jpg,disc,0.9,unseen", "b.jpg,disc,0.8,unseen"],
            r"0 of 2 rows are kept, 2 unseen: review them, or set states=\('unseen'",
        ),
        (
            ["b.jpg,disc,0.8,rejected", "b.jpg,square,0.85,kept"],
            r"1 of 2 rows are kept, 1 rejected; each .* another row$",
        ),
        ([], r"0 of 0 rows are kept$"),
    ],
)
def test_empty_manifests_say_what_they_hold(folder, rows, message):
    write_rows(folder, rows)
    with pytest.raises(ValueError, match=message):
        ood(folder)
    # Beside another source that is no fault.
    options = dict(may_be_empty=True, serialize_data=True)
    empty = ood(folder, **options)
    both = ConcatDataset([ood(folder, ann_file="", data_prefix={}), empty])
    assert len(empty) == 0
    assert len(both) == len(both.datasets[0]) > 0


def test_empty_lists_and_folders(folder):
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
    with pytest.raises(ValueError, match=r"txt:3: image '\./a\.jpg' .*txt:1: list"):
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
        (dict(check="some"), "check must be 'none', 'header' or 'decode'"),
        (dict(num_images=0), "num_images must be at least 1, but is 0"),
        (dict(num_per_class=-1), "num_per_class must be at least 1, but is -1"),
        (dict(num_images=1, num_per_class=1), "not both"),
    ],
)
def test_refused_fields(folder, field, message):
    with pytest.raises(ValueError, match=f"^mmwood.OoDDataset: .*{message}"):
        ood(folder, **field)


def test_report(folder):
    log = folder / "log.txt"
    MMLogger.get_instance("test_ood", log_file=str(log))
    ood(folder, classes=CLASSES)
    report = (
        "ood.csv: 3 OoD images; taken for square: 2, disc: 1; classes that none is "
        "taken for: stripe\n"
    )
    assert log.read_text().endswith(report)


def test_parts_of_a_list(folder):
    """They are disjoint and stay what they are when others are listed, too."""
    names = [f"sub/photo_{number}.jpg" for number in range(300)]
    options = dict(ann_file="list.txt", check="none")

    def part(name: str | None, names: list[str] = names, **fields) -> set[str]:
        (folder / "list.txt").write_text("\n".join(names))
        return set(names_of(ood(folder, **options, part=name, **fields)).split())

    held, train = part("held-out"), part("train")
    assert held | train == part(None)
    assert not held & train
    assert 40 <= len(held) <= 80
    assert part("held-out", held_out=0.1) < held < part("held-out", held_out=0.4)
    assert part("held-out", [*names[::-1], *map("new_{}.jpg".format, range(99))]) > held
    # Neither folder nor suffix, nor the seed of a sample changes it.
    moved = [f"{folder}/{Path(name).stem}.png" for name in names]
    (folder / "list.txt").write_text("\n".join(moved))
    found = infos(ood(folder, **options, part="held-out", seed=5))
    stems = {Path(info["img_path"]).stem for info in found}
    assert stems == {Path(name).name for name in held}
    sample = part("held-out", num_images=7)
    assert len(sample) == 7
    assert sample < held
    with pytest.raises(ValueError, match=r"num_images: 299 are asked for"):
        part("held-out", num_images=299)


def test_a_part_without_images(folder):
    with pytest.raises(ValueError, match=r"of 3 images of .* none .* held_out=0"):
        ood(folder, part="held-out", held_out=0)
    assert not len(ood(folder, part="held-out", held_out=0, may_be_empty=True))
    assert names_of(ood(folder, part="train", held_out=0)) == "a d c"
    with pytest.raises(ValueError, match="part must be None, 'train' or 'held-out'"):
        ood(folder, part="test")
    with pytest.raises(ValueError, match=r"held_out must be at least 0 and below 1"):
        ood(folder, part="train", held_out=1)
