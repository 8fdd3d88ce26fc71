"""The report against the files it is made of, and in a real browser."""

import base64
import io
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mmwood.evaluation import IAIoUMetric, SeedMetric
from mmwood.fileio.candidates import Candidate, write_manifest
from mmwood.fileio.files import write_json
from mmwood.fileio.label_folder import ScoreMaps, save_score_maps
from mmwood.fileio.labels import save_label_png
from mmwood.functional.confusion import image_miou
from mmwood.report.page import write_report
from mmwood.report.pictures import PICTURE, figure_source
from mmwood.report.spec import read_spec

TOOL = "analysis_tools/report.py"
CLASSES = ("disc", "square", "stripe")
BRANCHES = ("without OoD images", "with OoD images")
NETWORK = "cross-entropy (task A)"
#: Labels, how noisy their maps are, and their threshold.
KINDS = (("seeds", 0.9, 0.15), ("pseudo masks", 0.6, 0.3))
#: Image -> its classes; the last two are shown to no classifier.
SHOWN = {
    "a": [0, 2],
    "b": [1],
    "c": [0],
    "d": [2],
    "e": [1, 2],
    "v1": [1],
    "v2": [0, 1],
}
TRAIN = [name for name in SHOWN if not name.startswith("v")]
HEIGHT, WIDTH = 30, 40


def make_images(root: Path) -> dict[str, np.ndarray]:
    """Images and masks of :data:`SHOWN`; gives the masks."""
    rng = np.random.default_rng(0)
    masks = {}
    (root / "images").mkdir()
    for name, classes in SHOWN.items():
        picture = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / f"images/{name}.jpg")
        mask = np.zeros((HEIGHT, WIDTH), np.uint8)
        for place, number in enumerate(classes):
            mask[4:20, 3 + 18 * place : 17 + 18 * place] = number + 1
        mask[3] = 255
        save_label_png(mask, root / f"masks/{name}.png")
        masks[name] = mask
    return masks


def make_labels(folder: Path, masks: dict, noise: float, threshold: float) -> None:
    """Maps, labels and their curve, as a test of a classifier leaves them."""
    rng = np.random.default_rng(1)
    metric = SeedMetric(threshold=threshold, out_dir=str(folder))
    metric.dataset_meta = dict(classes=CLASSES)
    for name in TRAIN:
        maps = np.stack([masks[name] == c + 1 for c in SHOWN[name]]).astype(np.float32)
        maps = (0.25 * maps + noise * rng.random(maps.shape)).clip(0, 1)
        maps = maps.astype(np.float32)
        stored = ScoreMaps(
            classes=np.array(SHOWN[name]),
            scores=np.isin(np.arange(3), SHOWN[name]).astype(np.float32),
            strided=maps[:, ::4, ::4].astype(np.float16),
        )
        save_score_maps(folder / f"pseudo_labels/scores/{name}.npz", stored)
        label = np.array([c + 1 for c in SHOWN[name]], np.uint8)[maps.argmax(axis=0)]
        label[maps.max(axis=0) <= threshold] = 0
        save_label_png(label, folder / f"pseudo_labels/labels/{name}.png")
        sample = dict(
            img_path=name,
            cam=torch.from_numpy(maps),
            cam_classes=torch.tensor(SHOWN[name]),
            gt_sem_seg=dict(data=torch.from_numpy(masks[name])[None]),
        )
        metric.process({}, [sample])
    metric.evaluate(len(TRAIN))
    manifest = dict(classes=list(CLASSES), complete=True)
    write_json(folder / "pseudo_labels/manifest.json", manifest)


def make_network(folder: Path, masks: dict, wrong: float) -> None:
    """Predictions of the validation images and their metrics."""
    rng = np.random.default_rng(2)
    metric = IAIoUMetric(out=str(folder / "ia_iou.json"))
    metric.dataset_meta = dict(classes=("background", *CLASSES))
    for name in set(SHOWN) - set(TRAIN):
        label = np.where(masks[name] == 255, 0, masks[name]).astype(np.uint8)
        label[rng.random(label.shape) < wrong] = 3
        save_label_png(label, folder / f"predictions/{name}.png")
        maps = (
            dict(data=torch.from_numpy(part.astype(np.int64))[None])
            for part in (label, masks[name])
        )
        keys = ("pred_sem_seg", "gt_sem_seg")
        metric.process({}, [dict(zip(keys, maps), img_path=name)])
    scores = metric.evaluate(2)
    write_json(folder / "metrics.json", dict(mIoU=61.234 + wrong, **scores))


def make_record(path: Path, stage: str, **fields: object) -> str:
    record = dict(
        stage=stage,
        kind="train",
        title=f"Train {stage}",
        command=["tools/train.py", "configs/x.py", "--work-dir", "with space"],
        config="configs/x.py",
        seed=3,
        versions={"python": "3.11", "torch": "2.1"},
        machine="2 x CPU, 24 GiB, no GPU",
        inputs={"data": "d" * 64},
        outputs=dict(files=1803, bytes=12_345_678, sha256=stage[0] * 64),
        checkpoint="work_dirs/demo/wood/epoch_10.pth",
        started="2026-11-21T22:01:03+00:00",
        seconds=51.3,
        peak_memory_mb=1234.5,
        peak_gpu_memory_mb=None,
        processes=1,
    )
    write_json(path, {**record, **fields})
    return str(path)


def make_mining(root: Path) -> None:
    write_json(
        root / "ood.json",
        dict(
            threshold=0.5,
            candidates=2000,
            top=7,
            max_per_image=None,
            unreadable=4,
            images=1234,
            rows=1300,
            histogram=[1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
            per_class=[
                dict(name=name, above=700 + n, rows=500 + n, highest=n and 0.9)
                for n, name in enumerate(CLASSES)
            ],
        ),
    )
    states = ("kept", "kept", "rejected", "unseen", "kept")
    images = ("1", "2", "2", "3", "4")
    classes = ("disc", "disc", "square", "disc", "square")
    write_manifest(
        root / "reviewed.csv",
        (
            Candidate(f"{image}.jpg", name, 0.9, 1, state, "0" * 64)
            for image, name, state in zip(images, classes, states)
        ),
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A folder with files for a report in which nothing is missing, and its spec."""
    root = tmp_path_factory.mktemp("made")
    masks = make_images(root)
    branches = []
    for number, name in enumerate(BRANCHES):
        labels = []
        for kind, noise, threshold in KINDS:
            folder = root / f"{kind}_{number}"
            make_labels(folder, masks, noise - 0.3 * number, threshold)
            labels.append(
                dict(
                    name=kind,
                    folder=str(folder / "pseudo_labels"),
                    curve=str(folder / "seed_curve.json"),
                )
            )
        scores = root / f"crf_{number}.json"
        values = dict(precision=60.1, recall=70.2, F1=65, open=4.5, images=5)
        write_json(scores, {"any": dict(values, mIoU=50.123 + number)})
        labels.insert(1, dict(name="seeds with CRF", scores=str(scores)))
        folder = root / f"net_{number}"
        make_network(folder, masks, 0.5 - 0.4 * number)
        network = dict(name=NETWORK, folder=str(folder))
        network["predictions"] = str(folder / "predictions")
        branches.append(dict(name=name, labels=labels, networks=[network]))
    make_mining(root)
    Image.new("RGB", (300, 200), "red").save(root / "figure.png")
    later = dict(started="2026-11-21T22:03:03+00:00", seconds=60, peak_memory_mb=2000)
    content = dict(
        title="Drawn shapes",
        text="Five training images and two to validate.",
        data=dict(
            images=str(root / "images"),
            suffix=".jpg",
            masks=str(root / "masks"),
            classes=list(CLASSES),
        ),
        branches=branches,
        mining=str(root / "ood.json"),
        review=str(root / "reviewed.csv"),
        figures=[dict(title="Red", file=str(root / "figure.png"), text="Only red.")],
        records=[
            make_record(root / "records/wood.json", "wood", **later),
            make_record(root / "records/classifier.json", "classifier"),
        ],
    )
    write_json(root / "spec.json", content)
    return root


@pytest.fixture
def spec(made, tmp_path) -> dict:
    """The spec of a copy of :func:`made` in the test's folder; paths are absolute."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    text = (made / "spec.json").read_text()
    return json.loads(text.replace(str(made), str(tmp_path)))


class Page(HTMLParser):
    """Texts and tables of a page, as a reader sees them.

    Attributes:
        tables: Rows of cells of every table.
        text: All text between tags but style.
        pictures: Attributes of every img.
        ids: Of sections.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tables, self.pictures, self.ids, self.parts = [], [], [], []
        self.inside = []
        self.feed(self.source)
        self.text = " ".join(" ".join(self.parts).split())

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            self.pictures.append(attrs)
        if tag in ("img", "meta"):
            return
        self.inside.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "section":
            self.ids.append(attrs["id"])

    def handle_endtag(self, tag):
        # Every tag is closed, and in its order.
        assert self.inside.pop() == tag

    def handle_data(self, data):
        if "style" in self.inside:
            return
        self.parts.append(data)
        if {"td", "th"} & set(self.inside):
            self.tables[-1][-1][-1] += " ".join(data.split()) + " "

    def row(self, table: int, *start: str) -> list[str]:
        """The first row whose cells begin so."""
        for row in self.tables[table]:
            cells = [cell.strip() for cell in row]
            if cells[: len(start)] == list(start):
                return cells
        raise AssertionError(f"{start} is not in {self.tables[table]}")

    def stages(self, *names: str) -> dict[str, dict[str, list[str]]]:
        """Values by term of every stage of the first table."""
        found, block = {}, {}
        for row in self.tables[0][1:]:
            cells = [cell.strip() for cell in row]
            if len(cells) > 1:
                block[cells[0]] = cells[1:]
            elif stages := [n for n in names if cells[0].startswith(f"{n} ")]:
                block = found[max(stages, key=len)] = {}
        return found


def report(spec: dict, folder: Path) -> Page:
    write_json(folder / "spec.json", spec)
    return Page(write_report(folder / "spec.json", folder / "out"))


def read(folder: str, name: str) -> np.ndarray:
    return np.array(Image.open(Path(folder, f"{name}.png")))


@pytest.mark.slow
def test_the_numbers_are_those_of_the_files(spec, tmp_path):
    page = report(spec, tmp_path)
    assert page.ids == [
        *("result", "examples", "extremes", "thresholds", "classes", "sizes"),
        *("figures", "mining", "provenance"),
    ]
    blocks = page.stages("seeds", "seeds with CRF", "pseudo masks", NETWORK)
    for place, name in ((0, "seeds"), (2, "pseudo masks")):
        block = blocks[name]
        curves = [
            json.loads(Path(b["labels"][place]["curve"]).read_text())
            for b in spec["branches"]
        ]
        for term in ("mIoU", "precision", "recall"):
            first, second = (curve["configured"][term] for curve in curves)
            found = block[term]
            assert found[0].split()[0] == f"{first:.1f}"
            assert found[1].split()[0] == f"{second:.1f}"
            assert found[2] == f"{second - first:+.1f}".replace("-", "−")
        threshold = curves[0]["configured"]["threshold"]
        assert block["mIoU"][0].endswith(f" at {threshold:.2f}")
        for found, curve in zip(block["best mIoU †"], curves):
            best = curve["best"]
            assert found.split() == [
                *(f"{best['mIoU']:.1f}", "†", "at", f"{best['threshold']:.2f}")
            ]
        assert f"{curves[1]['configured']['mIoU']:.1f} with OoD images" in page.text
    assert blocks["seeds with CRF"]["mIoU"] == ["50.1", "51.1", "+1.0"]
    assert blocks["seeds with CRF"]["left open"] == ["4.5", "4.5", "+0.0"]
    networks = [
        json.loads(Path(b["networks"][0]["folder"], "metrics.json").read_text())
        for b in spec["branches"]
    ]
    for term in ("mIoU", "IA-mIoU", "IA_S"):
        expected = [f"{scores[term]:.1f}" for scores in networks]
        assert blocks[NETWORK][term][:2] == expected
    # Nothing is large here: NaN in the file is no number.
    assert "IA_L" not in blocks[NETWORK]


@pytest.mark.slow
def test_false_positives_and_the_upper_bound(spec, tmp_path):
    first, second = (branch["networks"][0] for branch in spec["branches"])
    own = Path(second["folder"], "metrics.json")
    write_json(own, {**json.loads(own.read_text()), "FP_pixels": 1.5, "FP_images": 40})
    write_json(tmp_path / "ood/metrics.json", dict(FP_pixels=4.26, FP_images=30))
    write_json(tmp_path / "upper/metrics.json", dict(mIoU=80.0))
    first["false_positives"] = dict(folder=str(tmp_path / "ood"))
    for network in (first, second):
        network["upper_bound"] = dict(folder=str(tmp_path / "upper"))
    page = report(spec, tmp_path)
    block = page.stages(NETWORK)[NETWORK]
    assert block["FP_pixels"] == ["4.3", "1.5", "−2.8"]
    assert block["FP_images"] == ["30.0", "40.0", "+10.0"]
    # Fewer of them is a gain.
    html = (tmp_path / "out/index.html").read_text()
    assert '<span class="gain">−2.8</span>' in html
    assert '<span class="loss">+10.0</span>' in html
    assert block["mIoU with true masks ‡"][:2] == ["80.0 ‡", "80.0 ‡"]
    ratios = [float(text) for text in block["of that mIoU"][:2]]
    mious = [float(text) for text in block["mIoU"][:2]]
    assert ratios == pytest.approx([value / 0.8 for value in mious], abs=0.15)
    assert "supervised by pixels" in page.text
    assert "‡ marks a network that was trained with the true masks" in page.text

    (tmp_path / "upper/metrics.json").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"\[0\]\.upper_bound\.folder: there is"
    ):
        report(spec, tmp_path)


@pytest.mark.slow
def test_classes_and_sizes(spec, tmp_path):
    page = report(spec, tmp_path)
    curves = [
        json.loads(Path(b["labels"][0]["curve"]).read_text())["class_iou_at_configured"]
        for b in spec["branches"]
    ]
    changes = {name: curves[1][name] - curves[0][name] for name in curves[0]}
    found = [[cell.strip() for cell in row] for row in page.tables[1][1:]]
    assert [row[0] for row in found] == sorted(changes, key=lambda n: -changes[n])
    for name, *values in found:
        assert values[:2] == [f"{curve[name]:.1f}" for curve in curves]
        assert values[2] == f"{changes[name]:+.1f}".replace("-", "−")
    sizes = json.loads(
        Path(spec["branches"][1]["networks"][0]["folder"], "ia_iou.json").read_text()
    )
    row = page.row(4, f"{NETWORK} with OoD images")
    expected = [sizes["iou"][size] for size in ("all", "small", "medium", "large")]
    assert row[1:] == ["–" if v is None else f"{v:.1f}" for v in expected]
    head = page.row(4, "network")
    assert head[2] == f"small IA_S, {sizes['instances']['small']}"
    other = Path(spec["branches"][0]["networks"][0]["folder"], "ia_iou.json")
    write_json(other, dict(sizes, size_limits=[10, 20]))
    assert "do not compare them" in report(spec, tmp_path).text
    assert "do not compare them" not in page.text


@pytest.mark.slow
def test_best_and_worst_images(spec, tmp_path):
    page = report(spec, tmp_path)
    start = page.source.index('id="extremes"')
    part = page.source[start : page.source.index("</section>", start)]
    titles = re.findall(r"<h4>([^<]*)</h4>", part)
    captions = re.findall(r"<figcaption>([^<]*)</figcaption>", part)
    masks = str(tmp_path / "masks")
    expected = []
    shown = []
    for names, folders in (
        (TRAIN, [f"{b['labels'][2]['folder']}/labels" for b in spec["branches"]]),
        (["v1", "v2"], [b["networks"][0]["predictions"] for b in spec["branches"]]),
    ):
        scores = {
            name: [image_miou(read(f, name), read(masks, name), 3) for f in folders]
            for name in names
        }
        order = sorted(names, key=lambda name: scores[name][1])
        count = len(names) // 2
        best, worst = order[::-1][:count], order[:count]
        expected += ["Best", *best, "Worst", *worst]
        shown += [
            caption
            for name in (*best, *worst)
            for caption in (
                "image",
                "truth",
                *(f"{b}: {s:.0f}" for b, s in zip(BRANCHES, scores[name])),
            )
        ]
        for branch, values in zip(BRANCHES, zip(*scores.values())):
            low, middle, high = np.percentile(values, (25, 50, 75))
            text = f"{branch}: half of the images lie between {low:.1f} and {high:.1f}"
            assert f"{text}, the one in the middle has {middle:.1f}" in page.text
    assert titles == expected
    assert captions == shown


@pytest.mark.slow
def test_examples(spec, tmp_path):
    page = report(spec, tmp_path)
    alts = [picture["alt"] for picture in page.pictures]
    # One image for each class that stands alone.
    examples = alts[: alts.index("v1: image")]
    names = dict.fromkeys(alt.split(":")[0] for alt in examples)
    assert list(names) == ["c", "b", "d"]
    assert examples[:8] == [
        *("c: image", "c: truth", "c: map, without OoD images"),
        *("c: seeds, without OoD images", "c: pseudo masks, without OoD images"),
        *("c: map, with OoD images", "c: seeds, with OoD images"),
        "c: pseudo masks, with OoD images",
    ]
    assert all(alts)
    assert f"v1: {NETWORK}, with OoD images" in alts


@pytest.mark.slow
def test_mining_and_review(spec, tmp_path):
    page = report(spec, tmp_path)
    assert "looked at 2,000 candidates" in page.text
    assert "1,234 of them it takes for an object" in page.text
    assert "probability of at least 0.5" in page.text
    assert "Rows of a class at most: 7." in page.text
    assert page.row(5, "square")[1:] == ["701", "501", "0.900"]
    assert page.row(6, "0.9 to 1.0")[1] == "10"
    # Image 2 is kept for one class and rejected for another: it is not usable.
    assert "4 rows were decided about; 2 images are usable" in page.text
    assert page.row(7, "disc")[1:] == ["2", "0", "1", "0 %"]
    assert page.row(7, "square")[1:] == ["1", "1", "0", "50 %"]
    assert page.row(7, "all classes")[1:] == ["3", "1", "1", "25 %"]
    assert "no person has looked" not in page.text
    auto = dict(note="", rejected=1, kept=2)
    write_json(tmp_path / "reviewed.json", dict(auto=[auto]))
    text = report(spec, tmp_path).text
    assert "Rules decided 3 of the rows: no person has looked at those." in text


@pytest.mark.slow
def test_provenance(spec, tmp_path):
    page = report(spec, tmp_path)
    first, second = page.tables[-1][1:]
    # In the order of their start.
    assert [cell.strip() for cell in first] == [
        *("Train classifier classifier", "51 s", "1.23 GB", "12.3 MB", "1,803", "3"),
        *("wood/epoch_10.pth", "c" * 10),
    ]
    assert second[0].startswith("Train wood")
    assert "2 stages took 1.9 min in all; largest memory of a stage 2 GB" in page.text
    assert "24.7 MB on disk" in page.text
    assert "Versions: python 3.11, torch 2.1." in page.text
    command = "python tools/train.py configs/x.py --work-dir 'with space'"
    assert command in page.text
    assert "d" * 64 in page.text
    versions = {"python": "3.12"}
    make_record(tmp_path / "records/wood.json", "wood", versions=versions, seconds=7300)
    page = report(spec, tmp_path)
    assert "python 3.12" in page.tables[-1][2][-1] + page.tables[-1][1][-1]
    assert "2.0 h" in page.text


@pytest.mark.slow
def test_nothing_comes_from_elsewhere(spec, tmp_path):
    page = report(spec, tmp_path)
    assert all(p["src"].startswith("data:image/") for p in page.pictures)
    rest = re.sub(r"data:image/[a-z+]+;base64,[A-Za-z0-9+/=]+", "", page.source)
    assert "://" not in rest
    assert "<script" not in rest
    assert "<link" not in rest
    assert not re.findall(r"url\(|@import", rest)
    assert set(re.findall(r'href="(.)', rest)) == {"#"}
    again = tmp_path / "again"
    write_report(tmp_path / "spec.json", again)
    assert (again / "index.html").read_bytes() == page.source.encode()


ODD = "a <b>&amp; \"q\" 's' ü {{ 7 * 7 }}"


@pytest.mark.slow
def test_odd_names_are_shown_as_they_are(spec, tmp_path):
    for kind in ("images/c.jpg", "masks/c.png"):
        path = tmp_path / kind
        path.rename(path.with_name(f"{ODD}{path.suffix}"))
    for branch in spec["branches"]:
        for number in (0, 2):
            folder = Path(branch["labels"][number]["folder"])
            for path in folder.glob("*/c.*"):
                path.rename(path.with_name(f"{ODD}{path.suffix}"))
        branch["name"] += ODD
        branch["labels"][0]["name"] = ODD
    spec["title"] = spec["text"] = f"<script>alert(1)</script>{ODD}"
    spec["figures"][0]["title"] = ODD
    make_record(tmp_path / "records/wood.json", ODD, command=[ODD], title=ODD)
    spec["data"]["classes"][0] = ODD
    for branch in spec["branches"]:
        for number in (0, 2):
            manifest = Path(branch["labels"][number]["folder"], "manifest.json")
            write_json(manifest, dict(classes=spec["data"]["classes"]))
    page = report(spec, tmp_path)
    assert "<script" not in page.source
    assert "<b>&amp; " not in page.source
    assert page.text.count(f"<script>alert(1)</script>{ODD}") == 3
    assert f"{ODD}: {ODD}" in page.text
    assert f"{ODD}: image" in [picture["alt"] for picture in page.pictures]
    assert "49" not in re.findall(r"ü (\S+)", page.text)


@pytest.mark.slow
def test_what_is_missing_is_said(spec, tmp_path):
    page = report(dict(title="Nothing"), tmp_path)
    assert page.ids == ["result", "missing"]
    start = page.source.index('id="missing"')
    assert page.source.count("<li>", start) == 13
    assert "The labels were not measured" in page.text
    assert "No segmentation network was measured." in page.text
    assert "Examples of training images: the spec has no data." in page.text

    # One's own images: labels without anything to measure them against.
    labels = [dict(name="seeds", folder=spec["branches"][1]["labels"][0]["folder"])]
    own = dict(
        title="Own",
        data=dict(spec["data"], masks=None),
        branches=[dict(name="with OoD images", labels=labels)],
        records=spec["records"],
    )
    page = report(own, tmp_path)
    assert page.ids == ["result", "examples", "provenance", "missing"]
    assert "data.masks names no true masks" in page.text
    assert "fewer than two branches" in page.text
    alts = [picture["alt"] for picture in page.pictures]
    assert "c: map, with OoD images" in alts
    assert "c: truth" not in alts

    # A folder of labels that mmwood did not make, beside a branch without networks.
    shutil.rmtree(Path(labels[0]["folder"], "scores"))
    spec["branches"] = [spec["branches"][0], dict(name="own", labels=labels)]
    page = report(spec, tmp_path)
    assert page.row(0, "mIoU")[2:] == ["–", "–"]
    assert "c: seeds, own" in [picture["alt"] for picture in page.pictures]
    assert "c: map, own" not in [picture["alt"] for picture in page.pictures]


def test_examples_without_maps_are_chosen_by_masks(spec, tmp_path):
    for branch in spec["branches"]:
        for number in (0, 2):
            labels = branch["labels"][number]
            labels["folder"] += "/labels"
    page = report(spec, tmp_path)
    alts = [picture["alt"] for picture in page.pictures]
    assert alts[:2] == ["c: image", "c: truth"]
    assert not any("map," in alt for alt in alts)


@pytest.mark.slow
def test_flat_predictions_of_nested_images(spec, tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / kind / "day").mkdir()
        for path in (tmp_path / kind).glob("v*.*"):
            path.rename(tmp_path / kind / "day" / path.name)
    # And another suffix than the other images'.
    with Image.open(tmp_path / "images/day/v1.jpg") as image:
        image.save(tmp_path / "images/day/v1.png")
    (tmp_path / "images/day/v1.jpg").unlink()
    alts = [picture["alt"] for picture in report(spec, tmp_path).pictures]
    assert {"v1: image", "v1: truth", "v2: image"} <= set(alts)
    (tmp_path / "images/day/v1.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"data\.images: there is no image"):
        report(spec, tmp_path)


def set_field(spec: dict, field: str, value: object) -> None:
    """Change what `a.b[0].c` names."""
    *path, last = re.findall(r"\w+", field)
    for key in path:
        spec = spec[int(key) if key.isdigit() else key]
    spec[int(last) if last.isdigit() else last] = value


@pytest.mark.parametrize(
    "field",
    [
        *("data.images", "data.masks", "mining", "review", "records[1]"),
        *("figures[0].file", "branches[1].labels[0].folder"),
        *("branches[0].labels[2].curve", "branches[1].labels[1].scores"),
        *("branches[0].networks[0].folder", "branches[1].networks[0].predictions"),
    ],
)
def test_absent_files_are_named_with_their_field(spec, tmp_path, field):
    set_field(spec, field, str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError) as error:
        report(spec, tmp_path)
    assert f"spec.json: {field}: there is no" in str(error.value)
    assert "nowhere" in str(error.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("title", "", "title: expected a text"),
        ("titel", "x", "titel: there is no such field"),
        ("branches", {}, None),
        ("branches", "x", "branches: expected a list"),
        ("branches[1].name", BRANCHES[0], "branches: the name"),
        ("branches[0].labels[0].name", "pseudo masks", r"\[0\].labels: the name"),
        ("branches[0].labels[0].colour", 1, r"labels\[0\].colour: there is no such"),
        ("branches[0].labels[0]", dict(name="x"), r"labels\[0\]: expected a folder"),
        ("branches[0].networks[0]", dict(name="x"), r"networks\[0\]: expected a f"),
        ("branches[0].networks[0]", 3, r"networks\[0\]: expected an object"),
        ("data.classes", [], "data.classes: expected 1 to 254 names"),
        ("data.classes", ["x", "x"], "data.classes: the name 'x' is there twice"),
        ("data.classes", ["x", "y", "z"], "holds labels of the classes"),
        ("data.images", None, "data.images: expected a folder"),
        ("mining", 3, "mining: expected the path of a file"),
    ],
)
def test_wrong_fields_are_named(spec, tmp_path, field, value, message):
    set_field(spec, field, value)
    if message is None:
        report(spec, tmp_path)
        return
    with pytest.raises(ValueError, match=message):
        report(spec, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("mining", "mining: .* is no the summary|mining: .*summary"),
        ("records[0]", r"records\[0\]: .* record of a stage"),
        ("branches[0].labels[0].curve", r"labels\[0\].curve: .*seed_curve.json"),
        ("branches[0].labels[1].scores", r"labels\[1\].scores: .*evaluate_labels.py"),
    ],
)
def test_files_of_another_kind_are_refused(spec, tmp_path, field, message):
    write_json(tmp_path / "other.json", {"x": 1, "y": 2})
    set_field(spec, field, str(tmp_path / "other.json"))
    with pytest.raises(ValueError, match=message):
        report(spec, tmp_path)
    (tmp_path / "other.json").write_text("{")
    with pytest.raises(ValueError, match=r"other\.json:1: not JSON"):
        report(spec, tmp_path)


def test_a_network_without_metrics_is_refused(spec, tmp_path):
    Path(spec["branches"][0]["networks"][0]["folder"], "metrics.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"folder: there is no file .*--out"):
        report(spec, tmp_path)


def test_labels_of_another_size_are_refused(spec, tmp_path):
    folder = spec["branches"][0]["labels"][0]["folder"]
    save_label_png(np.zeros((3, 3), np.uint8), Path(folder, "labels/c.png"))
    with pytest.raises(ValueError, match=r"c\.jpg has .* its seeds"):
        report(spec, tmp_path)


@pytest.mark.slow
def test_pictures_are_small(spec, tmp_path):
    # The same image and labels, twenty times as large.
    for folder in (
        *(tmp_path / "images", tmp_path / "masks"),
        *(
            Path(branch["labels"][number]["folder"], "labels")
            for branch in spec["branches"]
            for number in (0, 2)
        ),
    ):
        for path in folder.glob("c.*"):
            with Image.open(path) as image:
                large = image.resize((20 * WIDTH, 20 * HEIGHT), Image.NEAREST)
            large.save(path)
    page = report(spec, tmp_path)
    for picture in page.pictures:
        if picture["alt"].startswith("c: "):
            content = base64.b64decode(picture["src"].split(",")[1])
            with Image.open(io.BytesIO(content)) as image:
                assert image.size == (PICTURE, PICTURE * HEIGHT // WIDTH)
    Image.new("RGB", (3000, 2000), "red").save(tmp_path / "large.png")
    content = base64.b64decode(figure_source(tmp_path / "large.png").split(",")[1])
    with Image.open(io.BytesIO(content)) as image:
        assert 2_400_000 < image.width * image.height <= 2_500_000
    (tmp_path / "no.png").write_text("no picture")
    with pytest.raises(ValueError, match="is no picture"):
        figure_source(tmp_path / "no.png")


def test_paths_from_the_current_folder(spec, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_json("spec.json", dict(title="x", data=dict(images="images", classes=["a"])))
    assert read_spec("spec.json").data.images == Path("images")
    with pytest.raises(FileNotFoundError, match="there is no spec"):
        read_spec("no.json")


@pytest.mark.slow
def test_tool(spec, run_tool, tmp_path):
    write_json(tmp_path / "spec.json", spec)
    text = run_tool(TOOL, "spec.json", "--out", "new/folder")
    assert "report: new/folder/index.html" in text
    assert Path(tmp_path, "new/folder/index.html").is_file()


WIDE = """() => [...document.querySelectorAll('body *')]
    .filter(e => !e.closest('.box') && !e.closest('svg'))
    .filter(e => e.getBoundingClientRect().right > window.innerWidth + 1)
    .map(e => e.tagName + '.' + e.className)"""


def open_page(browser, path: Path, width: int, scheme: str = "light"):
    context = browser.new_context(
        viewport=dict(width=width, height=800), color_scheme=scheme
    )
    page = context.new_page()
    page.wanted, page.said = [], []
    page.on("request", lambda request: page.wanted.append(request.url))
    page.on("console", lambda message: page.said.append(message.text))
    page.goto(path.as_uri())
    return page


@pytest.mark.slow
def test_in_a_browser(spec, browser, tmp_path):
    # Names without a place to break are the worst for a narrow screen.
    spec["title"] = "a_very_long_name_without_any_place_to_break_it_in_two_" * 3
    long = dict(checkpoint="/".join(["x" * 90] * 3), command=["y" * 300])
    make_record(tmp_path / "records/wood.json", "wood", **long)
    write_json(tmp_path / "spec.json", spec)
    path = write_report(tmp_path / "spec.json", tmp_path / "out")
    for width, scheme in ((390, "light"), (390, "dark"), (1280, "light")):
        page = open_page(browser, path, width, scheme)
        size = page.evaluate("document.documentElement.scrollWidth")
        assert size == width
        assert page.evaluate(WIDE) == []
        broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth)"
        assert page.evaluate(f"{broken}.length") == 0
        assert [url for url in page.wanted if not url.startswith("data:")] == [
            path.as_uri()
        ]
        assert page.said == []
    light, dark = (
        open_page(browser, path, 390, scheme).evaluate(
            "getComputedStyle(document.body).backgroundColor"
        )
        for scheme in ("light", "dark")
    )
    assert light != dark


@pytest.mark.slow
def test_in_print(spec, browser, tmp_path):
    write_json(tmp_path / "spec.json", spec)
    path = write_report(tmp_path / "spec.json", tmp_path / "out")
    # A4 without its margins of 12 mm, at 96 pixels an inch; of dark screens, too.
    page = open_page(browser, path, 703, "dark")
    page.emulate_media(media="print")
    assert page.evaluate(WIDE) == []
    cut = "[...document.querySelectorAll('.box')].filter(b => b.scrollWidth > 704)"
    assert page.evaluate(f"{cut}.length") == 0
    # Commands are printed although they are folded on the screen.
    assert page.locator("pre").first.bounding_box()["height"] > 0
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    assert page.pdf(format="A4").startswith(b"%PDF")


@pytest.mark.slow
def test_plan_tags_and_networks_of_training_images(spec, tmp_path):
    row = dict(name="long side", value="320", reason="half of the images")
    plan = dict(settings=[row], notes=["an empty row"], changed=["irn.py"])
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    (tmp_path / "tags.csv").write_text("image,labels\n1.png,disc;square\n2.png,disc\n")
    content = dict(
        spec, plan=str(tmp_path / "plan.json"), tags=str(tmp_path / "tags.csv")
    )
    unseen = "find in images that they were not trained on"
    assert unseen in report(content, tmp_path).text
    for branch in content["branches"]:
        for network in branch["networks"]:
            network["images"] = "training"
    page = report(content, tmp_path)
    assert unseen not in page.text
    assert unseen.replace("not ", "") in page.text
    assert page.ids[:2] == ["result", "plan"]
    for text in ("320", "half of the images", "an empty row", "irn.py was changed"):
        assert text in page.text
    assert "network, on training images" in page.text
    assert "On training images the last segmentation network" in page.text
    assert "validation images" not in page.text
    rows = re.findall(
        r'<th scope="row">(\w+|all images)</th><td>(\d+)</td>', page.source
    )
    assert rows[:2] == [("disc", "2"), ("square", "1")]
    assert ("all images", "2") in rows

    content["branches"][0]["networks"][0]["images"] = "some"
    with pytest.raises(ValueError, match=r"images must be 'validation' or 'training'"):
        report(content, tmp_path)
    (tmp_path / "plan.json").write_text("{}")
    content["branches"][0]["networks"][0]["images"] = "training"
    with pytest.raises(ValueError, match=r"plan: .* is no plan for one's own images"):
        report(content, tmp_path)
