# ResNet-50 at output stride 16 on one's own images; README.md shows how to use it.
_base_ = [
    "../_base_/datasets/own_images.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="mmwood.CAMClassifier",
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(
        type="ResNet",
        depth=50,
        strides=(1, 2, 2, 1),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    head=dict(type="mmwood.CAMHead", num_classes=20, in_channels=2048),
)
val_cfg = None
