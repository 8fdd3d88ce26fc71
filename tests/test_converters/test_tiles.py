"""Big images to tiles and back: pixels, tags and masks against loops over pixels."""

import csv
import json

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools.coco import COCO

from mmwood.converters.regions import read_regions
from mmwood.converters.tiles.grid import BigImage
from mmwood.fileio.files import files_by_id, read_json, write_json
from mmwood.fileio.labels import read_label_png, save_label_png
from mmwood.own_images.source import read_own_images

TOOL = "dataset_converters/tiles.py"
CUT = (TOOL, "scans", "--size", 16, "--overlap", 5, "--out", "tiles")


@pytest.fixture
def scans(tmp_path):
    """Two images of random pixels in folders: (H, W) = (40, 53) and (16, 31)."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "scans"
    for name, size in (("Ä 1/a.b.png", (40, 53)), ("c.png", (16, 31))):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["image", "labels"]
    return {name: {*labels.split(";")} - {""} for name, labels in rows}


def entries(folder):
    record = read_json(folder / "tiles.json")
    assert record["complete"]
    return record["tiles"]


def slow_stitch(size, tiles):
    """Each pixel by itself, from (top, left, mask): the nearest centre's, the first."""
    whole = np.zeros(size, np.uint8)
    for y in range(size[0]):
        for x in range(size[1]):
            held = [
                (
                    (2 * (y - top) + 1 - len(mask)) ** 2
                    + (2 * (x - left) + 1 - len(mask)) ** 2,
                    top,
                    left,
                    mask,
                )
                for top, left, mask in tiles
                if 0 <= y - top < len(mask) and 0 <= x - left < len(mask)
            ]
            *_, top, left, mask = min(held, key=lambda item: item[:3])
            whole[y, x] = mask[y - top, x - left]
    return whole


# -- cutting and stitching --------------------------------------------------
def test_every_pixel_is_in_a_tile_and_comes_back(scans, call_main, tmp_path, hashes):
    before = hashes(scans)
    text = call_main(*CUT)
    assert "23 tiles" in text
    assert "Nothing is known of them" in text
    assert not (tmp_path / "tiles/tags.csv").exists()
    assert hashes(scans) == before
    rng = np.random.default_rng(1)
    truth = {}
    for path in (scans / "Ä 1/a.b.png", scans / "c.png"):
        pixels = np.asarray(Image.open(path))
        seen = np.zeros(pixels.shape[:2], bool)
        truth[path] = rng.integers(0, 256, pixels.shape[:2], dtype=np.uint8)
        name = path.relative_to(scans).as_posix()
        for entry in entries(tmp_path / "tiles"):
            if entry["image"] == name:
                top, left = entry["y"], entry["x"]
                box = np.s_[top : top + entry["height"], left : left + entry["width"]]
                tile = Image.open(tmp_path / "tiles" / entry["file"])
                np.testing.assert_array_equal(np.asarray(tile), pixels[box])
                seen[box] = True
                save_label_png(
                    truth[path][box], tmp_path / f"masks/{entry['name']}.png"
                )
        assert seen.all()
    assert (tmp_path / "tiles/images/Ä 1/a.b_y00024_x00037.png").is_file()
    text = call_main(TOOL, "tiles", "--stitch", "masks", "--out", "whole")
    assert "masks of 2 images" in text
    assert "2 written" in text
    found = files_by_id(tmp_path / "whole/labels")
    assert [*found] == ["c", "Ä 1/a.b"]
    for path, label in truth.items():
        image_id = path.relative_to(scans).with_suffix("").as_posix()
        np.testing.assert_array_equal(read_label_png(found[image_id]), label)


@pytest.mark.parametrize(
    ("size", "tile", "overlap"),
    [((9, 9), 9, 0), ((20, 13), 7, 0), ((20, 13), 6, 5), ((11, 23), 8, 3)],
)
def test_the_nearest_centre_counts(size, tile, overlap, call_main, tmp_path):
    (tmp_path / "scans").mkdir()
    Image.new("L", size[::-1]).save(tmp_path / "scans/a.png")
    call_main(*(TOOL, "scans", "--size", tile, "--overlap", overlap, "--out", "tiles"))
    rng = np.random.default_rng(0)
    tiles = []
    for entry in entries(tmp_path / "tiles"):
        mask = rng.integers(0, 256, (tile, tile), dtype=np.uint8)
        tiles.append((entry["y"], entry["x"], mask))
        save_label_png(mask, tmp_path / f"masks/images/{entry['name']}.png")
    call_main(TOOL, "tiles", "--stitch", "masks", "--out", "whole")
    found = read_label_png(tmp_path / "whole/labels/a.png")
    np.testing.assert_array_equal(found, slow_stitch(size, tiles))


@pytest.mark.parametrize(
    ("kind", "suffix"), [("grey", ".png"), ("colour", ".png"), ("floats", ".tif")]
)
def test_deep_images_keep_their_values(kind, suffix, call_main, tmp_path):
    rng = np.random.default_rng(0)
    shape = (40, 50, 3) if kind == "colour" else (40, 50)
    values = rng.integers(0, 4096, shape).astype(np.uint16)
    if kind == "floats":
        values = rng.normal(size=shape).astype(np.float32)
    (tmp_path / "scans").mkdir()
    cv2.imwrite(str(tmp_path / "scans/a.tif"), values)
    call_main(TOOL, "scans", "--size", 16, "--out", "tiles")
    for entry in entries(tmp_path / "tiles"):
        path = tmp_path / "tiles" / entry["file"]
        assert path.suffix == suffix
        tile = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        part = values[entry["y"] :, entry["x"] :][:16, :16]
        assert tile.dtype == values.dtype
        np.testing.assert_array_equal(tile, part)


def test_cameras_turn_images(call_main, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (20, 30), dtype=np.uint8)
    (tmp_path / "scans").mkdir()
    Image.fromarray(pixels).save(tmp_path / "scans/a.png", exif=exif)
    call_main(TOOL, "scans", "--size", 16, "--out", "tiles")
    tile = np.asarray(Image.open(tmp_path / "tiles/images/a_y00014_x00004.png"))
    np.testing.assert_array_equal(tile, np.rot90(pixels, -1)[14:, 4:])


# -- tags -------------------------------------------------------------------
def coco(folder, sizes, annotations):
    names = ["boat", "train", "void", "background"]
    content = dict(
        images=[
            dict(id=number, file_name=name, height=size[0], width=size[1])
            for number, (name, size) in enumerate(sizes.items(), start=1)
        ],
        categories=[dict(id=n, name=name) for n, name in enumerate(names, start=1)],
        annotations=[
            dict(annotation, id=number, image_id=1, iscrowd=0, area=1)
            for number, annotation in enumerate(annotations, start=1)
        ],
    )
    path = folder / "coco.json"
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("min_pixels", [1, 9])
def test_tags_of_regions(min_pixels, scans, call_main, tmp_path):
    rng = np.random.default_rng(2)
    annotations = []
    for number in range(9):
        left, top = rng.uniform(0, 45), rng.uniform(0, 32)
        corners = [left, top, left + 7, top + 1, left + 4, top + 8]
        annotations.append(dict(category_id=number % 4 + 1, segmentation=[corners]))
    path = coco(tmp_path, {"Ä 1/a.b.png": (40, 53), "c.png": (16, 31)}, annotations)
    call_main(*CUT, "--regions", path, "--min-pixels", min_pixels)
    read = COCO(str(path))
    masks = {name: np.zeros((40, 53), bool) for name in ("boat", "train", "void")}
    for annotation in read.dataset["annotations"]:
        name = read.cats[annotation["category_id"]]["name"]
        if name in masks:
            masks[name] |= read.annToMask(annotation) > 0
    expected, unknown = {}, 0
    for entry in entries(tmp_path / "tiles"):
        counts = dict.fromkeys(masks, 0)
        for name, mask in masks.items():
            for y in range(entry["y"], entry["y"] + 16):
                for x in range(entry["x"], entry["x"] + 16):
                    counts[name] += bool(entry["image"] != "c.png" and mask[y, x])
        shown = {name for name in ("boat", "train") if counts[name] >= min_pixels}
        if shown or not any(counts.values()):
            expected[f"images/{entry['name']}.png"] = shown
            assert entry["labels"] == sorted(shown)
        else:
            unknown += 1
            assert (entry["file"], entry["labels"]) == (None, None)
    assert rows_of(tmp_path / "tiles/tags.csv") == expected
    assert unknown >= (min_pixels > 1)
    assert any(expected.values())
    assert not all(expected.values())
    # Nothing that is unknown lies where a pipeline would take it to show nothing.
    written = files_by_id(tmp_path / "tiles/images")
    assert {f"images/{name}.png" for name in written} == expected.keys()
    own = read_own_images(tmp_path / "tiles")
    assert own.classes == ["boat", "train"]
    assert {item.image for item in own.tagged} == {n for n in expected if expected[n]}
    assert {*own.untagged} == {n for n in expected if not expected[n]}


def slow_box(size, corners):
    """Pixels whose centre is inside a polygon, drawn by Pillow at eight times."""
    big = Image.new("L", (size[1] * 8, size[0] * 8))
    ImageDraw.Draw(big).polygon([(8 * x, 8 * y) for x, y in corners], fill=1)
    return np.asarray(big)[4::8, 4::8] > 0


def turned(box, degrees, pivot):
    """The corners of a box, each turned by itself."""
    left, top, width, height = box
    angle = np.deg2rad(degrees)
    found = []
    for x, y in ((0, 0), (width, 0), (width, height), (0, height)):
        x, y = x - pivot[0] * width, y - pivot[1] * height
        found.append(
            (
                left + pivot[0] * width + x * np.cos(angle) - y * np.sin(angle),
                top + pivot[1] * height + x * np.sin(angle) + y * np.cos(angle),
            )
        )
    return found


@pytest.mark.parametrize("degrees", [0, 30])
@pytest.mark.parametrize("kind", ["coco", "cvat", "label-studio"])
def test_boxes(kind, degrees, scans, call_main, tmp_path):
    box, size, pivot = (10, 8, 20, 12), (40, 53), (0, 0)
    if kind == "coco":
        degrees = 0
        annotation = dict(category_id=1, bbox=[*box])
        sizes = {"Ä 1/a.b.png": size}
        path = coco(tmp_path, sizes, [annotation, dict(annotation, segmentation=[])])
    elif kind == "cvat":
        pivot = (0.5, 0.5)
        path = tmp_path / "a.xml"
        path.write_text(
            '<annotations><image name="Ä 1/a.b.png" height="40" width="53"><box '
            f'label="boat" xtl="10" ytl="8" xbr="30" ybr="20" rotation="{degrees}"/>'
            "</image></annotations>",
            encoding="utf-8",
        )
    else:
        value = dict(rectanglelabels=["boat"], rotation=degrees)
        for name, side, whole in zip(("x", "y", "width", "height"), box, (53, 40) * 2):
            value[name] = 100 * side / whole
        result = dict(
            type="rectanglelabels", value=value, original_height=40, original_width=53
        )
        task = dict(
            data=dict(image="/data/local-files/?d=scans/Ä 1/a.b.png"),
            annotations=[dict(result=[result])],
        )
        path = tmp_path / "a.json"
        path.write_text(json.dumps([task]))
    expected = slow_box(size, turned(box, degrees, pivot))
    (image,) = read_regions(path, boxes=True).images
    found = np.zeros(size, bool)
    for region in image.regions:
        left, top, mask = region.decode()
        found[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
    # A polygon's pixels are COCO's, which may differ along its sides.
    assert (found & expected).sum() > 0.9 * (found | expected).sum() > 0
    call_main(*CUT, "--regions", path)
    shown = {
        (entry["y"], entry["x"])
        for entry in entries(tmp_path / "tiles")
        if entry["labels"] == ["boat"]
    }
    assert shown == {
        (entry["y"], entry["x"])
        for entry in entries(tmp_path / "tiles")
        if entry["image"] != "c.png"
        and found[entry["y"] :, entry["x"] :][:16, :16].any()
    }
    # Nobody has looked at the other image.
    assert all(
        entry["file"] is None
        for entry in entries(tmp_path / "tiles")
        if entry["image"] == "c.png"
    )


def test_masks_have_no_boxes(tmp_path):
    path = coco(tmp_path, {"a.png": (9, 9)}, [dict(category_id=1, bbox=[1, 1, 2, 2])])
    with pytest.raises(ValueError, match="lacks segmentation"):
        read_regions(path)
    path = coco(tmp_path, {"a.png": (9, 9)}, [dict(category_id=1, bbox=[1, "1", 2, 2])])
    with pytest.raises(ValueError, match=r"its bbox is .*, not \[x, y, width"):
        read_regions(path, boxes=True)


def test_tags_of_tiles(scans, call_main, tmp_path):
    call_main(*CUT)
    before = {entry["name"] for entry in entries(tmp_path / "tiles")}
    table = tmp_path / "seen.csv"
    table.write_text(
        "image,labels\nc_y00000_x00000.png,train;boat\nimages/c_y00000_x00011,\n"
        "Ä 1/a.b_y00000_x00000,boat\n",
        encoding="utf-8",
    )
    text = call_main(*CUT, "--tile-tags", table)
    assert "2 with a tag, 1 that show no class; 20 unknown ones are left out" in text
    assert "2 written, 3 kept" in text
    expected = {
        "images/Ä 1/a.b_y00000_x00000.png": {"boat"},
        "images/c_y00000_x00000.png": {"boat", "train"},
        "images/c_y00000_x00011.png": set(),
    }
    assert rows_of(tmp_path / "tiles/tags.csv") == expected
    assert len(files_by_id(tmp_path / "tiles/images")) == 3
    assert {entry["name"] for entry in entries(tmp_path / "tiles")} == before


def test_tags_of_images(scans, call_main, tmp_path):
    table = tmp_path / "whole.csv"
    table.write_text("image,labels\nÄ 1/a.b.png,boat\nc.png,\n", encoding="utf-8")
    text = call_main(*CUT, "--image-tags", table)
    assert "no tile has a tag" in text
    rows = rows_of(tmp_path / "tiles/tags.csv")
    assert rows
    assert all(name.startswith("images/c_") and not tags for name, tags in rows.items())
    call_main(*CUT, "--image-tags", table, "--inherit", "--overwrite")
    rows = rows_of(tmp_path / "tiles/tags.csv")
    assert len(rows) == 23
    for name, tags in rows.items():
        assert tags == (set() if name.startswith("images/c_") else {"boat"})
    # Of a tile itself more is known.
    seen = tmp_path / "seen.csv"
    seen.write_text("image,labels\nÄ 1/a.b_y00000_x00000,\n", encoding="utf-8")
    call_main(
        *(*CUT, "--image-tags", table, "--inherit", "--tile-tags", seen, "--overwrite")
    )
    rows = rows_of(tmp_path / "tiles/tags.csv")
    assert len(rows) == 23
    assert rows["images/Ä 1/a.b_y00000_x00000.png"] == set()
    seen.write_text("image,labels\nc_y00000_x00000,boat\n")
    text = call_main(
        *(*CUT, "--image-tags", table, "--tile-tags", seen, "--overwrite"), fails=True
    )
    assert "1 tiles contradict them" in text
    assert "shows ['boat'], its image at" in text


# -- running it again, and what stays ---------------------------------------
def test_again(scans, call_main, tmp_path, hashes):
    call_main(*CUT)
    before = hashes(tmp_path / "tiles")
    assert "0 written, 23 kept" in call_main(*CUT)
    assert hashes(tmp_path / "tiles") == before
    tile = tmp_path / "tiles/images/c_y00000_x00000.png"
    Image.new("RGB", (16, 16)).save(tile)
    text = call_main(*CUT, fails=True)
    assert "is there and holds something else" in text
    table = tmp_path / "seen.csv"
    table.write_text("image,labels\nc_y00000_x00011,boat\n")
    text = call_main(*CUT, "--tile-tags", table, fails=True)
    assert "is of a tile without tags, and was changed" in text
    assert tile.is_file()
    assert "is not complete" in call_main(
        TOOL, "tiles", "--stitch", "scans", "--out", "whole", fails=True
    )
    call_main(*CUT, "--tile-tags", table, "--overwrite")
    assert [*files_by_id(tmp_path / "tiles/images")] == ["c_y00000_x00011"]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (("--overlap", 16), "--overlap must be an integer of at least 0 and below 16"),
        (("--size", 0), "--size must be an integer of at least 1"),
        (("--size", 17), "c.png has (W, H) = (31, 16), a tile has (17, 17)"),
        (("--out", "scans/tiles"), "is in the folder of the images"),
        (("--out", "mine"), "holds something else (no tiles.json"),
        (("--regions", "no.json"), "--regions: there is no file no.json"),
        (("--regions", "mine/a.txt"), "--regions: mine/a.txt is no .json"),
        (("--tile-tags", "no.csv"), "there is no table no.csv"),
        (("--tile-tags", "tile.csv"), "does it mean c_y00000_x000"),
        (("--image-tags", "image.csv"), "image.csv:2: d.png"),
        (("--image-tags", "twice.csv"), "image 'c.png' is also at twice.csv:2"),
        (("--image-tags", "nan.csv"), "'nan' (of 1 images) is what programs write"),
        (("--image-tags", "ok.csv", "--classes", "cat"), "unknown class ['boat']"),
        (("--inherit",), "--inherit: name the tags of the images"),
        (("--min-pixels", 2), "--min-pixels is for --regions"),
        (("--stitch", "mine", "--image-tags", "ok.csv"), "--stitch takes no tags"),
    ],
)
def test_faults(change, text, scans, call_main, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/a.txt").write_text("mine")
    for name, row in (
        ("tile", "c_y00000_x00001.png,boat"),
        ("image", "d.png,boat"),
        ("twice", "c.png,boat\n./c.png,train"),
        ("nan", "c.png,nan"),
        ("ok", "c.png,boat"),
    ):
        (tmp_path / f"{name}.csv").write_text(f"image,labels\n{row}\n")
    assert text in call_main(*CUT, *change, fails=True)
    assert not (tmp_path / "tiles").exists()
    assert [*(tmp_path / "mine").iterdir()] == [tmp_path / "mine/a.txt"]


def test_faulty_images(scans, call_main, tmp_path):
    assert "no folder nowhere" in call_main(TOOL, "nowhere", *CUT[2:], fails=True)
    (scans / "d.png").write_bytes(b"no image")
    text = call_main(*CUT, fails=True)
    assert "1 of 3 images cannot be cut" in text
    assert "d.png cannot be read: not an image that Pillow reads" in text
    (scans / "d.png").unlink()
    damaged = scans / "d.jpg"
    Image.open(scans / "c.png").save(damaged)
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) * 3 // 4])
    assert "d.jpg cannot be read: image file is trunc" in call_main(*CUT, fails=True)
    # It goes on when the image is mended.
    damaged.write_bytes(content)
    assert "23 written, 3 kept" in call_main(*CUT)
    Image.new("RGB", (31, 16)).save(scans / "c.jpg")
    text = call_main(*CUT[:-1], "new", fails=True)
    assert "c.png" in text
    assert "rename one if their suffixes differ" in text
    (scans / "c.jpg").unlink()
    text = call_main(*CUT, "--size", 8, fails=True)
    assert "was made with another size (16 instead of 8)" in text
    damaged.unlink()
    assert "has tiles of d.jpg, too, which is gone" in call_main(*CUT, fails=True)


def test_regions_that_cannot_be_drawn(scans, call_main, tmp_path):
    sizes = {"c.png": (16, 31)}
    far = dict(category_id=1, segmentation=[[90, 90, 99, 90, 99, 99]])
    path = coco(tmp_path, sizes, [far])
    text = call_main(*CUT, "--regions", path, fails=True)
    assert "annotations[0] (id 1): a polygon lies outside the image" in text
    path = coco(tmp_path, {"c.png": (31, 16)}, [])
    assert "says (H, W) = (31, 16)" in call_main(*CUT, "--regions", path, fails=True)
    path = coco(tmp_path, {"d.png": (16, 31)}, [])
    assert "there is no image d.png" in call_main(*CUT, "--regions", path, fails=True)
    thin = dict(category_id=1, segmentation=[[3, 3, 3, 4, 3, 5]])
    path = coco(tmp_path, sizes, [thin])
    text = call_main(*CUT, "--regions", path)
    assert "1 regions cover no pixel" in text


# -- masks of tiles ---------------------------------------------------------
@pytest.fixture
def pseudo(scans, call_main, tmp_path):
    """Tiles of c.png: a tagged one, an unknown one, one that shows no class; masks."""
    tags = tmp_path / "seen.csv"
    tags.write_text("image,labels\nc_y00000_x00000,train\nc_y00000_x00015,\n")
    call_main(*CUT, "--tile-tags", tags)
    name = "pseudo/labels/images/c_y00000_x00000.png"
    save_label_png(np.full((16, 16), 1, np.uint8), tmp_path / name)
    manifest = dict(format="mmwood pseudo labels 1", classes=["train"], complete=True)
    write_json(tmp_path / "pseudo/manifest.json", manifest)
    return tmp_path / "pseudo"


STITCH = (TOOL, "tiles", "--stitch", "pseudo", "--out", "whole")


def test_tiles_without_masks(pseudo, call_main, tmp_path):
    save_label_png(np.ones((16, 16), np.uint8), pseudo / "labels/other.png")
    text = call_main(*STITCH)
    assert "1 tiles that show no class have no mask" in text
    assert "1 unknown tiles" in text
    assert "1 label maps are of no tile" in text
    assert "1 images have no tile that was written" in text
    expected = np.zeros((16, 31), np.uint8)
    # Centres are at columns 8, 19 and 23; the first two are equally near to pixel 13.
    expected[:, :14] = 1
    expected[:, 14:21] = 255
    found = read_label_png(tmp_path / "whole/labels/c.png")
    np.testing.assert_array_equal(found, expected)
    manifest = read_json(tmp_path / "whole/manifest.json")
    assert manifest["classes"] == ["train"]
    assert manifest["complete"]
    assert [*files_by_id(tmp_path / "whole/labels")] == ["c"]
    # Whoever reads label folders reads this one.
    call_main(
        *("dataset_converters/masks_to_annotations.py", "whole", "--images", "scans"),
        *("--format", "cvat", "--out", "annotations"),
    )
    assert "0 written, 1 kept" in call_main(*STITCH)


def test_masks_of_smaller_copies(pseudo, call_main, tmp_path):
    small = np.arange(64, dtype=np.uint8).reshape(8, 8)
    save_label_png(small, pseudo / "labels/images/c_y00000_x00000.png")
    assert "1 masks are resized" in call_main(*STITCH)
    found = read_label_png(tmp_path / "whole/labels/c.png")
    expected = [[small[y // 2, x // 2] for x in range(13)] for y in range(16)]
    np.testing.assert_array_equal(found[:, :13], expected)
    text = call_main(TOOL, "tiles", "--stitch", "pseudo/labels", "--out", "whole")
    assert "0 written, 1 kept" in text


def test_faulty_masks(pseudo, call_main, tmp_path):
    path = pseudo / "labels/images/c_y00000_x00000.png"
    content = path.read_bytes()
    save_label_png(np.ones((16, 15), np.uint8), path)
    assert "has (W, H) = (15, 16), and is no square" in call_main(*STITCH, fails=True)
    path.unlink()
    assert "holds no mask of a tile, such as" in call_main(*STITCH, fails=True)
    path.with_name("c_y00000_x00015.png").write_bytes(content)
    text = call_main(*STITCH, fails=True)
    assert "images/c_y00000_x00000.png has no mask" in text
    path.write_bytes(content)
    path.with_name("c_y00000_x00015.png").unlink()
    manifest = read_json(pseudo / "manifest.json")
    # Label 0 of a network need not be the background.
    write_json(pseudo / "manifest.json", dict(manifest, format="mmwood predictions 1"))
    text = call_main(*STITCH, fails=True)
    assert "images/c_y00000_x00015.png has no mask" in text
    write_json(pseudo / "manifest.json", dict(manifest, complete=False))
    assert "pseudo is not complete" in call_main(*STITCH, fails=True)
    write_json(pseudo / "manifest.json", dict(manifest, format="other"))
    assert "is of 'other', not" in call_main(*STITCH, fails=True)
    text = call_main(TOOL, "scans", "--stitch", "pseudo", "--out", "whole", fails=True)
    assert "scans holds no tiles.json" in text
    text = call_main(TOOL, "tiles", "--stitch", "no", "--out", "whole", fails=True)
    assert "--stitch: there is no folder no" in text
    assert not (tmp_path / "whole").exists()
    write_json(pseudo / "manifest.json", manifest)
    call_main(*STITCH)
    save_label_png(np.ones((16, 31), np.uint8), tmp_path / "whole/labels/c.png")
    assert "holds something else" in call_main(*STITCH, fails=True)
    call_main(*STITCH, "--overwrite")
    text = call_main(TOOL, "tiles", "--stitch", "pseudo", "--out", "scans", fails=True)
    assert "they are not mmwood's" in text


def test_names_of_tiles():
    image = BigImage("a/b.c.tif", (20, 20), 16, 0)
    assert [tile.name for tile in image.tiles] == [
        "a/b.c_y00000_x00000",
        "a/b.c_y00000_x00004",
        "a/b.c_y00004_x00000",
        "a/b.c_y00004_x00004",
    ]
