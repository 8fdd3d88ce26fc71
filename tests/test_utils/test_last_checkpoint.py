from pathlib import Path

from mmwood.utils.last_checkpoint import last_checkpoint


def test_the_path_as_it_was_written(tmp_path):
    assert last_checkpoint(tmp_path) is None
    assert last_checkpoint(tmp_path / "nothing") is None
    (tmp_path / "last_checkpoint").write_text("work_dirs/a/epoch_3.pth\n")
    assert last_checkpoint(tmp_path) == Path("work_dirs/a/epoch_3.pth")
