"""What a person may get wrong: one line says it, and nothing is changed or written."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mmwood.own_images.plan import plan_own_images
from mmwood.own_images.prepare import prepare
from mmwood.own_images.source import read_own_images

TOOL = "run_pipeline.py"
OWN_IMAGES = "configs/pipelines/own_images.py"
CONFIGS = Path(__file__).parents[2] / "configs"
Change = Callable[[Path], object]


def put(name: str, content: str | bytes) -> Change:
    """Write a file, named from the folder of the images."""

    def change(folder: Path) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return change


def tags(*rows: str, header: str = "image,labels", encoding: str = "utf-8") -> Change:
    text = "\n".join([header, *rows]) + "\n"
    return put("tags.csv", text.encode(encoding))


def image(name: str, mode: str = "RGB", size: tuple[int, int] = (60, 48)) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new(mode, size, 1).save(folder / name)

    return change


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def cut(name: str, part: float) -> Change:
    def change(folder: Path) -> None:
        size = (folder / name).stat().st_size
        os.truncate(folder / name, int(part * size))

    return change


def label_studio(*results: dict, **task: object) -> Change:
    """An export beside the folder, of one image."""
    task = dict(id=1, data=dict(image="a.jpg"), annotations=[dict(result=results)]) | (
        task
    )
    return put("../export.json", json.dumps([task]))


def choice(control: str) -> dict:
    return dict(type="choices", from_name=control, value=dict(choices=["boat"]))


def only(*names: str) -> Change:
    """Keep these images alone."""

    def change(folder: Path) -> None:
        for path in [*folder.rglob("*.*")]:
            if path.name not in (*names, "tags.csv"):
                path.unlink()

    return change


def case(name: str, change: Change | None, options: str, *lines: str):
    """A kind: how the folder is spoilt, what is typed, and how each line begins."""
    return pytest.param(change, options, lines, id=name)


EXPORT = "--tags export.json"
HEADER = r"my_images/tags.csv:1: the header must name each of the columns"
UNREADABLE = "1 of {} images cannot be read; mend them, save them as JPEG"
MISSING = "{} of 2 images are not in my_images, where their paths start:"
QUESTIONABLE = "1 tags are questionable; mend them, or write the names of the classes"

KINDS = [
    # The command.
    case("option", None, "--mask masks", "--masks: there is no folder masks"),
    case(
        "no corrected masks",
        None,
        "--corrected my_images/walks",
        "--corrected: my_images/walks holds no mask of a tagged image, such as",
    ),
    case(
        "corrected masks where stages write",
        put("../out/masks_wood/a.png", b""),
        "--work-dir out --corrected out/masks_wood",
        "--corrected: out/masks_wood lies in the work dir, .*: move a person's work",
    ),
    case("no option", None, "--foo", "unrecognized arguments: --foo"),
    case("two folders", None, "more", "unrecognized arguments: more"),
    case("no data", None, OWN_IMAGES, f"{OWN_IMAGES}: inputs.source names nothing"),
    case(
        "options without data",
        None,
        f"{OWN_IMAGES} --masks masks",
        "--masks needs --data FOLDER",
    ),
    case(
        "other pipeline",
        None,
        "configs/pipelines/demo.py --data my_images",
        "--data: configs/pipelines/demo.py plans nothing; .*own_images.py does",
    ),
    case(
        "untagged",
        None,
        "--untagged used",
        r"argument --untagged: invalid choice: 'used' \(choose from",
    ),
    case(
        "backbone",
        None,
        "--backbone resnet5",
        "--backbone: there is no 'resnet5'; there are .* and timm:NAME",
    ),
    case(
        "timm model",
        None,
        "--backbone timm:resnet18x",
        "--backbone: timm has no model 'resnet18x'; it has resnet18",
    ),
    case(
        "timm transformer",
        None,
        "--backbone timm:vit_tiny_patch16_224",
        "--backbone timm:vit_tiny_patch16_224: it takes no pictures of any size .*: "
        "take a convolutional network, such as timm:efficientnet_b0",
    ),
    # The folder and the work dir.
    case("no folder", None, "--data none", "--data: there is no folder none"),
    case(
        "file for a folder",
        None,
        "--data my_images/tags.csv",
        "--data: my_images/tags.csv is a file: name the folder of the images, and",
    ),
    case(
        "braces",
        lambda folder: folder.rename(folder.parent / "my{x}"),
        "--data my{x}",
        r".*/work_dirs/my\{x\}: a name in braces is a reference in configs: rename it",
    ),
    case(
        "work dir inside",
        None,
        "--work-dir my_images/work",
        "--work-dir: .* lies in --data .*my_images, which is only read: name a folder",
    ),
    case("work dir itself", None, "--work-dir my_images", "--work-dir: .* lies in"),
    case(
        "work dir around the copy",
        lambda folder: folder.rename(folder.parent / "data"),
        "--data data --work-dir .",
        "--data: .* lies where the working copy goes",
    ),
    case(
        "file for a work dir",
        put("../file", ""),
        "--work-dir file/work",
        "--work-dir: .*/file is a file: name a folder",
    ),
    case(
        "work dir of other images",
        both(
            put("../data/prepared.json", "{}"),
            put("../configs/plan.json", json.dumps(dict(data="/"))),
        ),
        "--work-dir .",
        "--work-dir: .* has the results of /: name another folder",
    ),
    # The table.
    case(
        "no table",
        lambda folder: (folder / "tags.csv").unlink(),
        "",
        "--data: my_images holds no tags.csv: write one with the columns",
    ),
    case("no such table", None, "--tags no.csv", "--tags: there is no file no.csv"),
    case("empty table", put("tags.csv", ""), "", HEADER),
    case("no row", tags(), "", "my_images/tags.csv: lists no image: write a row"),
    case(
        "no header",
        put("tags.csv", "a.jpg,boat\n"),
        "",
        rf"{HEADER}.*\['a.jpg'",
    ),
    case("other columns", tags(header="file,species"), "", f"{HEADER}.*lacks"),
    case(
        "labels in columns",
        tags("a.jpg,boat,train"),
        "",
        "my_images/tags.csv:2: expected 2 fields .* by semicolons",
    ),
    case(
        "labels at semicolons",
        tags("a.jpg;boat;train", header="image;labels"),
        "",
        "my_images/tags.csv:2: expected 2 fields .* by semicolons, in quotation marks",
    ),
    case(
        "quotation mark",
        tags('"a.jpg,boat'),
        "",
        "my_images/tags.csv:2: .*; a field that begins with a quotation mark must",
    ),
    case(
        "latin-1",
        tags("a.jpg,Bäume", encoding="latin-1"),
        "",
        "my_images/tags.csv:2: is not utf-8: save it as UTF-8",
    ),
    case(
        "workbook",
        put("tags.csv", b"PK\3\4"),
        "",
        "my_images/tags.csv: is an Excel workbook or an archive, not text: save",
    ),
    # Names of images.
    case(
        "missing image",
        tags("a.jpg,boat", "x.jpg,train"),
        "",
        MISSING.format(1),
        "  my_images/tags.csv:3: x.jpg$",
    ),
    case(
        "letter case, no suffix",
        tags("A.JPG,boat", "c,train"),
        "",
        MISSING.format(2),
        r"  my_images/tags.csv:2: A.JPG \(there is a.jpg\)",
        r"  my_images/tags.csv:3: c \(there is walks/c.tif\)",
    ),
    case(
        "paths of Windows, outside",
        tags(r"C:\me\b.png,boat", "../a.jpg,boat"),
        "",
        MISSING.format(2),
        r"  my_images/tags.csv:2: C:\\me\\b.png \(there is b.png\)",
        r"  my_images/tags.csv:3: ../a.jpg \(there is a.jpg\)",
    ),
    case(
        "two names of an image",
        tags("a.jpg,boat", "./a.jpg,train"),
        "",
        "my_images/tags.csv:3: image 'a.jpg' was listed before, .* list it once",
    ),
    case(
        "two suffixes",
        both(image("a.png"), tags("a.jpg,boat", "a.png,train")),
        "",
        "my_images/tags.csv:3: image 'a.png' was listed before, as 'a.jpg' at .*: list "
        "it once, or rename one if their suffixes differ",
    ),
    # Classes.
    case(
        "no tag",
        tags("a.jpg,", "b.png,"),
        "",
        "no image has a tag: write what each shows beside it, from .*:2 on",
    ),
    case(
        "one class alone",
        both(only("a.jpg", "b.png"), tags("a.jpg,boat", "b.png,boat")),
        "",
        "my_images/tags.csv: all tagged images have the one tag 'boat', .* Add images",
    ),
    case(
        "one class, the others left out",
        tags("a.jpg,boat", "b.png,"),
        "--untagged leave-out",
        "my_images/tags.csv: .* 'boat', and with --untagged leave-out there is none",
    ),
    case(
        "background",
        tags("a.jpg,Background", "b.png,boat"),
        "",
        r"classes: \['Background', 'boat'\] name the background, .*: leave it out",
    ),
    case(
        "two spellings",
        tags("a.jpg,Boat", "b.png,boat "),
        "",
        f"{QUESTIONABLE} into my_images/classes.txt, one a line:",
        "  my_images/tags.csv:3: the tag 'boat' .* is nearly that of .*:2, 'Boat'",
    ),
    case(
        "comma",
        tags('a.jpg,"boat, train"'),
        "",
        QUESTIONABLE,
        "  my_images/tags.csv:2: .* looks like several names: .* separated by ';'",
    ),
    case(
        "nan",
        tags("a.jpg,boat", "b.png,nan"),
        "",
        QUESTIONABLE,
        "  my_images/tags.csv:3: .* into an empty field: leave the field empty",
    ),
    case(
        "braces in a class",
        tags("a.jpg,{data}", "b.png,boat"),
        "",
        r"\{data\}: a name in braces is a reference in configs: rename it",
    ),
    case(
        "300 classes",
        tags("a.jpg," + ";".join(map(str, range(300)))),
        "",
        "my_images/tags.csv: names 300 classes, a mask holds 254: join some",
    ),
    case(
        "classes.txt lacks one",
        put("classes.txt", "boat\n"),
        "",
        r"my_images/tags.csv:3: image 'b.png' has the unknown class \['train'\]; "
        ".* Mend it, or write the names of the classes into my_images/classes.txt",
    ),
    case(
        "classes.txt has one twice",
        put("classes.txt", "boat\ntrain\nboat\n"),
        "",
        "my_images/classes.txt: a name occurs twice in .*: list it once",
    ),
    # Images.
    case(
        "cut off",
        cut("a.jpg", 0.5),
        "",
        UNREADABLE.format(4),
        "  image: my_images/a.jpg: [^:]*[Tt]runcated",
    ),
    case(
        "empty file",
        put("empty 1.jpg", ""),
        "",
        UNREADABLE.format(2),
        "  image: my_images/empty 1.jpg: not an image that Pillow reads",
    ),
    case(
        "HEIC",
        both(put("a.heic", b"\0\0\0\x18ftypheic"), tags("a.heic,boat", "b.png,train")),
        "",
        UNREADABLE.format(2),
        "  image: my_images/a.heic: not an image that Pillow reads",
    ),
    case(
        "link to itself",
        lambda folder: (folder / "x.jpg").symlink_to("x.jpg"),
        "",
        UNREADABLE.format(3),
        "  image: my_images/x.jpg: Too many levels of symbolic links",
    ),
    # Masks and candidates.
    case("no masks", None, "--masks none", "--masks: there is no folder none"),
    case(
        "masks of others",
        image("../masks/other.png", "L"),
        "--masks masks",
        "--masks: masks holds no mask of a tagged image, such as masks/a.png",
    ),
    case(
        "no candidates", None, "--candidates none", "--candidates: there is no folder"
    ),
    case(
        "no image among candidates",
        put("../candidates/a.txt", ""),
        "--candidates candidates",
        r"--candidates: candidates holds no image \(.jpg",
    ),
    case(
        "tagged candidates",
        None,
        "--candidates my_images/walks",
        "--candidates: my_images/walks holds my_images/walks/c.tif, which has a tag",
    ),
    # Annotation tools.
    case(
        "no export", put("../export.json", "{}"), EXPORT, "export.json is not an export"
    ),
    case("no JSON", put("../export.json", "["), EXPORT, "export.json:1: not JSON"),
    case(
        "boxes of Label Studio",
        label_studio(dict(type="rectanglelabels", from_name="label", value={})),
        EXPORT,
        r"export.json has no Choices, it has \['rectanglelabels'\]: classify",
    ),
    case(
        "several Choices",
        label_studio(choice("kind"), choice("weather")),
        EXPORT,
        r"export.json has several Choices: .* with --control of tools/data",
    ),
    case(
        "tasks without annotations",
        label_studio(annotations=["boat"]),
        EXPORT,
        "export.json: task 1: lacks the list of annotations: export the project",
    ),
    case(
        "archive of CVAT",
        put("../export.xml", b"PK\3\4"),
        "--tags export.xml",
        "export.xml: is an Excel workbook or an archive, .* unpack the archive",
    ),
    case(
        "boxes of CVAT",
        put(
            "../export.xml",
            '<annotations><image id="0" name="a.jpg"><box label="boat"/></image>'
            "</annotations>",
        ),
        "--tags export.xml",
        "export.xml: no image has a tag, they have 1 shapes: tag whole images",
    ),
]


@pytest.mark.parametrize(("change", "options", "lines"), KINDS)
def test_wrong_input(change, options, lines, folder, call_main, tmp_path, hashes):
    if "timm" in options:
        pytest.importorskip("timm")
    if change is not None:
        change(folder)
    before = hashes(tmp_path, folders=True)
    if not options.startswith("configs/"):
        options = f"{OWN_IMAGES} --data my_images {options}"
    text = call_main(TOOL, *options.split(), fails=True)
    # Before it, argparse says how the tool is used.
    message = text.rpartition(f"{TOOL}: error: ")[2].splitlines()
    # That a config is not here is said once a process.
    found = [line for line in message if "taken from mmwood" not in line]
    assert len(found) == len(lines), text
    for line, pattern in zip(found, lines):
        assert re.match(pattern, line), line
    assert hashes(tmp_path, folders=True) == before


@pytest.mark.parametrize(
    "change",
    [
        tags("a.jpg,Öl", "b.png,sail boat", encoding="utf-8-sig"),
        tags("a.jpg,Öl\r", "b.png,sail boat\r", header="image,labels\r"),
        tags("a.jpg;Öl", "b.png;sail boat", header="image;labels"),
        tags("a.jpg\tÖl", "b.png\tsail boat", header="image\tlabels"),
        tags("b.png,Öl", r"walks\c.tif,sail boat"),
        lambda folder: tags(f"{folder}/a.jpg,Öl", f"{folder}/b.png,sail boat")(folder),
        # One row for an image and a label.
        tags("a.jpg,Öl", "a.jpg,sail boat"),
    ],
)
def test_tables_that_are_meant(change, folder):
    change(folder)
    own = read_own_images(folder)
    assert own.classes == ["sail boat", "Öl"]
    joined = len(own.tagged) == 1
    assert any("rows whose image has one already" in note for note in own.notes) == (
        joined
    )
    few = "classes of a single image, too few to learn from: sail boat, Öl"
    assert few in own.notes


def test_images_of_any_kind_are_copied(folder, tmp_path):
    image("a.jpg", "CMYK")(folder)
    image("b.png", "RGBA")(folder)
    image("walks/d.JPG", size=(1, 1))(folder)
    deep = np.full((48, 60), 50000, np.uint16)
    Image.fromarray(deep).save(folder / "empty 2.png")
    frames = [Image.new("RGB", (60, 48), (shade, 0, 0)) for shade in (0, 90)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:])
    (folder / "circle").symlink_to(folder)
    tags("a.jpg,boat", "b.png,train", "walks/d.JPG,boat", "moving.gif,train")(folder)
    own = read_own_images(folder)
    counts = prepare(own, tmp_path / "data", 40)
    assert (counts["images"], counts["ood"]) == (4, 3)
    with Image.open(tmp_path / "data/ood/empty 2.png.png") as copy:
        assert copy.getpixel((0, 0)) == (195, 195, 195)


def test_a_work_dir_is_of_the_images_that_were_copied(folder, tmp_path):
    work, other = tmp_path / "work", tmp_path / "other"
    shutil.copytree(folder, other)
    # A dry run copies nothing.
    for data in (folder, other):
        plan_own_images(CONFIGS, data, work)
    (work / "data").mkdir()
    with pytest.raises(ValueError, match=r"work has the results of .*other: name an"):
        plan_own_images(CONFIGS, folder, work)
    # What is gone was moved.
    shutil.rmtree(other)
    plan_own_images(CONFIGS, folder, work)


def test_what_was_ended_by_a_fault_goes_on_when_it_is_mended(folder, tmp_path, hashes):
    good = tmp_path / "good"
    shutil.copytree(folder, good)
    image("../masks/a.png", "L")(folder)
    cut("walks/d.JPG", 0.9)(folder)
    image("../masks/walks/c.png")(folder)
    masks = tmp_path / "masks"
    with pytest.raises(ValueError, match="2 of 6 images cannot be used; ") as error:
        prepare(read_own_images(folder, masks=masks), tmp_path / "data", 40)
    text = str(error.value)
    assert "my_images/walks/d.JPG: " in text
    assert "c.png is no mask: it has 3 channels (RGB) instead of one; " in text
    shutil.copy(good / "walks/d.JPG", folder / "walks")
    image("../masks/walks/c.png", "L")(folder)
    for data, root in (("data", folder), ("whole", good)):
        prepare(read_own_images(root, masks=masks), tmp_path / data, 40)
    assert hashes(tmp_path / "data") == hashes(tmp_path / "whole")
