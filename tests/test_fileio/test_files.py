import hashlib
import json
import stat

import pytest

from mmwood.fileio.files import (
    atomic_write,
    compare_description,
    file_sha256,
    remove_leftovers,
    text_sha256,
    walk,
    write_json,
)


def test_the_file_appears_whole(tmp_path):
    path = tmp_path / "new/folder/a.txt"
    with atomic_write(path) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("first half")
        assert not path.exists()
    assert path.read_text() == "first half"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail():
        with atomic_write(path) as temporary:
            temporary.write_text("new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_processes_are_removed(tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    writer = atomic_write(tmp_path / "folder/a.txt")
    writer.__enter__()
    assert len(list(tmp_path.rglob("*.txt"))) == 2
    remove_leftovers(tmp_path)
    assert list(tmp_path.rglob("*.txt")) == [tmp_path / "kept.txt"]


def test_others_may_read_it(tmp_path):
    (tmp_path / "usual").touch()
    with atomic_write(tmp_path / "a") as temporary:
        temporary.write_text("")
    usual, written = (
        stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("usual", "a")
    )
    assert written == usual


def test_json_and_hashes(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, 2]})
    content = (tmp_path / "a.json").read_bytes()
    assert json.loads(content) == {"a": [1, 2]}
    expected = hashlib.sha256(content).hexdigest()
    assert file_sha256(tmp_path / "a.json") == expected
    assert text_sha256(content.decode()) == expected


def test_hashes_of_a_message_are_short():
    found = dict(weights_sha256="1" * 64, name="1" * 63)
    wanted = dict(weights_sha256="2" * 64, name="b")
    with pytest.raises(ValueError, match="made with") as error:
        compare_description(found, wanted, "labels", "name another folder")
    assert str(error.value) == (
        "labels was made with another weights_sha256 ('11111111...' instead of "
        f"'22222222...'), name ('{'1' * 63}' instead of 'b'): name another folder"
    )


def test_folders_of_some_names_are_not_walked(tmp_path):
    for name in ("a/b.txt", "a/2026_1/c.txt", "d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = walk(tmp_path, leave_out="2[0-9]*")
    assert [*found] == [tmp_path / "a/b.txt", tmp_path / "d.txt"]
