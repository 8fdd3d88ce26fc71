# EfficientNet-Lite0 at output stride 16.
# Weights: tools/model_converters/efficientnet_lite.py weights/efficientnet-lite0.pth
model = dict(
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], to_rgb=True
    ),
    backbone=dict(
        type="TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        output_stride=16,
        init_cfg=dict(type="Pretrained", checkpoint="weights/efficientnet-lite0.pth"),
    ),
)
