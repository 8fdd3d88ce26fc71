# A small DeepLab-v2 on mini_voc's pseudo masks (W-OoD and IRN), plain cross-entropy.
# Weights: tools/model_converters/efficientnet_lite.py weights/efficientnet-lite0.pth
_base_ = [
    "../_base_/models/deeplabv2.py",
    "../_base_/datasets/mini_voc_segmentation.py",
    "../_base_/schedule_deeplabv2.py",
]

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
train_cfg = dict(max_iters=500, val_interval=500)
optim_wrapper = dict(optimizer=dict(lr=0.002))
default_hooks = dict(
    checkpoint=dict(interval=250),
    channels_last=dict(type="mmwood.ChannelsLastHook"),
)
