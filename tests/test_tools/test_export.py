"""tools/export.py: a folder of a network in, a file out that others can run."""

import re
import sys

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from mmwood.engine.export import load_export
from mmwood.engine.network import load_network
from mmwood.engine.predictor import Predictor
from mmwood.fileio.images import read_rgb

pytestmark = pytest.mark.slow

TOOL = "export.py"


@pytest.mark.parametrize(
    ("kind", "name"), [("onnx", "a.onnx"), ("torchscript", "a.pt")]
)
def test_file_of_a_folder(call_main, network_folder, voc_folder, tmp_path, kind, name):
    images = voc_folder / "JPEGImages"
    # Of a camera held upright; of more pixels than are compared.
    exif = Image.Exif()
    exif[0x0112] = 6
    large = np.zeros((1, 1500, 3), dtype=np.uint8)
    Image.fromarray(large).save(images / "large.png", exif=exif)
    out = tmp_path / "deep" / name
    options = ("--out", out, "--format", kind, "--images", images)
    text = call_main(TOOL, network_folder, *options)
    last = text.strip().splitlines()[-1]
    start = re.escape(f"{out}: 4 classes; on 7 images of {images} and 5 drawn images ")
    assert re.fullmatch(rf"{start}\d of [\d,]+ labels differ from torch's", last)
    assert [path.name for path in out.parent.iterdir()] == [name]
    exported, predictor = (
        load_export(out, kind),
        Predictor(load_network(network_folder)),
    )
    for path in images.iterdir():
        image = read_rgb(path)
        assert (exported(image) != predictor(image).label).sum() <= 1


def test_config_and_checkpoint(
    call_main, segmentor_config, segmentor_weights, tmp_path
):
    out = ("--out", tmp_path / "a.onnx")
    text = call_main(TOOL, segmentor_config, "--checkpoint", segmentor_weights, *out)
    assert "a.onnx: 4 classes; on 5 drawn images " in text


def test_wrong_input_is_named(call_main, network_folder, voc_folder, tmp_path):
    (tmp_path / "none").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/half.jpg").write_bytes(
        (voc_folder / "JPEGImages/image_0.jpg").read_bytes()[:300]
    )
    (tmp_path / "mine.onnx").write_text("mine")
    good, out = network_folder, tmp_path / "a.onnx"
    for arguments, text in (
        ((good, "--out", tmp_path / "a.pt"), "a.pt does not end in .onnx"),
        ((good, "--out", tmp_path / "a"), "a does not end in .onnx, as files of"),
        ((good, "--out", out, "--format", "torchscript"), "does not end in .pt"),
        ((good, "--out", tmp_path / "mine.onnx"), "mine.onnx is there, and is no"),
        ((tmp_path / "no", "--out", out), "NETWORK: there is no folder"),
        ((voc_folder, "--out", out), "NETWORK: there is no"),
        (
            (good, "--out", out, "--images", tmp_path / "no"),
            "--images: there is no folder",
        ),
        (
            (good, "--out", out, "--images", tmp_path / "none"),
            "--images: .* holds no image",
        ),
        (
            (good, "--out", out, "--images", tmp_path / "broken"),
            "the image .*half.jpg cannot be read",
        ),
    ):
        found = call_main(TOOL, *arguments, fails=True).strip()
        last = found.splitlines()[-1]
        assert re.search(text, last), found
    assert (tmp_path / "mine.onnx").read_text() == "mine"
    assert not [*tmp_path.glob("*a.onnx"), *tmp_path.glob(".tmp*")]


def test_missing_package_is_named(call_main, network_folder, tmp_path, monkeypatch):
    for name in ("onnx", "onnxruntime"):
        with monkeypatch.context() as context:
            context.setitem(sys.modules, name, None)
            arguments = (network_folder, "--out", tmp_path / "a.onnx")
            text = call_main(TOOL, *arguments, fails=True)
        assert f"--format onnx needs {name} (" in text
        assert '`pip install "mmwood[export]"`' in text
