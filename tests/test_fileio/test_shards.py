"""Which images shards hold, and what is wrong with shards."""

import io
import os
import tarfile
import tracemalloc
from pathlib import Path

import pytest

from mmwood.fileio.shards import below, find_shards, shard_images
from mmwood.fileio.stores import read_stored, stored_name

FILES = {
    "lake/1.jpg": b"one",
    "lake/1.json": b"{}",
    "./2.PNG": b"two two",
    "lake/._1.jpg": b"of macOS",
    "ä/" + "long" * 60 + ".webp": b"three",
}


def write_tar(path: Path, files=FILES, **options) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **options) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return str(path)


def locators(*shards: str, column: str = "image", root=None) -> list[str]:
    return [locator for _, locator in shard_images(shards, column, root)]


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_images_of_tars_are_found_and_read_by_their_place(form, tmp_path):
    shards = [
        write_tar(tmp_path / name, format=form) for name in ("x/0.tar", "y/0.tar")
    ]
    with tarfile.open(shards[0], "a") as archive:
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    found = locators(*shards)
    images = [*FILES][::2]
    assert [stored_name(locator) for locator in found] == [
        f"{shard}/{name.removeprefix('./')}"
        for shard in ("x/0", "y/0")
        for name in images
    ]
    assert [read_stored(locator) for locator in found] == [
        FILES[name] for _ in shards for name in images
    ]
    # Without the blocks at the end, which some writers leave out.
    content = Path(shards[1]).read_bytes().rstrip(b"\0")
    Path(shards[1]).write_bytes(content + bytes(-len(content) % 512))
    assert locators(*shards) == found


def test_damaged_tars(tmp_path):
    whole = Path(write_tar(tmp_path / "a.tar", {"1.jpg": b"x" * 2000, "2.jpg": b"y"}))
    content = whole.read_bytes()
    broken = content[:2600] + b"!" * 300 + content[2900:]
    for name, damaged, message in (
        ("cut", content[:1500], "is no tar, or damaged: unexpected end of data"),
        ("header", broken, "is damaged at byte 2560: copy it again"),
        ("half", content[:2900], "is damaged at byte 2560: copy it again"),
        ("none", b"nothing of the kind" * 99, "is no tar, or damaged: invalid header"),
        ("empty", b"", "is no tar, or damaged: empty file"),
    ):
        path = tmp_path / f"{name}.tar"
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=rf"{name}\.tar {message}"):
            locators(str(path))
    with pytest.raises(ValueError, match="--root is for lists"):
        locators(str(whole), root="x")


def test_memory_does_not_grow_with_names(tmp_path):
    path = tmp_path / "many.tar"

    def peak(count: int) -> int:
        write_tar(path, {f"{number:090d}.jpg": b"" for number in range(count)})
        peaks = []
        # Other threads of this process have memory of their own.
        for _ in range(3):
            tracemalloc.start()
            assert sum(1 for _ in shard_images([str(path)], "image", None)) == count
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        return min(peaks)

    assert peak(4000) - peak(1000) < 10 * 3000


def test_images_of_parquet(tmp_path, monkeypatch):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.chdir(tmp_path)
    images = [b"one", b"two", b"three"]
    table = arrow.table(
        dict(
            image=images,
            name=["a.jpg", "/b/c.jpg", "s3://d/e.jpg"],
            empty=["a.jpg", None, "b.jpg"],
            number=[1, 2, 3],
        )
    )
    os.mkdir("d")
    parquet.write_table(table, "d/0.parquet", row_group_size=2)
    found = locators("d/0.parquet")
    assert [stored_name(locator) for locator in found] == [
        *("0/0000000", "0/0000001", "0/0000002"),
    ]
    assert [read_stored(locator) for locator in found] == images
    for root, first in (
        (None, "d/a.jpg"),
        ("x", "x/a.jpg"),
        ("s3://x", "s3://x/a.jpg"),
    ):
        expected = [first, "/b/c.jpg", "s3://d/e.jpg"]
        # An absolute name below an address is a part of it.
        expected[1] = "s3://x//b/c.jpg" if root == "s3://x" else expected[1]
        assert locators("d/0.parquet", column="name", root=root) == expected
    for column, message in (
        ("none", "has no column 'none'; it has image, name, empty, number"),
        ("number", "holds int64, neither the bytes nor the paths"),
        ("empty", "row 2 names no image"),
    ):
        with pytest.raises(ValueError, match=message):
            locators("d/0.parquet", column=column)
    with pytest.raises(ValueError, match="--root is for lists"):
        locators("d/0.parquet", root="x")
    monkeypatch.setattr("mmwood.fileio.shards.MOST_BYTES", 10)
    with pytest.raises(ValueError, match="write it with a smaller row_group_size"):
        locators("d/0.parquet")
    Path("no.parquet").write_bytes(b"PAR1")
    with pytest.raises(ValueError, match=r"no\.parquet cannot be read as Parquet"):
        locators("no.parquet")


def test_what_means_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("s/b.tar", "s/a.tar", "s/deep/c.tar", "p/x.parquet", "p/y.txt"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for source, expected in (
        ("s", ["s/a.tar", "s/b.tar", "s/deep/c.tar"]),
        ("s/*.tar", ["s/a.tar", "s/b.tar"]),
        ("s/**/c.tar", ["s/deep/c.tar"]),
        ("s/a.tar", ["s/a.tar"]),
        ("p", ["p/x.parquet"]),
        ("p/y.txt", []),
    ):
        assert find_shards(source) == expected
    for source, kind, message in (
        (".", ValueError, r"shards of several kinds \(\.parquet, \.tar\)"),
        ("none.tar", FileNotFoundError, "there is no file none.tar"),
        ("s/*.parquet", FileNotFoundError, r"nothing matches s/\*\.parquet"),
        ("p/*", ValueError, r"p/\* matches p/y\.txt; a pattern is for shards"),
        ("s/a.tar.gz", ValueError, "is compressed"),
    ):
        with pytest.raises(kind, match=message):
            find_shards(source)


def test_paths_below_others():
    assert below("a", "b.jpg") == "a/b.jpg"
    assert below("memory://", "b.jpg") == "memory://b.jpg"
