# A small DeepLab-v2: EfficientNet-Lite0 at output stride 16.
# Weights: tools/model_converters/efficientnet_lite.py weights/efficientnet-lite0.pth
_base_ = "./deeplabv2.py"

model = dict(
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        size=(256, 256),
    ),
    backbone=dict(
        type="mmpretrain.TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        output_stride=16,
        init_cfg=dict(type="Pretrained", checkpoint="weights/efficientnet-lite0.pth"),
    ),
    decode_head=dict(
        in_channels=1280,
        in_index=0,
        # Half the published rates at half the resolution.
        dilations=(3, 6, 9, 12),
    ),
)
