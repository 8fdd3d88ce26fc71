"""A network as one file that works without mmwood, OpenMMLab and, as ONNX, torch.

Such a file takes an image and gives its labels: the channel order, the resizing of the
config's test pipeline, the normalisation and the padding are part of it, and so are the
resizing of the scores and the choice of the class. Both formats hold the same trace of
the network, of which height and width are free.
"""

import json
import os
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from mmseg.models.utils import Upsample
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.overrides import TorchFunctionMode

from mmwood import __version__
from mmwood.engine.network import Network
from mmwood.engine.predictor import Predictor
from mmwood.fileio.files import atomic_write
from mmwood.functional.resize import resize_linear
from mmwood.utils.require import require

ExportFormat = Literal["onnx", "torchscript"]
#: How the files of each format end.
SUFFIXES: dict[ExportFormat, str] = dict(onnx=".onnx", torchscript=".pt")
#: What the metadata says that a file is.
EXPORT = "mmwood export 1"
#: Labels of an image that may differ from torch's: this fraction of them, or, of a
#: small image, this many. Where two scores are equal but for rounding, either may win.
FRACTION, PIXELS = 0.001, 4
#: (H, W) of the images that are drawn; some networks take multiples of 128 alone.
SIZES = ((128, 256), (97, 131), (201, 65), (255, 320), (512, 640))
#: What models raise at sizes that they do not take, and torch where it cannot trace.
_FAULTS = (RuntimeError, AssertionError, TypeError, ValueError, cv2.error)
#: Of ONNX 1.12.
_OPSET = 17
#: Bytes that an ONNX file can hold.
LARGEST = 2**31


class Agreement(NamedTuple):
    """How many labels of a file are not those of :class:`Predictor`.

    Attributes:
        images: How many images were compared.
        pixels: How many pixels these have.
        differ: How many of them have another label.
    """

    images: int
    pixels: int
    differ: int


class WholeImage(nn.Module):
    """The labels of an image, as :class:`Predictor` finds them whole, without CRF.

    It is there to be traced: sizes are computed with tensors.

    Shape:
        - image: (H, W, channels) uint8, RGB where there are three
        - output: (H, W) uint8; int32 with more than 255 classes

    Raises:
        ValueError: The config's test has windows, a data_preprocessor of another kind,
            or a step other than a bilinear ``Resize``.
    """

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.model = predictor.model
        self.binary = predictor.binary
        self.channels = predictor.network.decoding.channels
        self.dtype = torch.uint8 if len(predictor.classes) <= 255 else torch.int32
        self.resizes = [
            step
            for step in predictor.pipeline.transforms
            if type(step).__name__ != "PackSegInputs"
        ]
        for step in self.resizes:
            _refuse_step(step)
        if self.model.test_cfg.get("mode", "whole") != "whole":
            raise ValueError(
                "model.test_cfg.mode: windows ('slide') cannot be exported: set it to "
                "'whole' in the config, which gives other labels"
            )
        kind = type(self.model.data_preprocessor).__name__
        if kind != "SegDataPreProcessor":
            raise ValueError(
                f"model.data_preprocessor: {kind} cannot be exported, only "
                "SegDataPreProcessor"
            )
        # It pads by sizes without tensors.
        self.preprocessor = copy(self.model.data_preprocessor)
        self.preprocessor.test_cfg = None

    def forward(self, image: Tensor) -> Tensor:
        """The label map of an image."""
        size = image.shape[:2]
        inputs = image.permute(2, 0, 1)[None].float()
        for step in self.resizes:
            inputs = _resized(inputs, step)
        height, width = inputs.shape[2:]
        # Pipelines load BGR.
        pixels = inputs[0].flip(0) if self.channels == 3 else inputs[0]
        data = self.preprocessor(dict(inputs=[pixels]))
        inputs = self._padded(data["inputs"])
        shape = tuple(inputs.shape[2:])
        about = dict(ori_shape=shape, img_shape=shape, pad_shape=shape)
        scores = self.model.encode_decode(inputs, [about])[:, :, :height, :width]
        if self.resizes:
            corners = self.model.align_corners
            scores = F.interpolate(scores, size, mode="bilinear", align_corners=corners)
        if self.binary:
            label = scores[0, 0].sigmoid() > self.model.decode_head.threshold
        else:
            label = scores[0].argmax(dim=0)
        return label.to(self.dtype)

    def _padded(self, inputs: Tensor) -> Tensor:
        """On the right and below, as mmseg's ``stack_batch`` does it in tests."""
        own = self.model.data_preprocessor
        if not own.test_cfg:
            return inputs
        sides = _sides(inputs)
        if size := own.test_cfg.get("size"):
            wanted = torch.tensor(size)
        else:
            divisor = own.test_cfg.get("size_divisor") or 1
            wanted = (sides + divisor - 1) // divisor * divisor
        below, right = (wanted - sides).clamp(min=0)
        return F.pad(inputs, (0, right, 0, below), value=own.pad_val)


class _FreePooling(TorchFunctionMode):
    """Adaptive average pooling, which ONNX has not, as two products of matrices."""

    def __torch_function__(
        self, func: Callable, types: Any, args: Sequence = (), kwargs: Any = None
    ) -> Any:
        if func is F.adaptive_avg_pool2d:
            return _averages(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _averages(inputs: Tensor, output_size: int | tuple[int, int]) -> Tensor:
    """As ``F.adaptive_avg_pool2d``."""
    size = output_size if isinstance(output_size, tuple) else (output_size,) * 2
    if size == (1, 1):
        return inputs.mean(dim=(2, 3), keepdim=True)
    rows, columns = (
        _cells(torch.as_tensor(length), count)
        for length, count in zip(inputs.shape[2:], size, strict=True)
    )
    return rows @ inputs @ columns.T


def _cells(length: Tensor, count: int) -> Tensor:
    """Of each cell along an axis, the weights of its mean. Shape: (count, length)."""
    numbers = torch.arange(count)[:, None]
    begins, ends = numbers * length // count, ((numbers + 1) * length - 1) // count + 1
    places = torch.arange(cast(int, length))
    inside = (places >= begins) & (places < ends)
    return inside.float() / (ends - begins)


def _upsampled(module: nn.Module, inputs: tuple[Tensor, ...], output: Any) -> Any:
    """As mmseg's ``Upsample`` by a factor, which computes sizes without tensors."""
    if not isinstance(module, Upsample) or module.size:
        return output
    factors = torch.tensor(module.scale_factor, dtype=torch.float64)
    height, width = (_sides(inputs[0]) * factors).long()
    size, corners = (height, width), module.align_corners
    return F.interpolate(inputs[0], size, mode=module.mode, align_corners=corners)


@contextmanager
def _free_sizes() -> Iterator[None]:
    """In it, no size that is traced is a number of the example."""
    hook = register_module_forward_hook(_upsampled)
    try:
        # Warned of are ifs on sizes; whether they matter, the comparison tells.
        with warnings.catch_warnings(), torch.no_grad(), _FreePooling():
            warnings.simplefilter("ignore")
            yield
    finally:
        hook.remove()


def _refuse_step(step: Any) -> None:
    """Refuse a step of the test pipeline that a file could not do."""
    kind = type(step).__name__
    if kind != "Resize":
        raise ValueError(
            f"test_dataloader.dataset.pipeline: {kind} cannot be exported, only Resize"
        )
    if (step.backend, step.interpolation) != ("cv2", "bilinear"):
        raise ValueError(
            "test_dataloader.dataset.pipeline: Resize with "
            f"backend={step.backend!r}, interpolation={step.interpolation!r} cannot be "
            "exported, only 'cv2' and 'bilinear'"
        )


def _sides(inputs: Tensor) -> Tensor:
    """Height and width of (B, C, H, W), which a trace keeps as what it computes."""
    return torch.stack([torch.as_tensor(side) for side in inputs.shape[2:]])


def _resized(inputs: Tensor, step: Any) -> Tensor:
    """As mmcv's ``Resize`` of 8 bits. Shape: (B, C, H, W) to (B, C, h, w)."""
    sides = _sides(inputs).double()
    if step.scale is not None:
        wanted = torch.tensor(step.scale[::-1], dtype=torch.float64)
    else:
        factors = torch.tensor(step.scale_factor[::-1], dtype=torch.float64)
        wanted = (sides * factors + 0.5).floor()
    if step.keep_ratio:
        # Sorted: of numbers without an axis, torch's ONNX exporter makes 32 bits.
        ratio = (wanted.sort().values / sides.sort().values).amin(0, keepdim=True)
        wanted = (sides * ratio + 0.5).floor()
    return resize_linear(inputs, wanted.long()).float()


def export_network(
    network: Network,
    path: str | os.PathLike,
    kind: ExportFormat = "onnx",
    images: Iterable[tuple[str, np.ndarray]] = (),
) -> Agreement:
    """Write a network as one file, if it gives the labels that torch gives.

    The labels of the images, and of some of other sizes that are drawn, are compared
    with those of :class:`Predictor` before the file gets its name. Drawn images that
    the network itself does not take are left out.

    The metadata are texts: ``format``, ``mmwood``, ``weights_sha256``, and as JSON
    ``classes``, ``palette``, a list of [red, green, blue], and ``levels`` and ``bands``
    of :attr:`Network.decoding`, each of which may be null: a caller takes these bands
    and brings them to 8 bits. In ONNX they are ``metadata_props``, in TorchScript extra
    files.

    Args:
        network: The network, on the CPU.
        path: The file; one that this function wrote is replaced.
        kind: Its format.
        images: Names and images to compare on. Shape: (H, W, channels) uint8, RGB where
            there are three.

    Raises:
        ImportError: A package is missing.
        FileExistsError: There is another file.
        ValueError: The network cannot be exported, or the file gives other labels: more
            than 0.1 % of an image's, and more than four. There is no file then.
    """
    if kind == "onnx":
        require("onnx", "export", "--format onnx")
        require("onnxruntime", "export", "--format onnx")
    refuse_foreign_export(path, kind)
    # No image is cut.
    predictor = Predictor(network, tile=2**30)
    whole = WholeImage(predictor).eval()
    drawn = _labelled(predictor)
    about = dict(
        format=EXPORT,
        mmwood=__version__,
        weights_sha256=network.weights_sha256,
        classes=json.dumps(network.classes),
        palette=json.dumps(network.palette.tolist()),
        levels=json.dumps(network.decoding.levels),
        bands=json.dumps(network.decoding.bands),
    )
    write = _write_onnx if kind == "onnx" else _write_torchscript
    with atomic_write(path) as temporary:
        try:
            with _free_sizes():
                write(whole, torch.from_numpy(drawn[0][1]), temporary, about)
        except _FAULTS as error:
            raise ValueError(
                f"NETWORK: it cannot be exported as {kind}: {_first_line(error)}"
            ) from error
        exported = load_export(temporary, kind)
        found = [_differ(exported, *item) for item in drawn]
        for name, image in images:
            try:
                label = predictor(image).label
            except _FAULTS as error:
                raise ValueError(
                    f"NETWORK: it fails at {name}: {_first_line(error)}"
                ) from error
            found.append(_differ(exported, name, image, label))
    pixels, differ = map(sum, zip(*found, strict=True))
    return Agreement(len(found), pixels, differ)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _labelled(predictor: Predictor) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Name, image and labels of the drawn images that the network takes."""
    found, reason = [], ""
    for image in drawn_images(predictor.network.decoding.channels):
        name = f"a drawn image of {image.shape[1]} x {image.shape[0]} pixels"
        try:
            found.append((name, image, predictor(image).label))
        except _FAULTS as error:
            reason = f"{name}: {_first_line(error)}"
    if not found:
        raise ValueError(f"NETWORK: it fails at every drawn image, at last {reason}")
    return found


def _differ(
    exported: Callable[[np.ndarray], np.ndarray],
    name: str,
    image: np.ndarray,
    expected: np.ndarray,
) -> tuple[int, int]:
    """How many pixels an image has, and how many of them other labels in a file."""
    try:
        label = exported(image)
    # onnxruntime's own are of no common class.
    except Exception as error:
        raise ValueError(
            f"NETWORK: its size would not be free in a file, which fails at {name}: "
            f"{_first_line(error)}"
        ) from error
    if label.shape != expected.shape:
        raise ValueError(
            f"NETWORK: its size would not be free in a file, which gives labels of "
            f"shape {label.shape} for {name}"
        )
    differ = int((label != expected).sum())
    if differ > max(PIXELS, FRACTION * label.size):
        raise ValueError(
            f"NETWORK: a file would give other labels than torch for {name}: "
            f"{differ} of {label.size:,}, {differ / label.size:.2%}"
        )
    return label.size, differ


def _write_torchscript(
    whole: WholeImage, image: Tensor, path: Path, about: dict[str, str]
) -> None:
    traced = torch.jit.trace(whole, (image,), check_trace=False)
    with path.open("wb") as file:
        torch.jit.save(traced, file, _extra_files=dict(about))


def _write_onnx(
    whole: WholeImage, image: Tensor, path: Path, about: dict[str, str]
) -> None:
    onnx = require("onnx", "export", "--format onnx")
    size = sum(value.nbytes for value in whole.state_dict().values())
    if size >= LARGEST:
        # Beyond it, torch writes files beside the file.
        raise ValueError(
            f"its weights take {size / 2**30:.1f} GiB, more than such a file holds: "
            "use --format torchscript"
        )
    axes = {0: "height", 1: "width"}
    options: dict[str, Any] = dict(opset_version=_OPSET)
    # The newer exporter takes minutes where this one takes a second, and torch 2.1 has
    # neither it nor the option.
    if "dynamo" in torch.onnx.export.__code__.co_varnames:
        options["dynamo"] = False
    torch.onnx.export(
        whole,
        (image,),
        str(path),
        input_names=["image"],
        output_names=["label"],
        dynamic_axes=dict(image=axes, label=axes),
        **options,
    )
    model = onnx.load(str(path))
    onnx.helper.set_model_props(model, about)
    onnx.save(model, str(path))


def load_export(
    path: str | os.PathLike, kind: ExportFormat
) -> Callable[[np.ndarray], np.ndarray]:
    """What a file that :func:`export_network` wrote makes of an image.

    Returns:
        A function of an image as of :class:`WholeImage` that gives its labels, (H, W).

    Raises:
        ImportError: onnxruntime is missing.
    """
    if kind == "torchscript":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = torch.jit.load(str(path), map_location="cpu")

        @torch.inference_mode()
        def run(image: np.ndarray) -> np.ndarray:
            return module(torch.from_numpy(image)).numpy()

        return run
    onnxruntime = require("onnxruntime", "export", "--format onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # It prints what it raises.
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    return lambda image: session.run(["label"], dict(image=image))[0]


def drawn_images(channels: int = 3) -> list[np.ndarray]:
    """Images of several sizes, smooth. Shapes: (H, W, channels) uint8."""
    rng = np.random.default_rng(0)
    images = []
    for height, width in SIZES:
        shape = (height // 16, width // 16, channels)
        coarse = rng.integers(0, 256, shape, dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        # OpenCV drops a last axis of length 1.
        images.append(image.reshape(height, width, channels))
    return images


def refuse_foreign_export(path: str | os.PathLike, kind: ExportFormat) -> None:
    """Refuse to replace a file that :func:`export_network` did not write.

    Raises:
        FileExistsError: There is such a file, or a folder.
        ImportError: onnx is missing, to read it with.
    """
    if os.path.exists(path) and _format(Path(path), kind) != EXPORT:
        raise FileExistsError(
            f"--out: {path} is there, and is no network that this tool wrote as "
            f"{kind}: name another file, or move it away"
        )


def _format(path: Path, kind: ExportFormat) -> str | None:
    """What the metadata of a file say that it is."""
    if kind == "torchscript":
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
                own = [name for name in names if name.endswith("/extra/format")]
                return archive.read(own[0]).decode() if own else None
        except (OSError, zipfile.BadZipFile, UnicodeDecodeError):
            return None
    onnx = require("onnx", "export", "--format onnx")
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(str(path), load_external_data=False)
    except (OSError, DecodeError):
        return None
    return {item.key: item.value for item in model.metadata_props}.get("format")
