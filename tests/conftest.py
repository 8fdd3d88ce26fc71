"""Small real data: VOC-style folders of a few images, and configs that use them."""

import atexit
import gc
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from tool_processes import Tool, ToolServer

from mmwood.fileio.files import file_sha256, write_json
from mmwood.fileio.label_folder import LabelFolder, ScoreMaps, save_score_maps
from mmwood.fileio.labels import save_label_png

REPOSITORY = Path(__file__).parents[1]
MINI_VOC = Path(os.environ.get("MINI_VOC", REPOSITORY.parent / "shared/data/mini_voc"))
CLASSES = ("disc", "square", "stripe")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
#: Sizes (H, W) of the images, odd ones and equal ones among them.
SIZES = ((40, 48), (33, 47), (40, 48), (48, 36), (33, 47), (41, 40))

CONFIG = """
_base_ = ["{repository}/configs/_base_/image_level.py",
          "{repository}/configs/_base_/schedule_5e.py",
          "{repository}/configs/_base_/default_runtime.py"]
dataset = dict(type="mmwood.ImageLevelDataset", label_source="mask",
               classes={classes}, data_root="{root}",
               data_prefix=dict(img_path="JPEGImages",
                                seg_map_path="SegmentationClass"))
model = dict(
    type="mmwood.CAMClassifier",
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, to_rgb=True),
    backbone=dict(type="ResNet", depth=18, stem_channels=8, base_channels=8,
                  strides=(1, 2, 1, 1)),
    head=dict(type="mmwood.CAMHead", num_classes=3, in_channels=64))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(**dataset, ann_file="ImageSets/Segmentation/train.txt", pipeline=[
        dict(type="mmwood.LoadImage"),
        dict(type="Resize", scale=(32, 32)),
        dict(type="PackInputs")]))
val_cfg = None
val_dataloader = None
val_evaluator = None
test_dataloader = dict(
    batch_size=2, num_workers=0,
    dataset=dict(**dataset, ann_file="ImageSets/Segmentation/train.txt"))
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1))
"""


def pytest_collection_finish() -> None:
    # As in mmwood/pipeline/launch.py.
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        pytest.skip("no CUDA here")


def make_voc_folder(root: Path, sizes=SIZES) -> Path:
    """A VOC-style folder; image i shows class i mod 3, every second one another too."""
    rng = np.random.default_rng(0)
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    names = [f"image_{number}" for number in range(len(sizes))]
    for number, (name, (height, width)) in enumerate(zip(names, sizes)):
        picture = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[5:20, 4:22] = number % 3 + 1
        if number % 2:
            mask[22:30, 10:30] = (number + 1) % 3 + 1
        mask[4, 3:23] = 255
        picture[mask > 0] //= 3
        Image.fromarray(picture).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
        save_label_png(mask, root / "SegmentationClass" / f"{name}.png")
    (root / "ImageSets/Segmentation/train.txt").write_text("\n".join(names) + "\n")
    return root


@pytest.fixture(scope="session")
def hashes() -> Callable[..., dict[str, str]]:
    """A hash of each file below a folder; and "" for each folder, if asked for."""

    def run(folder: Path, folders: bool = False) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): file_sha256(path)
            if path.is_file()
            else ""
            for path in sorted(folder.rglob("*"))
            if folders or path.is_file()
        }

    return run


@pytest.fixture(scope="session")
def is_alive() -> Callable[[int], bool]:
    """Whether a process runs; on Linux. One that nobody has waited for does not."""

    def run(pid: int) -> bool:
        try:
            return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
        except FileNotFoundError:
            return False

    return run


@pytest.fixture(params=[torch.float16, torch.bfloat16], ids=str)
def half_dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Types of autocast on a CPU."""
    release = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if request.param == torch.float16 and release < (2, 2):
        pytest.skip(f"torch {torch.__version__} computes no float16 on CPUs")
    return request.param


@pytest.fixture(scope="session")
def tool_server() -> Iterator[ToolServer]:
    """What starts tools without importing everything anew."""
    with ToolServer() as server:
        yield server


@pytest.fixture
def start_tool(
    tool_server: ToolServer, tmp_path: Path
) -> Iterator[Callable[..., Tool]]:
    """Start one of tools/ in the test's folder and do not wait for it."""
    started = []

    def start(name: str, *arguments: object) -> Tool:
        path = REPOSITORY / "tools" / name
        started.append(Tool(tool_server, tmp_path, path, *arguments))
        return started[-1]

    yield start
    for tool in started:
        tool.send_signal(signal.SIGKILL)
        tool.wait()


@pytest.fixture
def run_tool(start_tool: Callable[..., Tool]) -> Callable[..., str]:
    """Run one of tools/ in the test's folder; gives what it printed."""

    def run(*arguments: object, fails: bool = False) -> str:
        tool = start_tool(*arguments)
        status, text = tool.wait(), tool.read()
        assert (status != 0) == fails, text[-4000:]
        return text

    return run


@pytest.fixture
def call(request: pytest.FixtureRequest, run_tool: Callable) -> Callable[..., str]:
    """As ``run_tool``, for the test module's TOOL."""
    return partial(run_tool, request.module.TOOL)


@pytest.fixture(autouse=True)
def forget_runs() -> Callable[[], None]:
    """Forget the loggers and visualizers of runs in this process, now and when called.

    They go by the second in which a run starts: one that starts in the same second
    would write to the files of the one before.
    """
    if "mmengine.runner" in sys.modules:
        _forget_runs()
    return _forget_runs


def _forget_runs() -> None:
    from mmengine.logging import MessageHub, MMLogger
    from mmengine.visualization import Visualizer

    kinds: list[type] = [MMLogger, MessageHub, Visualizer]
    while kinds:
        kind = kinds.pop()
        kind._instance_dict.clear()
        kinds += kind.__subclasses__()


@pytest.fixture
def call_main(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture,
    forget_runs: Callable,
) -> Callable[..., str]:
    """As ``run_tool``, in this process; what ends the tool comes last."""

    def call(tool: str, *arguments: object, fails: bool = False) -> str:
        path = str(REPOSITORY / "tools" / tool)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        forget_runs()
        code = None
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as error:
            code = error.code
        text = "".join(capfd.readouterr()) + (code if isinstance(code, str) else "")
        assert bool(code) == fails, text
        return text

    return call


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """Six images with masks of the classes disc, square and stripe."""
    return make_voc_folder(tmp_path / "voc")


@pytest.fixture
def small_config(voc_folder: Path, tmp_path: Path) -> Path:
    """A classifier of 8 to 64 channels on :func:`voc_folder`."""
    path = tmp_path / "small_config.py"
    path.write_text(
        CONFIG.format(repository=REPOSITORY, root=voc_folder, classes=list(CLASSES))
    )
    return path


@pytest.fixture
def mini_voc() -> Path:
    """The mini_voc evaluation data; tests that need it skip where it is absent."""
    if not MINI_VOC.is_dir():
        pytest.skip(f"mini_voc is not at {MINI_VOC} (set MINI_VOC to its folder)")
    return MINI_VOC


WOOD = """
_base_ = ["{small_config}"]
model = dict(head=dict(type="mmwood.WOoDHead"))
train_dataloader = dict(
    batch_size=4,
    sampler=dict(_delete_=True, type="mmwood.OoDRatioSampler", in_per_batch=2,
                 ood_per_batch=2),
    dataset=dict(
        _delete_=True, type="mmwood.OoDMixDataset",
        in_distribution={{{{_base_.train_dataloader.dataset}}}},
        ood=dict(type="mmwood.OoDDataset", ann_file="list.txt", data_root="{root}"),
        pipeline={{{{_base_.train_dataloader.dataset.pipeline}}}}))
default_hooks = dict(ood_clusters=dict(
    type="mmwood.OoDClusterHook", clusters=3, batch_size=3, num_workers=0))
"""


@pytest.fixture
def wood_config(small_config: Path, tmp_path: Path) -> Path:
    """:func:`small_config` with W-OoD and seven OoD images of three clusters."""
    root = tmp_path / "ood"
    root.mkdir()
    rng = np.random.default_rng(1)
    names = [f"ood_{number}.png" for number in range(7)]
    for number, name in enumerate(names):
        # Three shades, so that K-means has three clusters to find.
        shade = 40 + 80 * (number % 3)
        size = (40, 48 + 4 * (number % 2), 3)
        picture = rng.integers(shade - 9, shade + 9, size).astype(np.uint8)
        Image.fromarray(picture).save(root / name)
    (root / "list.txt").write_text("\n".join(names) + "\n")
    path = tmp_path / "wood_config.py"
    path.write_text(WOOD.format(small_config=small_config, root=root))
    return path


@pytest.fixture
def save_doubles() -> Callable[[Path, int], list[tuple[Path, Path]]]:
    """Smooth images in a folder, each a second time at twice its size."""

    def save(folder: Path, count: int) -> list[tuple[Path, Path]]:
        folder.mkdir(exist_ok=True)
        rng = np.random.default_rng(2)
        pairs = []
        for number in range(count):
            pixels = rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)
            pair = folder / f"{number}.png", folder / f"{number}_double.png"
            for path, size in zip(pair, ((48, 40), (96, 80))):
                Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(
                    path
                )
            pairs.append(pair)
        return pairs

    return save


@pytest.fixture
def score_folder(voc_folder: Path, tmp_path: Path) -> Path:
    """Score maps of :func:`voc_folder`, as a test of a classifier leaves them."""
    folder = tmp_path / "scores_of_classifier"
    for path in sorted((voc_folder / "SegmentationClass").glob("*.png")):
        mask = np.array(Image.open(path))
        classes = np.array(sorted(set(mask[mask < 255].tolist()) - {0})) - 1
        # The objects themselves, blurred: what a perfect classifier would see.
        full = np.stack(
            [
                cv2.GaussianBlur((mask == c + 1).astype(np.float32), (0, 0), 3)
                for c in classes
            ]
        )
        full = (full / full.max(axis=(1, 2), keepdims=True)).astype(np.float16)
        maps = ScoreMaps(
            classes=classes,
            scores=np.isin(np.arange(3), classes).astype(np.float32),
            strided=full[:, ::4, ::4],
            full=full,
        )
        save_score_maps(LabelFolder(folder).scores(path.stem), maps)
    manifest = dict(
        format="mmwood pseudo labels 1",
        classes=list(CLASSES),
        checkpoint_sha256="0" * 64,
        scores=["strided", "full"],
        complete=True,
    )
    write_json(folder / "manifest.json", manifest)
    return folder


IRN = """
_base_ = ["{small_config}"]
model = dict(
    _delete_=True, type="mmwood.IRN",
    data_preprocessor={{{{_base_.model.data_preprocessor}}}},
    backbone={{{{_base_.model.backbone}}}},
    levels=["maxpool", "layer1", "layer2", "layer3", "layer4"],
    in_channels=[8, 8, 16, 32, 64], radius=4, test_cfg=dict(pad_to=32))
train_dataloader = dict(
    sampler=dict(shuffle=False),
    dataset=dict(score_dir="{scores}", pipeline=[
        dict(type="mmwood.LoadImage"),
        dict(type="mmwood.AffinityLabel", refine=None),
        dict(type="Resize", scale=(44, 36)),
        dict(type="PackInputs", algorithm_keys=["gt_seg_map"])]))
test_dataloader = dict(dataset=dict(score_dir="{scores}", pipeline=[
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.LoadScoreMaps"),
    dict(type="mmwood.LoadSemanticMask"),
    dict(type="PackInputs",
         algorithm_keys=["gt_sem_seg", "score_maps", "score_classes", "pred_score"],
         meta_keys={{{{_base_.pack.meta_keys}}}})]))
test_evaluator = dict(_delete_=True, type="mmwood.SeedMetric", threshold=0.25)
optim_wrapper = dict(paramwise_cfg=dict(
    _delete_=True, custom_keys=dict(displacement=dict(lr_mult=10.0))))
default_hooks = dict(
    displacement_mean=dict(
        type="mmwood.DisplacementMeanHook", batch_size=2, num_workers=0),
    pseudo_label=dict(threshold=0.25))
"""


@pytest.fixture
def irn_config(small_config: Path, score_folder: Path, tmp_path: Path) -> Path:
    """An IRN over :func:`small_config`'s backbone and :func:`score_folder`'s maps."""
    path = tmp_path / "irn_config.py"
    path.write_text(IRN.format(small_config=small_config, scores=score_folder))
    return path


SEGMENTOR = """
_base_ = "{repository}/configs/_base_/segmentation.py"
data = dict(
    type="BaseSegDataset", data_root="{root}",
    metainfo=dict(classes=["background", "disc", "square", "stripe"]),
    ann_file="ImageSets/Segmentation/train.txt",
    data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"))
fields = dict(in_channels=64, channels=8, num_classes=4)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", size=(32, 32)),
    backbone=dict(type="mmpretrain.ResNet", depth=18, stem_channels=8,
                  base_channels=8),
    decode_head=dict(type="FCNHead", in_index=0, **fields),
    auxiliary_head=[dict(type="FCNHead", in_index=0, **fields)],
    train_cfg=dict(), test_cfg=dict(mode="whole"))
train_dataloader = dict(
    batch_size=2, num_workers=0, persistent_workers=False,
    dataset=dict(**data, pipeline=[
        dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"),
        dict(type="Resize", scale=(32, 32)), dict(type="PackSegInputs")]))
test_dataloader = dict(num_workers=0, dataset=data)
val_dataloader = None
val_evaluator = None
test_evaluator = [dict(type="IoUMetric"), dict(type="mmwood.IAIoUMetric")]
train_cfg = dict(type="IterBasedTrainLoop", max_iters=1)
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01))
"""


@pytest.fixture
def segmentor_config(voc_folder: Path, tmp_path: Path) -> Path:
    """A segmentation network of two heads on :func:`voc_folder`'s masks."""
    path = tmp_path / "segmentor.py"
    path.write_text(SEGMENTOR.format(repository=REPOSITORY, root=voc_folder))
    return path


@pytest.fixture
def segmentor_weights(segmentor_config: Path, tmp_path: Path) -> Path:
    """A checkpoint of :func:`segmentor_config` that tells its classes apart."""
    pytest.importorskip("mmseg")
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    init_default_scope("mmseg")
    torch.manual_seed(0)
    model = MODELS.build(Config.fromfile(segmentor_config).model)
    torch.nn.init.normal_(model.decode_head.conv_seg.weight)
    classes = ("background", *CLASSES)
    meta = dict(dataset_meta=dict(classes=classes, palette=[[9, 9, 9]] * 4), iter=1)
    path = tmp_path / "iter_1.pth"
    torch.save(dict(state_dict=model.state_dict(), meta=meta), path)
    return path


@pytest.fixture
def network_folder(
    segmentor_config: Path, segmentor_weights: Path, tmp_path: Path
) -> Path:
    """:func:`segmentor_weights` as a folder of their own."""
    from mmwood.engine.network import publish_network

    publish_network(segmentor_config, segmentor_weights, tmp_path / "network")
    return tmp_path / "network"


STOCK_SEGMENTOR = """
default_scope = "mmseg"
randomness = dict(seed=3)
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(type="SegDataPreProcessor", mean=[127.5] * 3,
                           std=[127.5] * 3, bgr_to_rgb=True, size=(32, 32),
                           pad_val=0, seg_pad_val=255),
    backbone=dict(type="ResNetV1c", depth=18, stem_channels=4, base_channels=4),
    decode_head=dict(type="FCNHead", in_channels=32, in_index=3, channels=4,
                     num_convs=1, num_classes=4, dropout_ratio=0.1,
                     loss_decode=[dict(type="mmwood.SizeBalancedCELoss")]),
    auxiliary_head=[
        dict(type="FCNHead", in_channels=16, in_index=2, channels=16, num_convs=0,
             concat_input=False, num_classes=4, dropout_ratio=0,
             loss_decode=dict(type="mmwood.SizeBalancedCELoss", loss_weight=0.4))],
    test_cfg=dict(mode="whole"))
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type="InfiniteSampler", shuffle=False),
    dataset=dict(
        type="BaseSegDataset", data_root="{root}",
        metainfo=dict(classes=["background", "disc", "square", "stripe"],
                      palette=[[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0]]),
        data_prefix=dict(img_path="JPEGImages", seg_map_path="SegmentationClass"),
        pipeline=[
            dict(type="LoadImageFromFile"), dict(type="LoadAnnotations"),
            dict(type="RandomCrop", crop_size=(32, 32)),
            dict(type="RandomFlip", prob=0.5), dict(type="PackSegInputs")]))
train_cfg = dict(type="IterBasedTrainLoop", max_iters=2)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.1))
default_hooks = dict(
    checkpoint=dict(type="CheckpointHook", by_epoch=False, interval=1),
    logger=dict(type="LoggerHook", interval=1, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False, window_size=1)
"""


@pytest.fixture
def stock_segmentor(voc_folder: Path, tmp_path: Path) -> Path:
    """MMSegmentation's FCN of two heads with our loss, without a config of ours."""
    path = tmp_path / "fcn.py"
    path.write_text(STOCK_SEGMENTOR.format(root=voc_folder))
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Headless Chromium, from the PATH or playwright's own."""
    api = pytest.importorskip("playwright.sync_api")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    with api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(
                executable_path=path,
                # Chromium's sandbox does not work for root and in many containers.
                args=["--no-sandbox"],
            )
        except api.Error as error:
            pytest.skip(f"no Chromium ({', '.join(BROWSERS)}): {error}")
        yield chromium
        chromium.close()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 kB; where that is not allowed, the test is skipped."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a tmpfs: {error}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
