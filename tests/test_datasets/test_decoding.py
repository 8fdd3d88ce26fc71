"""An image of 16 bits, of colours or of bands, is one picture to all who read it."""

import json

import cv2
import numpy as np
import pytest
from PIL import Image

from mmwood.datasets import ImageLevelDataset
from mmwood.datasets.transforms.loading import decoding_of, loaded_rgb
from mmwood.engine.predict import ImageFile, PredictionFiles
from mmwood.fileio.decoding import PICTURE, Decoding
from mmwood.fileio.images import read_picture
from mmwood.fileio.label_folder import LabelFolder
from mmwood.fileio.labels import save_label_png, voc_palette
from mmwood.ood.auto import image_hash
from mmwood.ood.results import mined_decoding
from mmwood.ood.review.pictures import Cache, Pictures
from mmwood.own_images.prepare import prepare
from mmwood.own_images.source import read_own_images
from mmwood.report.cards import Album
from mmwood.report.spec import Data

SIZE = 24, 32
PICTURE_OF_ALL = np.asarray(
    Image.fromarray(
        np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    ).resize(SIZE[::-1], Image.Resampling.BICUBIC)
)
COLOURS = Decoding((1000, 3040))
BANDS = Decoding((1000, 3040), (4, 2, 1, 3))
CASES = {"colours": COLOURS, "bands": BANDS}


pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


@pytest.fixture(params=CASES)
def deep(request, tmp_path):
    """Folders of the same picture in 8 bits and in 16, and how the latter is read."""
    decoding = CASES[request.param]
    for name in ("shallow", "deep"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "tags.csv").write_text("image,labels\na.png,boat;train\n")
    Image.fromarray(PICTURE_OF_ALL).save(tmp_path / "shallow/a.png")
    values = PICTURE_OF_ALL.astype(np.uint16) * 8 + 1000
    path = tmp_path / "deep/a.png"
    if decoding.bands is None:
        assert cv2.imwrite(str(path), values[..., ::-1])
    else:
        rasterio = pytest.importorskip("rasterio")
        bands = np.full((4, *SIZE), 1700, np.uint16)
        for channel, band in enumerate(decoding.bands[:3]):
            bands[band - 1] = values[..., channel]
        options = dict(height=SIZE[0], width=SIZE[1], count=4, dtype="uint16")
        with rasterio.open(path, "w", driver="PNG", **options) as file:
            file.write(bands)
    return tmp_path, decoding


def dataset(kind, folder, decoding, **options):
    """A data set of the folder, which decodes the image when it is built."""
    load = dict(type="mmwood.LoadImage", **vars(decoding))
    return kind(
        data_root=str(folder),
        ann_file="tags.csv",
        classes=["boat", "train"],
        pipeline=[load],
        check="decode",
        serialize_data=False,
        **options,
    )


def test_training_data(deep):
    root, decoding = deep
    images = dataset(ImageLevelDataset, root / "deep", decoding)
    assert decoding_of(images) == decoding
    found = images[0]["img"]
    assert found.shape == (*SIZE, decoding.channels)
    assert np.array_equal(loaded_rgb(found), PICTURE_OF_ALL)
    if decoding.bands is not None:
        # (1700 - 1000) / 8
        assert set(np.unique(found[..., 3])) == {88}


def test_copies_of_own_images(deep):
    root, decoding = deep
    own = read_own_images(root / "deep")
    prepare(own, root / "copy", max(SIZE), decoding=decoding)
    suffix = ".png" if decoding.channels == 3 else ".tif"
    # As people see them, whatever reads them.
    copy = root / f"copy/images/a{suffix}"
    assert np.array_equal(read_picture(copy), PICTURE_OF_ALL)
    assert np.array_equal(cv2.imread(str(copy))[..., ::-1], PICTURE_OF_ALL)
    bands = Decoding(bands=decoding.bands)
    assert np.array_equal(
        read_picture(copy, bands, shown=False),
        read_picture(root / "deep/a.png", decoding, shown=False),
    )


def test_review(deep):
    root, decoding = deep
    manifest = root / "mined.csv"
    manifest.with_suffix(".json").write_text(json.dumps(dict(decoding=vars(decoding))))
    assert mined_decoding(manifest) == decoding
    assert mined_decoding(root / "by_hand.csv") == PICTURE
    pages = [
        Pictures([str(root / name / "a.png")], Cache(root / "cache", 10**6), how)
        for name, how in (("shallow", PICTURE), ("deep", decoding))
    ]
    assert pages[0].small(0) == pages[1].small(0)
    assert pages[0].large(0) == pages[1].large(0)
    hashes = [
        image_hash(root / "shallow/a.png"),
        image_hash(root / "deep/a.png", decoding),
    ]
    assert np.array_equal(*hashes)


def test_figures(deep, call_main):
    root, decoding = deep
    how = {"shallow": PICTURE, "deep": decoding}
    run = LabelFolder(root / "run")
    save_label_png(np.ones(SIZE, np.uint8), run.label("a"))
    sheets = []
    for name in how:
        folder = root / f"clusters_{name}"
        folder.mkdir()
        rows = "image,cluster,distance,class,probability\n"
        rows += f"{root / name / 'a.png'},0,1,boat,0.9\n"
        (folder / "members.csv").write_text(rows)
        content = dict(sizes=[1], names=None, decoding=vars(how[name]))
        (folder / "clusters.json").write_text(json.dumps(content))
        out = root / f"sheets_{name}"
        call_main("analysis_tools/ood_clusters.py", folder, "--out", out)
        sheets.append(read_picture(out / "overview.png"))
    assert np.array_equal(*sheets)
    cards = [
        Album(Data(root / name, ".png", None, ["boat"], how[name]), "").cell("a", "")
        for name in how
    ]
    assert cards[0] == cards[1]
    overlays = [
        PredictionFiles(
            [],
            run,
            lambda: None,
            ["background", "boat"],
            voc_palette(2),
            decoding=how[name],
        ).overlay(ImageFile("a", "a", str(root / name / "a.png")), 999)
        for name in how
    ]
    assert np.array_equal(*overlays)
