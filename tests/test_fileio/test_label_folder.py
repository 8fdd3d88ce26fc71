import numpy as np
import pytest

from mmwood.fileio.label_folder import (
    PSEUDO_LABELS,
    LabelFolder,
    ScoreMaps,
    load_score_maps,
    save_score_maps,
)


def some_maps() -> ScoreMaps:
    rng = np.random.default_rng(0)
    return ScoreMaps(
        classes=np.array([2, 5]),
        scores=rng.random(6, dtype=np.float32),
        strided=rng.random((2, 4, 5)).astype(np.float16),
    )


def test_round_trip(tmp_path):
    save_score_maps(tmp_path / "a.npz", some_maps())
    found = load_score_maps(tmp_path / "a.npz", needs=["strided"])
    for key, value in vars(some_maps()).items():
        np.testing.assert_array_equal(getattr(found, key), value)
    assert found.full is None


def test_equal_maps_give_equal_bytes(tmp_path):
    for name in ("a.npz", "b.npz"):
        save_score_maps(tmp_path / name, some_maps())
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_named(tmp_path, keep):
    path = tmp_path / "a.npz"
    save_score_maps(path, some_maps())
    content = path.read_bytes()
    path.write_bytes(content[: keep if keep > 1 else int(keep * len(content))])
    with pytest.raises(ValueError, match=r"a\.npz does not hold score maps"):
        load_score_maps(path)


def test_a_changed_byte_is_noticed(tmp_path):
    path = tmp_path / "a.npz"
    save_score_maps(path, some_maps())
    content = bytearray(path.read_bytes())
    position = content.find(some_maps().strided.tobytes()) + 3
    content[position] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npz does not hold score maps"):
        load_score_maps(path)


def test_missing_maps(tmp_path):
    path = tmp_path / "a.npz"
    with pytest.raises(FileNotFoundError):
        load_score_maps(path)
    save_score_maps(path, some_maps())
    with pytest.raises(ValueError, match=r"a\.npz holds no 'full' maps"):
        load_score_maps(path, needs=["full"])
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz does not hold score maps"):
        load_score_maps(path)


def test_nothing_old_stays_where_all_is_made_anew(tmp_path):
    folder = LabelFolder(tmp_path)
    old = [folder.label("x/a"), folder.scores("x/a"), folder.instances("x/a")]
    for path in (*old, folder.instance_file, tmp_path / "labels/note.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    folder.begin(dict(format=PSEUDO_LABELS))
    assert all(path.is_file() for path in (*old, folder.instance_file))
    folder.begin(dict(format=PSEUDO_LABELS), overwrite=True)
    left = sorted(path.name for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["manifest.json", "note.txt"]
