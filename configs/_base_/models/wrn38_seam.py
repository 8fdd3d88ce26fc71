# SEAM (Wang et al., CVPR 2020) on Wide ResNet-38 at output stride 8: stem and first stage
# frozen, batch normalisation fixed. Weights: tools/model_converters/wide_resnet38.py
model = dict(
    type="mmwood.SEAM",
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(
        type="mmwood.WideResNet38",
        out_indices=(2, 3, 5),
        norm_cfg=dict(type="BN", requires_grad=False),
        frozen_stages=1,
        init_cfg=dict(type="Pretrained", checkpoint="weights/wide_resnet38.pth"),
    ),
    pcm_in_channels=[512, 1024],
    head=dict(
        type="mmwood.CAMHead",
        num_classes=20,
        in_channels=4096,
        init_cfg=dict(type="Xavier", layer="Conv2d", distribution="uniform"),
    ),
)
