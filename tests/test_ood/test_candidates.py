import tarfile
from pathlib import Path

import pytest

from mmwood.ood.candidates import write_candidate_list


def names(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def test_a_folder_gives_its_images_in_sorted_order(tmp_path):
    folder = tmp_path / "images"
    for name in ("b.png", "a/z.JPG", "a.png", "a/b/ä ö.webp", "a/notes.txt", "B.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    # A folder that is called like an image, and a link that leads in a circle.
    (folder / "c.png").mkdir()
    (folder / "a/loop").symlink_to(folder, target_is_directory=True)
    path = tmp_path / "list.txt"
    assert write_candidate_list(folder, path) == 5
    found = names(path)
    assert found == [
        str(folder / name)
        for name in ("B.tif", "a/b/ä ö.webp", "a/z.JPG", "a.png", "b.png")
    ]
    assert found == [str(p) for p in sorted(map(Path, found))]


def test_a_list_is_relative_to_its_folder_or_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("sub").mkdir()
    Path("sub/some.txt").write_bytes(
        "\ufeffx/ä.jpg\r\n\n  \n/abs/b.jpg\nlast.jpg".encode()
    )
    assert write_candidate_list("sub/some.txt", "out.txt") == 3
    assert names(Path("out.txt")) == ["sub/x/ä.jpg", "/abs/b.jpg", "sub/last.jpg"]
    Path("images").mkdir()
    write_candidate_list("sub/some.txt", "out.txt", root="images")
    assert names(Path("out.txt")) == ["images/x/ä.jpg", "/abs/b.jpg", "images/last.jpg"]


def test_what_cannot_be_a_list_of_candidates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty/notes.txt").touch()
    Path("images").mkdir()
    Path("images/a.png").touch()
    Path("blank.txt").write_text("\n \n")
    Path("twice.txt").write_text("a.jpg\n\nb.jpg\n./a.jpg\n")
    Path("latin.txt").write_bytes("a.jpg\nä.jpg\n".encode("latin-1"))
    Path("broken").mkdir()
    Path("broken/a\nb.png").touch()
    for arguments, kind, message in (
        (("empty",), ValueError, "the folder empty holds no image"),
        (("blank.txt",), ValueError, "blank.txt names no image"),
        (("none",), FileNotFoundError, "no folder or list none"),
        (("twice.txt", "no_root"), FileNotFoundError, "--root: there is no folder"),
        (("images", "empty"), ValueError, "--root is for lists"),
        (("twice.txt",), ValueError, "twice.txt:4: .*'a.jpg' .* at twice.txt:1"),
        (("latin.txt",), ValueError, "latin.txt:2: the name .* is not UTF-8"),
        (("broken",), ValueError, "has a line break"),
    ):
        source, root = (*arguments, None)[:2]
        with pytest.raises(kind, match=message):
            write_candidate_list(source, "out.txt", root=root)
    assert not list(tmp_path.glob("*out*"))


def test_a_frozen_list_may_not_change(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "a.png").touch()
    path = tmp_path / "list.txt"
    for _ in range(2):
        assert write_candidate_list(images, path, frozen=True) == 1
    (images / "b.png").touch()
    before = path.read_bytes()
    with pytest.raises(ValueError, match="other images than"):
        write_candidate_list(images, path, frozen=True)
    assert path.read_bytes() == before
    assert write_candidate_list(images, path) == 2


def test_stores(tmp_path, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.chdir(tmp_path)
    Path("shards").mkdir()
    for shard in ("a", "b"):
        with tarfile.open(f"shards/{shard}.tar", "w") as archive:
            for name in ("1.jpg", "../2.jpg", "1.txt"):
                archive.addfile(tarfile.TarInfo(name))
    expected = [
        *("tar:shards/a.tar#512,0,a/1.jpg", "tar:shards/a.tar#1024,0,a/../2.jpg"),
        *("tar:shards/b.tar#512,0,b/1.jpg", "tar:shards/b.tar#1024,0,b/../2.jpg"),
    ]
    for source in ("shards", "shards/*.tar"):
        assert write_candidate_list(source, "list.txt") == 4
        assert names(Path("list.txt")) == expected
    # A shard among images is none of them.
    Path("shards/c.png").touch()
    assert write_candidate_list("shards", "list.txt") == 1
    # They would be one file once they are found.
    with tarfile.open("shards/b.tar", "a") as archive:
        archive.addfile(tarfile.TarInfo("./2.jpg"))
    with pytest.raises(ValueError, match=r"b\.tar at byte .* listed before, at .*1024"):
        write_candidate_list("shards/b.tar", "list.txt")

    memory = fsspec.filesystem("memory")
    memory.store.clear()
    for name in ("a/x.jpg", "a/y.txt", "b.png", "only/s.tar"):
        memory.pipe(f"/bucket/{name}", b"")
    assert write_candidate_list("memory://bucket", "list.txt") == 2
    assert [name[-8:] for name in names(Path("list.txt"))] == ["/a/x.jpg", "et/b.png"]
    Path("some.txt").write_text("x.jpg\ns3://else/y.jpg\n")
    assert write_candidate_list("some.txt", "list.txt", root="memory://bucket/a") == 2
    assert names(Path("list.txt")) == ["memory://bucket/a/x.jpg", "s3://else/y.jpg"]
    for source, kind, message in (
        ("memory://none", FileNotFoundError, "memory://none"),
        ("memory://bucket/only", ValueError, r"s\.tar is no tar, or damaged"),
        ("nosuch://bucket", OSError, "Protocol not known"),
        ("none.tar", FileNotFoundError, "there is no file none.tar"),
    ):
        with pytest.raises(kind, match=message):
            write_candidate_list(source, "list.txt")
    memory.store.clear()
