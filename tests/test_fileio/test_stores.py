"""Locators, and the images that they name, in real tars, Parquet files and fsspec."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mmwood.fileio import stores
from mmwood.fileio.stores import (
    Packed,
    is_stored,
    list_address,
    match_address,
    read_stored,
    save_stored,
    stored_name,
)


def picture(shade: int, kind: str = "PNG") -> bytes:
    content = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), shade, np.uint8)).save(content, kind)
    return content.getvalue()


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    st.text(st.characters(exclude_categories=["Cs"])),
)
def test_locators_are_read_as_they_were_written(file, name, column):
    packed = Packed("parquet", file, 3, 17, name, column)
    locator = packed.locator()
    assert is_stored(locator)
    assert stores._packed(locator) == packed
    assert "\n" not in locator


@given(st.text(st.sampled_from("ab./\\\n\0-tmp")))
def test_stored_names_stay_in_their_folder(name):
    parts = stored_name(Packed("tar", "x.tar", 0, 1, name or "a").locator()).split("/")
    assert not {"", ".", ".."} & {*parts}
    assert not any(part.startswith(".tmp-") for part in parts)
    assert not any(character in part for part in parts for character in "\n\0")


def test_names_of_stored_images():
    for locator, expected in (
        ("tar:a.tar#0,1,a/../../x.jpg", "a/x.jpg"),
        ("tar:a.tar#0,1,a//etc/x.jpg", "a/etc/x.jpg"),
        ("tar:a.tar#0,1,..", "image"),
        ("s3://bucket/../lake/./1.jpg", "s3/bucket/lake/1.jpg"),
        ("parquet:b%2Cc.parquet#0,1,b%2Cc/0000001,image", "b,c/0000001"),
    ):
        assert is_stored(locator)
        assert stored_name(locator) == expected
    for path in ("a.jpg", "/a/tar:b.jpg", "tar:x.jpg", "c:/a.jpg", "a#1,2,b.jpg"):
        assert not is_stored(path)


def test_images_are_saved_under_their_names(tmp_path):
    content = picture(7)
    (tmp_path / "s.tar").write_bytes(b"x" * 100 + content + b"y" * 9)
    packed = Packed("tar", str(tmp_path / "s.tar"), 100, len(content), "s/a.png")
    locator, folder = packed.locator(), tmp_path / "found"
    assert read_stored(locator) == content
    for _ in range(2):
        # A second time, as after a kill.
        path, sha256 = save_stored(locator, folder)
        assert path == str(folder / "s/a.png")
        assert Path(path).read_bytes() == content
        assert sha256 == hashlib.sha256(content).hexdigest()
    (folder / "s/a.png").write_bytes(b"mine")
    with pytest.raises(FileExistsError, match=r"s/a\.png is there, and is not the im"):
        save_stored(locator, folder)
    assert (folder / "s/a.png").read_bytes() == b"mine"
    (folder / "s/b.png").mkdir()
    with pytest.raises(FileExistsError, match=r"s/b\.png is there"):
        save_stored(packed._replace(name="s/b.png").locator(), folder)
    # Names that say nothing of the kind.
    for kind, suffix in (("PNG", ".png"), ("JPEG", ".jpg"), ("TIFF", ".tif")):
        content = picture(9, kind)
        (tmp_path / "s.tar").write_bytes(content)
        of_kind = Packed("tar", str(tmp_path / "s.tar"), 0, len(content), f"1/{kind}")
        path, _ = save_stored(of_kind.locator(), folder)
        assert path == str(folder / f"1/{kind}{suffix}")
    with pytest.raises(ValueError, match=r"s\.tar ends before byte 5000"):
        read_stored(Packed("tar", str(tmp_path / "s.tar"), 0, 5000, "a").locator())
    with pytest.raises(FileNotFoundError, match=r"none\.tar"):
        read_stored("tar:none.tar#0,5,a.png")


def test_rows_of_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    images = [picture(shade) for shade in range(5)]
    path = str(tmp_path / "d.parquet")
    for column in (
        arrow.array(images),
        arrow.array(images, arrow.large_binary()),
        arrow.array([dict(bytes=image, path=None) for image in images]),
    ):
        stores._row_group.cache_clear()
        parquet.write_table(
            arrow.table(dict(n=range(5), image=column)), path, row_group_size=2
        )
        for row, image in enumerate(images):
            packed = Packed("parquet", path, row // 2, row % 2, "d/0", "image")
            assert read_stored(packed.locator()) == image
    nothing = arrow.array([None, b"", picture(1)], arrow.binary())
    parquet.write_table(arrow.table(dict(image=nothing)), path)
    stores._row_group.cache_clear()
    for row in (0, 1, 9):
        packed = Packed("parquet", path, 0, row, "d/0", "image")
        with pytest.raises(ValueError, match=r"d\.parquet: the row holds no image"):
            read_stored(packed.locator())
    stores._row_group.cache_clear()
    (tmp_path / "d.parquet").write_bytes(b"no Parquet at all")
    with pytest.raises(ValueError, match=r"d\.parquet cannot be read as Parquet: "):
        read_stored(packed.locator())


@pytest.fixture
def bucket():
    """Files at addresses, with folders between them."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name in ("b.png", "a/z.jpg", "a/x.tar", "a.png"):
        memory.pipe(f"/bucket/{name}", name.encode())
    yield "memory://bucket"
    memory.store.clear()


def test_addresses(bucket, tmp_path):
    found = list(list_address(bucket))
    assert [name.rpartition("/bucket/")[2] for name in found] == [
        *("a/x.tar", "a/z.jpg", "a.png", "b.png"),
    ]
    assert [read_stored(name) for name in found] == [
        *(b"a/x.tar", b"a/z.jpg", b"a.png", b"b.png"),
    ]
    assert match_address(f"{bucket}/*/*.tar") == found[:1]
    tar = Packed("tar", found[0], 2, 3, "x/1.png")
    assert read_stored(tar.locator()) == b"x.t"
    path, _ = save_stored(found[3], tmp_path)
    assert path == str(tmp_path / "memory/bucket/b.png")
    for missing in (f"{bucket}/none.png", "tar:memory://none.tar#0,1,a"):
        with pytest.raises(FileNotFoundError, match=r"memory://.*none\.\w+'$"):
            read_stored(missing)
    with pytest.raises(FileNotFoundError, match="memory://nowhere"):
        list(list_address("memory://nowhere"))


def test_addresses_that_no_file_system_has():
    pytest.importorskip("fsspec")
    with pytest.raises(OSError, match="Protocol not known: nosuch: 'nosuch:"):
        read_stored("nosuch://bucket/a.jpg")
