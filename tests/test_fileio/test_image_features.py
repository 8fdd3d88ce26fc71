import numpy as np
import pytest

from mmwood.fileio import image_features
from mmwood.fileio.image_features import (
    read_features,
    read_own_features,
    write_features,
)


def test_features_are_read_in_blocks_as_they_were_written(tmp_path, monkeypatch):
    monkeypatch.setattr(image_features, "BLOCK", 4)
    path = tmp_path / "ood.npz"
    features = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float16)
    hashes = [f"{number:064x}" for number in range(10)]
    rows = [(name, row.tobytes()) for name, row in zip(hashes, features)]
    write_features(path, 10, 3, rows)
    found = read_features(path)
    assert found.sha256.tolist() == [name.encode() for name in hashes]
    blocks = list(found.blocks())
    assert [len(block) for block in blocks] == [4, 4, 2]
    np.testing.assert_array_equal(np.concatenate(blocks), features)
    # NumPy reads it, too, and it is the same to the byte at another time.
    with np.load(path) as content:
        np.testing.assert_array_equal(content["features"], features)
    before = path.read_bytes()
    write_features(path, 10, 3, rows)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="different lengths, 3 and 2"):
        write_features(path, 2, 3, [rows[0], ("b", b"1234")])
    assert path.read_bytes() == before


def test_what_is_no_file_of_features(tmp_path):
    path = tmp_path / "ood.npz"
    with pytest.raises(FileNotFoundError, match=r"features .*ood\.npz"):
        read_features(path)
    path.write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"ood\.npz is not what mining leaves"):
        read_features(path)
    hashes = np.array([b"a" * 64])
    half = np.zeros((1, 3), dtype=np.float16)
    for arrays in (
        dict(features=half),
        dict(sha256=hashes, features=half.astype(float)),
        dict(sha256=hashes, features=half[0]),
        dict(sha256=hashes, features=np.zeros((2, 3), dtype=np.float16)),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=r"ood\.npz is not what mining leaves"):
            read_features(path)


def test_what_is_no_feature_of_ones_own(tmp_path):
    path = tmp_path / "f.npz"
    with pytest.raises(FileNotFoundError, match="--features: there is no file"):
        read_own_features(path)
    names, rows = np.array(["a.png", "b.png"]), np.zeros((2, 3))
    bad = rows.copy()
    bad[1, 0] = np.inf
    for arrays, message in (
        (dict(image=names), "with the arrays image, names of images, and features"),
        (dict(image=np.array(["a", None]), features=rows), "must be an .npz"),
        (dict(image=np.arange(2), features=rows), "image must be a list of texts"),
        (dict(image=names, features=rows[:1]), r"their shape is \(1, 3\)"),
        (dict(image=names[[0, 0]], features=rows), "names 'a.png' twice"),
        (dict(image=names, features=bad), "those of 'b.png' are not all finite"),
        (dict(image=names, features=rows.astype("U3")), "features are <U3"),
    ):
        np.savez(path, **arrays)
        with pytest.raises(ValueError, match=message):
            read_own_features(path)
    np.savez(path, image=names, features=rows)
    found, features = read_own_features(path)
    assert found == ["a.png", "b.png"]
    assert features.shape == (2, 3)
