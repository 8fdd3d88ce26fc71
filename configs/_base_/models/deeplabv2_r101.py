# DeepLab-v2 on ResNet-101 at output stride 8 with fixed batch normalisation, from
# torchvision's ImageNet weights (never COCO's).
_base_ = "./deeplabv2.py"

model = dict(
    backbone=dict(
        type="ResNet",
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),
    ),
    decode_head=dict(in_channels=2048, in_index=3),
)
