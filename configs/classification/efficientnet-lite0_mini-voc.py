# EfficientNet-Lite0 at output stride 16 on mini_voc: 20 minutes on two CPU cores.
# Weights: tools/model_converters/efficientnet_lite.py weights/efficientnet-lite0.pth
_base_ = [
    "../_base_/datasets/mini_voc.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="mmwood.CAMClassifier",
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5], to_rgb=True
    ),
    backbone=dict(
        type="TIMMBackbone",
        model_name="tf_efficientnet_lite0",
        output_stride=16,
        init_cfg=dict(type="Pretrained", checkpoint="weights/efficientnet-lite0.pth"),
    ),
    norm_eval=True,
    head=dict(type="mmwood.CAMHead", num_classes=20, in_channels=1280),
)
# Faster on a CPU.
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
