# DeepLab-v2 on Wide ResNet-38 (Wu et al., 2019) at output stride 8 with fixed batch
# normalisation. ImageNet's weights: tools/model_converters/wide_resnet38.py
_base_ = "./deeplabv2.py"

model = dict(
    backbone=dict(
        type="mmwood.WideResNet38",
        norm_cfg=dict(type="BN", requires_grad=False),
        frozen_stages=0,
        init_cfg=dict(type="Pretrained", checkpoint="weights/wide_resnet38.pth"),
    ),
    decode_head=dict(in_channels=4096, in_index=0),
)
