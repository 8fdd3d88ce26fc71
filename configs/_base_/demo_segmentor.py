# The demo's segmentation networks: DeepLab-v2's head on the classifier's backbone.
_base_ = [
    "./models/deeplabv2.py",
    "./datasets/context_shapes_segmentation.py",
    "./schedule_deeplabv2.py",
]

model = dict(
    data_preprocessor=dict(
        mean=[127.5, 127.5, 127.5],
        std=[63.75, 63.75, 63.75],
        size=(112, 112),
    ),
    backbone=dict(
        type="mmpretrain.ResNet",
        depth=18,
        stem_channels=16,
        base_channels=16,
        strides=(1, 2, 1, 1),
        init_cfg=dict(
            type="Pretrained",
            checkpoint="work_dirs/demo/wood/epoch_4.pth",
            prefix="backbone.",
        ),
    ),
    decode_head=dict(
        in_channels=128,
        in_index=0,
        num_classes=7,
        dilations=(2, 4, 6, 8),
    ),
)
optim_wrapper = dict(
    _delete_=True,
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=1e-3, weight_decay=0.05),
)
default_hooks = dict(channels_last=dict(type="mmwood.ChannelsLastHook"))
