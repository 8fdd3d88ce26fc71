# IRN's classifier (Ahn et al., CVPR 2019): ResNet-50 at output stride 16, stem and
# first two stages frozen, batch normalisation in evaluation.
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
