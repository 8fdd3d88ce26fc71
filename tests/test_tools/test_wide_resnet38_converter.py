import re
import runpy
import struct
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmcv")

from mmwood.models import WideResNet38

TOOL = "model_converters/wide_resnet38.py"
NARROW = ("--base-channels", 2)
FLAGS = {"float32": 0, "float16": 2}
MAGICS = {"V1": 0xF993FAC8, "V2": 0xF993FAC9, "V3": 0xF993FACA}
#: What the files call the parts of a block of ours.
BRANCHES = {
    "shortcut": "branch1",
    "0": "branch2a",
    "1": "branch2b1",
    "2": "branch2b2",
}
MXNET_VALUES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_var",
}


@pytest.fixture(scope="module")
def tool():
    """The tool's functions, to try many files in one process."""
    return runpy.run_path(str(Path(__file__).parents[2] / "tools" / TOOL))


@pytest.fixture
def state():
    """A narrow backbone's state dict of values that half precision holds."""
    generator = torch.Generator().manual_seed(0)
    return {
        name: torch.randint(-64, 64, tensor.shape, generator=generator) / 32
        for name, tensor in WideResNet38(base_channels=2).state_dict().items()
        if not name.endswith("num_batches_tracked")
    }


def torch_name(name):
    """``b4.5.convs.1.weight`` as PSA writes it: ``b4_5.conv_branch2b1.weight``."""
    if name.startswith(("stem", "norm")):
        return name.replace("stem", "conv1a").replace("norm", "bn7")
    stage, block, part, *rest = name.split(".")
    place, value = ("shortcut", *rest) if part == "shortcut" else rest
    kind = "bn" if part == "norms" else "conv"
    block = "" if block == "0" else f"_{block}"
    return f"{stage}{block}.{kind}_{BRANCHES[place]}.{value}"


def mxnet_name(name):
    """``b4.5.convs.1.weight`` as MXNet does: ``arg:res4b5_branch2b1_weight``."""
    layer, value = torch_name(name).rsplit(".", 1)
    if layer == "conv1a":
        return "arg:conv1a_weight"
    prefix = "aux" if value.startswith("running") else "arg"
    if layer == "bn7":
        return f"{prefix}:bn7_{MXNET_VALUES[value]}"
    block, layer = layer.split(".")
    kind, branch = layer.split("_")
    letter = f"b{block[3:]}" if "_" in block else "a"
    value = MXNET_VALUES[value] if kind == "bn" else value
    kind = "bn" if kind == "bn" else "res"
    return f"{prefix}:{kind}{block[1]}{letter}_{branch}_{value}"


def params_bytes(arrays, version="V2", dtype="float32"):
    """What MXNet's NDArray::Save writes of the named arrays."""
    out = struct.pack("<QQQ", 0x112, 0, len(arrays))
    for array in arrays.values():
        if version == "V0":
            out += struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape)
        else:
            out += struct.pack("<I", MAGICS[version])
            if version != "V1":
                out += struct.pack("<i", 0)
            out += struct.pack(f"<I{array.ndim}q", array.ndim, *array.shape)
        # Written on GPU 1.
        out += struct.pack("<iii", 2, 1, FLAGS[dtype])
        out += array.numpy().astype(np.dtype(dtype).newbyteorder("<")).tobytes()
    out += struct.pack("<Q", len(arrays))
    for name in arrays:
        out += struct.pack("<Q", len(name)) + name.encode()
    return out


def mxnet_arrays(state):
    arrays = {mxnet_name(name): tensor for name, tensor in state.items()}
    return {**arrays, "arg:linear1000_weight": torch.ones(10, 128)}


def check_loads(path, state):
    """DST initialises a backbone, with no key too many or too few."""
    loaded = torch.load(path, weights_only=True)
    backbone = WideResNet38(
        base_channels=2, init_cfg=dict(type="Pretrained", checkpoint=str(path))
    )
    assert list(loaded) == list(backbone.state_dict())
    backbone.init_weights()
    for name, tensor in backbone.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(tensor, state[name], rtol=0, atol=0)


def test_the_names_are_the_released_ones(state):
    """Against names written out, so that the tests' own naming is checked too."""
    for name, psa, mxnet in (
        ("stem.weight", "conv1a.weight", "arg:conv1a_weight"),
        (
            "b2.0.shortcut.weight",
            "b2.conv_branch1.weight",
            "arg:res2a_branch1_weight",
        ),
        (
            "b4.5.convs.1.weight",
            "b4_5.conv_branch2b1.weight",
            "arg:res4b5_branch2b1_weight",
        ),
        (
            "b7.0.norms.2.running_var",
            "b7.bn_branch2b2.running_var",
            "aux:bn7a_branch2b2_moving_var",
        ),
        (
            "b5.2.norms.0.bias",
            "b5_2.bn_branch2a.bias",
            "arg:bn5b2_branch2a_beta",
        ),
        ("norm.running_mean", "bn7.running_mean", "aux:bn7_moving_mean"),
    ):
        assert name in state
        assert (torch_name(name), mxnet_name(name)) == (psa, mxnet)


@pytest.mark.parametrize(
    ("version", "dtype"),
    [("V0", "float32"), ("V1", "float16"), ("V2", "float32"), ("V3", "float16")],
)
def test_mxnet_file_of_every_version(tool, state, tmp_path, version, dtype):
    path = tmp_path / "source.params"
    path.write_bytes(params_bytes(mxnet_arrays(state), version, dtype))
    converted, dropped = tool["convert"](tool["read_weights"](path), 2)
    assert dropped == ["arg:linear1000_weight"]
    torch.save(converted, tmp_path / "weights.pth")
    check_loads(tmp_path / "weights.pth", state)


@pytest.mark.slow
def test_on_the_command_line(state, run_tool, tmp_path):
    """Without --base-channels the published width is expected."""
    (tmp_path / "a.params").write_bytes(params_bytes(mxnet_arrays(state), "V0"))
    text = run_tool(TOOL, "a.params", "new/weights.pth", fails=True)
    assert text.strip() == (
        "a.params: arg:conv1a_weight must have shape (64, 3, 3, 3) of stem.weight, but "
        "has (2, 3, 3, 3)"
    )
    assert not (tmp_path / "new/weights.pth").exists()
    text = run_tool(TOOL, "a.params", "new/weights.pth", *NARROW)
    assert "dropped, as it is behind the backbone: arg:linear1000_weight" in text
    check_loads(tmp_path / "new/weights.pth", state)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["weights.pth"]


@pytest.mark.parametrize("prefix", ["", "module."])
def test_pytorch_file(tool, state, tmp_path, prefix):
    source = {prefix + torch_name(name): tensor for name, tensor in state.items()}
    for name in list(source):
        if name.endswith("running_mean"):
            counter = name.replace("running_mean", "num_batches_tracked")
            source[counter] = torch.tensor(7)
    source[prefix + "fc8.weight"] = torch.ones(20, 128, 1, 1)
    source[prefix + "f8_3.weight"] = torch.ones(64, 16, 1, 1)
    path = tmp_path / "psa.pth"
    # The files of PSA are older than PyTorch's zip format.
    torch.save(source, path, _use_new_zipfile_serialization=bool(prefix))
    converted, dropped = tool["convert"](tool["read_weights"](path), 2)
    assert dropped == [f"{prefix}fc8.weight", f"{prefix}f8_3.weight"]
    torch.save(converted, tmp_path / "weights.pth")
    check_loads(tmp_path / "weights.pth", state)
    assert converted["norm.num_batches_tracked"] == 7


SMALL = {"arg:a": torch.arange(6.0).reshape(2, 3), "aux:b": torch.ones(4)}


@pytest.mark.slow
@pytest.mark.parametrize("version", ["V0", "V1", "V2", "V3"])
def test_every_truncation_names_its_byte(tool, tmp_path, version):
    content = params_bytes(SMALL, version)
    path = tmp_path / "cut.params"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(ValueError, match="truncated") as error:
            tool["read_mxnet_params"](path)
        start = int(re.search(r"at byte (\d+), but ends", str(error.value))[1])
        count = int(re.search(r"needs (\d+) bytes", str(error.value))[1])
        assert start <= length < start + count
        assert f"ends at byte {length}" in str(error.value)
        assert str(path) in str(error.value)
    path.write_bytes(content)
    arrays = tool["read_mxnet_params"](path)
    assert list(arrays) == list(SMALL)
    for name, tensor in SMALL.items():
        torch.testing.assert_close(arrays[name], tensor)


@pytest.mark.parametrize(
    ("offset", "new", "message"),
    [
        (0, b"PK", "byte 0: expected MXNet's 0x112"),
        (16, struct.pack("<Q", 1 << 62), "byte 136: unknown type flag"),
        (24, struct.pack("<I", 77), "byte 24: expected an array, got one of 77 dim"),
        (28, struct.pack("<i", 1), "byte 24: storage type 1"),
        (32, struct.pack("<i", -1), "byte 24: expected an array, got one of -1 dim"),
        (32, struct.pack("<i", 0), "byte 24: expected an array, got one of 0 dim"),
        (36, struct.pack("<q", -2), r"byte 24: expected an array.* shape \(-2, 3\)"),
        (36, struct.pack("<q", 1 << 60), "truncated: needs .* at byte 64"),
        (60, struct.pack("<i", 9), "byte 24: unknown type flag 9"),
    ],
)
def test_refuses_damaged_mxnet_files(tool, tmp_path, offset, new, message):
    content = bytearray(params_bytes(SMALL))
    content[offset : offset + len(new)] = new
    path = tmp_path / "damaged.params"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        tool["read_mxnet_params"](path)
    assert str(path) in str(error.value)


def test_refuses_more_than_the_format_holds(tool, tmp_path):
    content = params_bytes(SMALL)
    path = tmp_path / "long.params"
    path.write_bytes(content + b"abc")
    with pytest.raises(ValueError, match=f"byte {len(content)}: 3 bytes too many"):
        tool["read_mxnet_params"](path)
    names = content.rindex(struct.pack("<QQ", 2, len("arg:a")))
    path.write_bytes(content[:names] + struct.pack("<Q", 0))
    with pytest.raises(ValueError, match=f"byte {names}: 0 names for 2 arrays"):
        tool["read_mxnet_params"](path)


def test_refuses_other_tensors_and_names_the_first(tool, state):
    source = mxnet_arrays(state)

    def message(**changes):
        with pytest.raises(ValueError, match=r"\w+") as error:
            tool["convert"]({**source, **changes}, 2)
        return str(error.value)

    name = "arg:res4b5_branch2b1_weight"
    assert message(**{name: torch.zeros(16, 16, 3, 1)}) == (
        f"{name} must have shape (16, 16, 3, 3) of b4.5.convs.1.weight, but has "
        "(16, 16, 3, 1)"
    )
    assert "unexpected tensor arg:res4b6_branch2a_weight" in message(
        **{"arg:res4b6_branch2a_weight": torch.zeros(1)}
    )
    assert "unexpected tensor arg:bn4b5_branch2c_gamma" in message(
        **{"arg:bn4b5_branch2c_gamma": torch.zeros(1)}
    )
    assert "unexpected tensor layer4.0.conv1.weight" in message(
        **{"layer4.0.conv1.weight": torch.zeros(1)}
    )
    assert "conv1a.weight: the file has two tensors for stem.weight" in message(
        **{"conv1a.weight": source["arg:conv1a_weight"]}
    )
    del source["aux:bn7_moving_var"], source[name]
    assert "no tensor of the file is b4.5.convs.1.weight" in message()


def test_refuses_other_files(tool, tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(FileNotFoundError, match=r"weights\.pth"):
        tool["read_weights"](path)
    for content in (b"", b"some text", b"PK\x03\x04 no archive", b"\x80\x02."):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"weights\.pth: expected"):
            tool["read_weights"](path)
    for content in ([torch.ones(2)], {"epoch": 1}):
        torch.save(content, path)
        with pytest.raises(ValueError, match="expected a state dict of tensors"):
            tool["read_weights"](path)
    torch.save({"state_dict": {"a": torch.ones(2)}}, path)
    assert list(tool["read_weights"](path)) == ["a"]
