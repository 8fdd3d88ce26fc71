"""Files of networks against the Predictor, whatever the config does to an image."""

import json
from collections.abc import Callable

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnx
from mmengine.registry import MODELS, init_default_scope

from mmwood.engine import export
from mmwood.engine.export import export_network, load_export
from mmwood.engine.network import Network, load_network
from mmwood.engine.predictor import Predictor

pytestmark = pytest.mark.slow

SIZES = [(1, 40), (37, 1), (33, 47), (64, 64), (101, 50), (150, 211)]


@pytest.fixture
def make_network(segmentor_config, tmp_path) -> Callable[..., Network]:
    """A network of ``segmentor_config`` with other fields, and random weights."""

    def make(pipeline=(), classes=4, std=2.0, **changes) -> Network:
        # To format what is dumped takes a second.
        cfg = Config.fromfile(segmentor_config).to_dict()
        cfg = Config(cfg, format_python_code=False)
        load, pack = dict(type="LoadImageFromFile"), dict(type="PackSegInputs")
        names = [f"class {number}" for number in range(classes)]
        cfg.test_dataloader.dataset.pipeline = [load, *pipeline, pack]
        cfg.test_dataloader.dataset.metainfo = dict(classes=names)
        for key, value in changes.items():
            cfg.merge_from_dict({f"model.{key.replace('__', '.')}": value})
        cfg.dump(tmp_path / "changed.py")
        init_default_scope("mmseg")
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        torch.nn.init.normal_(model.decode_head.conv_seg.weight, std=std)
        weights = tmp_path / "weights.pth"
        torch.save(dict(state_dict=model.state_dict()), weights)
        return load_network(tmp_path / "changed.py", weights)

    return make


def resize(**fields) -> dict:
    return dict(pipeline=[dict(type="Resize", **fields)])


def binary(threshold: float) -> dict:
    loss = dict(type="CrossEntropyLoss", use_sigmoid=True)
    return dict(
        classes=2,
        decode_head__num_classes=2,
        decode_head__out_channels=1,
        decode_head__threshold=threshold,
        decode_head__loss_decode=loss,
        auxiliary_head=None,
    )


IMAGENET = dict(mean=[123.7, 116.3, 103.5], std=[58.4, 57.1, 57.4])
#: Heads that pool to grids, and that enlarge by a factor.
PSP = dict(type="PSPHead", pool_scales=(1, 2, 3, 6))
FPN = dict(
    type="FPNHead",
    in_channels=[8, 16],
    in_index=[0, 1],
    channels=8,
    feature_strides=[4, 8],
    num_classes=4,
    _delete_=True,
)
CASES = {
    "plain": {},
    "RGB, normalised": dict(data_preprocessor=dict(bgr_to_rgb=True, **IMAGENET)),
    "BGR, normalised": dict(data_preprocessor=IMAGENET),
    "padded to 32": dict(
        data_preprocessor=dict(test_cfg=dict(size_divisor=32), pad_val=7)
    ),
    "padded to a size": dict(data_preprocessor=dict(test_cfg=dict(size=(128, 96)))),
    "enlarged": resize(scale=(320, 320), keep_ratio=True),
    "reduced": resize(scale=(64, 48), keep_ratio=True),
    "stretched": resize(scale=(70, 50), keep_ratio=False),
    "by a factor": resize(scale_factor=1.3, keep_ratio=True),
    "by two factors": resize(scale_factor=(0.7, 1.4), keep_ratio=False),
    "binary": binary(0.4),
    "binary, reduced": binary(0.6) | resize(scale=(64, 64), keep_ratio=True),
    "SyncBN, dropout": dict(
        backbone__norm_cfg=dict(type="SyncBN"), decode_head__dropout_ratio=0.5
    ),
    "corners": dict(decode_head__align_corners=True, **resize(scale=(64, 48))),
    # With larger scores most probabilities are subnormal, which take ten times as long.
    "256 classes": dict(
        classes=256, std=0.1, decode_head__num_classes=256, auxiliary_head=None
    ),
    "pooling": dict(decode_head=PSP),
    "upsampling": dict(backbone__out_indices=(0, 1), decode_head=FPN),
    "scales": dict(type="mmwood.MultiScaleEncoderDecoder", scales=(1, 2, 1.5)),
}


def smooth(size: tuple[int, int]) -> np.ndarray:
    rng = np.random.default_rng(size[0])
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 12, 12)))
    fine = torch.nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255)
    return np.ascontiguousarray(fine[0].permute(1, 2, 0).numpy().astype(np.uint8))


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_labels_of_any_size(make_network, tmp_path, kind, changes):
    network = make_network(**changes)
    path = tmp_path / f"network{export.SUFFIXES[kind]}"
    images = {str(size): smooth(size) for size in SIZES}
    found = export_network(network, path, kind, images.items())
    assert found.images == len(images) + len(export.SIZES)
    assert found.differ < 1e-5 * found.pixels
    exported, predictor = load_export(path, kind), Predictor(network)
    seen, differ = set(), 0
    for image in images.values():
        label, expected = exported(image), predictor(image).label
        assert label.dtype == (np.int32 if expected.dtype == np.uint16 else np.uint8)
        assert label.shape == image.shape[:2]
        differ += (label != expected).sum()
        seen |= {*np.unique(expected).tolist()}
    assert differ <= 2
    assert len(seen) > 1


def test_what_a_file_says_of_itself(make_network, tmp_path):
    network = make_network()
    network.palette[1] = (1, 2, 3)
    loader = dict(type="mmwood.LoadImage", levels=(0, 4095))
    network.cfg.test_dataloader.dataset.pipeline[0] = loader
    export_network(network, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    about = {item.key: item.value for item in model.metadata_props}
    assert json.loads(about["classes"]) == [f"class {number}" for number in range(4)]
    assert json.loads(about["palette"]) == network.palette.tolist()
    assert json.loads(about["levels"]) == [0, 4095]
    assert about["weights_sha256"] == network.weights_sha256
    extra = dict.fromkeys(about, "")
    export_network(network, tmp_path / "a.pt", "torchscript")
    torch.jit.load(tmp_path / "a.pt", _extra_files=extra)
    assert {key: value.decode() for key, value in extra.items()} == about


class SizeOfATest(nn.Module):
    """Computes with the image's width as a number."""

    def __init__(self, cut: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.cut = cut

    def forward(self, inputs):
        width = int(inputs.shape[3])
        if self.cut:
            inputs = inputs[..., :width] + inputs.new_zeros(1, 1, 1, width)
        return [self.conv(inputs) * (width % 7 - 3)]


@pytest.mark.parametrize(
    ("cut", "text"),
    [(False, "other labels than torch for a drawn image of"), (True, "not be free")],
)
@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_file_of_one_size_alone_is_none(make_network, tmp_path, kind, cut, text):
    MODELS.register_module(name="SizeOfATest", module=SizeOfATest, force=True)
    network = make_network(
        backbone=dict(type="SizeOfATest", cut=cut, _delete_=True),
        decode_head__in_channels=8,
        auxiliary_head=None,
    )
    path = tmp_path / f"network{export.SUFFIXES[kind]}"
    with pytest.raises(ValueError, match=text):
        export_network(network, path, kind)
    assert not [*tmp_path.glob("*network.*")]


def test_sizes_that_a_network_does_not_take_are_left_out(make_network, tmp_path):
    unet = dict(
        type="UNet", base_channels=4, num_stages=3, strides=(1,) * 3, _delete_=True
    )
    unet |= dict(enc_num_convs=(1,) * 3, dec_num_convs=(1,) * 2)
    unet |= dict(
        downsamples=(True,) * 2, enc_dilations=(1,) * 3, dec_dilations=(1,) * 2
    )
    network = make_network(
        backbone=unet,
        decode_head__in_channels=4,
        decode_head__in_index=2,
        auxiliary_head=None,
    )
    found = export_network(network, tmp_path / "a.onnx")
    assert found.pixels == 128 * 256 + 512 * 640
    bad = [("photo.jpg", smooth((31, 31)))]
    with pytest.raises(ValueError, match=r"NETWORK: it fails at photo\.jpg: The input"):
        export_network(network, tmp_path / "a.onnx", images=bad)


SLIDE = dict(test_cfg=dict(mode="slide", crop_size=(32, 32), stride=(20, 20)))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (SLIDE, "model.test_cfg.mode: windows"),
        (resize(scale=(64, 64), interpolation="bicubic"), "interpolation='bicubic'"),
        (resize(scale=(64, 64), backend="pillow"), "backend='pillow'"),
        (dict(pipeline=[dict(type="PhotoMetricDistortion")]), "PhotoMetricDistortion"),
    ],
)
def test_what_cannot_be_in_a_file(make_network, tmp_path, changes, text):
    with pytest.raises(ValueError, match=text):
        export_network(make_network(**changes), tmp_path / "a.onnx")
    assert not (tmp_path / "a.onnx").exists()


def test_weights_that_onnx_cannot_hold(make_network, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "LARGEST", 2**10)
    with pytest.raises(ValueError, match=r"its weights take .* --format torch"):
        export_network(make_network(), tmp_path / "a.onnx")
    assert not [*tmp_path.glob("*a.onnx*")]


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_files_of_others_stay(make_network, tmp_path, kind):
    network = make_network()
    path = tmp_path / f"network{export.SUFFIXES[kind]}"
    other = onnx.helper.make_graph([], "other", [], [])
    module = torch.jit.script(nn.ReLU())
    for write in (
        lambda: path.mkdir(),
        lambda: path.write_bytes(b"text"),
        lambda: onnx.save(onnx.helper.make_model(other), path),
        lambda: torch.jit.save(module, path),
    ):
        write()
        before = path.read_bytes() if path.is_file() else None
        with pytest.raises(FileExistsError, match=r"--out: .* is there, and is no net"):
            export_network(network, path, kind)
        if before is None:
            path.rmdir()
        else:
            assert path.read_bytes() == before
            path.unlink()
    export_network(network, path, kind)
    export_network(network, path, kind)
