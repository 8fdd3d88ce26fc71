"""Label maps against MMSegmentation's own, and tiles against the whole image."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from torch import nn

pytest.importorskip("mmseg")
pytest.importorskip("mmpretrain")

from mmengine.dataset import pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from mmseg.apis import MMSegInferencer

from mmwood.engine import predictor
from mmwood.engine.network import Network, load_network
from mmwood.engine.predictor import Predictor
from mmwood.fileio.images import read_rgb

pytestmark = pytest.mark.slow

CLASSES = ("background", "disc", "square", "stripe")


class Small(nn.Module):
    """Sees two pixels to each side, and keeps the image's grid."""

    def __init__(self):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1)
        )

    def forward(self, inputs):
        return [self.convs(inputs)]


def small_network(pipeline=(), tta=None, channels=4) -> Network:
    """Of a receptive field of five pixels."""
    init_default_scope("mmseg")
    MODELS.register_module(name="SmallOfATest", module=Small, force=True)
    head = dict(
        type="FCNHead",
        in_channels=6,
        in_index=0,
        channels=6,
        num_convs=0,
        concat_input=False,
        num_classes=max(channels, 2),
        out_channels=channels,
    )
    if channels == 1:
        head.update(
            threshold=0.4, loss_decode=dict(type="CrossEntropyLoss", use_sigmoid=True)
        )
    model = dict(
        type="EncoderDecoder",
        data_preprocessor=dict(
            type="SegDataPreProcessor",
            mean=[127.5] * 3,
            std=[60.0] * 3,
            bgr_to_rgb=True,
        ),
        backbone=dict(type="SmallOfATest"),
        decode_head=head,
        test_cfg=dict(mode="whole"),
    )
    pipeline = [dict(type="LoadImageFromFile"), *pipeline, dict(type="PackSegInputs")]
    cfg = Config(
        dict(
            model=model,
            test_dataloader=dict(
                dataset=dict(type="BaseSegDataset", pipeline=pipeline)
            ),
        )
    )
    if tta is not None:
        cfg.tta_pipeline = [
            dict(type="LoadImageFromFile"),
            dict(type="TestTimeAug", transforms=tta),
        ]
    torch.manual_seed(1)
    built = MODELS.build(cfg.model).eval()
    nn.init.normal_(built.decode_head.conv_seg.weight, std=2)
    names = CLASSES[: max(channels, 2)]
    return Network(built, cfg, names, np.zeros((len(names), 3), np.uint8), "0" * 64)


def picture(size, seed=0):
    """Smooth, so that few pixels lie between two classes."""
    rng = np.random.default_rng(seed)
    coarse = torch.from_numpy(rng.uniform(0, 255, (1, 3, 12, 12)))
    fine = nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 255)
    return np.ascontiguousarray(fine[0].permute(1, 2, 0).numpy().astype(np.uint8))


SCALES = [dict(type="Resize", scale_factor=s, keep_ratio=True) for s in (0.75, 1.5)]
FLIPS = [
    dict(type="RandomFlip", prob=0.0),
    dict(type="RandomFlip", prob=1.0),
    dict(type="RandomFlip", prob=1.0, direction="vertical"),
]
VIEWS = [SCALES, FLIPS, [dict(type="LoadAnnotations")], [dict(type="PackSegInputs")]]


@pytest.mark.parametrize("divisor", [None, 32])
@pytest.mark.parametrize(
    "resize", [None, dict(type="Resize", scale=(96, 64), keep_ratio=True)]
)
def test_whole_images_as_the_stock_inferencer(
    network_folder, voc_folder, resize, divisor
):
    cfg = Config.fromfile(network_folder / "config.py")
    if resize is not None:
        cfg.test_dataloader.dataset.pipeline.insert(1, resize)
    if divisor is not None:
        cfg.model.data_preprocessor.test_cfg = dict(size_divisor=divisor)
    path, weights = network_folder.parent / "changed.py", network_folder / "weights.pth"
    cfg.dump(path)
    ours = Predictor(load_network(path, weights))
    stock = MMSegInferencer(str(path), str(weights), device="cpu")
    seen = set()
    for image in sorted((voc_folder / "JPEGImages").iterdir()):
        found = ours(read_rgb(image), str(image))
        expected = stock(str(image))["predictions"]
        # Channels last round otherwise, so one pixel of equal scores may differ.
        assert (found.label != expected).sum() <= 1
        seen |= {*np.unique(found.label).tolist()}
        sample = stock(str(image), return_datasamples=True)
        largest = sample.seg_logits.data.softmax(0).amax(0).numpy()
        for label in range(4):
            mask = found.label == label
            assert found.pixels[label] == mask.sum()
            if mask.any():
                mean = largest[mask].astype(float).mean()
                assert found.confidence[label] == pytest.approx(mean, rel=1e-5)
    assert len(seen) > 1


def test_binary_networks(tmp_path):
    network = small_network(channels=1)
    image = picture((50, 70))
    found = Predictor(network)(image)
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    (sample,) = network.model.test_step(dict(inputs=[bgr], data_samples=None))
    probs = sample.seg_logits.data[0]
    np.testing.assert_array_equal(found.label, probs > 0.4)
    assert 0 < found.label.sum() < found.label.size
    mean = probs[probs > 0.4].mean().item()
    assert found.confidence[1] == pytest.approx(mean, rel=1e-5)


def test_views_as_the_stock_model_of_them():
    network = small_network(tta=VIEWS)
    image = picture((50, 70))
    found = Predictor(network, tta=True)(image)
    config = dict(type="SegTTAModel", module=network.model)
    stock = MODELS.build(config)
    size = image.shape[:2]
    data = dict(img=image[..., ::-1], img_path="a", ori_shape=size, img_shape=size)
    steps = Predictor(network, tta=True).pipeline
    (expected,) = stock.test_step(pseudo_collate([steps(data)]))
    expected_label = expected.pred_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(found.label, expected_label)
    plain = Predictor(network)(image)
    assert (plain.label != found.label).any()


@pytest.mark.parametrize("tta", [False, True])
@pytest.mark.parametrize(
    "resize",
    [
        [],
        [dict(type="Resize", scale_factor=0.7, keep_ratio=True)],
        [dict(type="Resize", scale_factor=1.4, keep_ratio=True)],
    ],
)
@pytest.mark.parametrize("strip", [1, 2**16])
def test_tiles_and_strips_as_the_whole(monkeypatch, tta, resize, strip):
    """The receptive field is 5 pixels; tiles share 32, so 8 of each count nothing."""
    network = small_network(resize, VIEWS)
    image = picture((210, 260))
    whole = Predictor(network, tta=tta)(image)
    monkeypatch.setattr(predictor, "STRIP", strip)
    found = Predictor(network, tile=96, overlap=32, tta=tta)(image)
    assert {*np.unique(whole.label)} == {*range(4)}
    # Rounding decides where two classes are equally likely.
    assert (found.label != whole.label).sum() <= 2
    np.testing.assert_allclose(found.confidence, whole.confidence, atol=1e-3)
    assert found.pixels.sum() == image.shape[0] * image.shape[1]


def test_large_results_of_small_inputs_come_in_strips(monkeypatch):
    """One tile, but too many scores to hold at once."""
    network = small_network([dict(type="Resize", scale=(64, 48), keep_ratio=True)])
    image = picture((200, 250))
    whole = Predictor(network)(image)
    monkeypatch.setattr(predictor, "WHOLE", 4 * 4 * 200 * 250 - 1)
    monkeypatch.setattr(predictor, "STRIP", 2**15)
    found = Predictor(network)(image)
    assert (found.label != whole.label).sum() <= 2


def test_more_than_255_classes():
    network = small_network()
    network.classes = tuple(map(str, range(300)))
    assert Predictor(network)(picture((40, 40))).label.dtype == np.uint16


def test_crf():
    from mmwood.functional.crf import DEEPLAB_CRF, dense_crf

    network = small_network()
    image = picture((40, 60))
    found = Predictor(network, crf=dict(iterations=3))(image)
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    (sample,) = network.model.test_step(dict(inputs=[bgr], data_samples=None))
    probs = sample.seg_logits.data.softmax(0).detach().numpy()
    expected = dense_crf(image, probs, **DEEPLAB_CRF, **dict(iterations=3)).argmax(0)
    np.testing.assert_array_equal(found.label, expected)
    with pytest.raises(ValueError, match=r"has 200 x 100 pixels, 200 .* --crf needs"):
        Predictor(network, tile=96, overlap=24, crf={})(picture((100, 200)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(tile=10), "--tile must be an integer of at least 64"),
        (dict(tile=100, overlap=60), "--overlap must be an integer of at least 0 and"),
        (dict(tta=True), "--tta: the config has no tta_pipeline"),
    ],
)
def test_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(small_network(), **options)


def test_pipelines_that_load_otherwise():
    network = small_network()
    network.cfg.test_dataloader.dataset.pipeline[0].color_type = "grayscale"
    with pytest.raises(ValueError, match="another color_type is not supported"):
        Predictor(network)
