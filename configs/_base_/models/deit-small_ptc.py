# A vision transformer with patch token contrast (ToCo, Ru et al., CVPR 2023): maps of the
# last block, labels of its tokens by a classifier on the tenth of twelve. Weights of
# mmpretrain's model zoo, ImageNet-1k.
channels = 384
model = dict(
    type="mmwood.CAMClassifier",
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(
        type="VisionTransformer",
        arch="deit-small",
        img_size=448,
        patch_size=16,
        out_type="featmap",
        out_indices=[9, 11],
        init_cfg=dict(
            type="Pretrained",
            checkpoint="weights/deit-small_in1k.pth",
            prefix="backbone.",
        ),
    ),
    # Maps of whole tokens, which reach beyond the image.
    test_cfg=dict(round_up_to=16),
    head=dict(
        type="mmwood.CAMHead",
        num_classes=20,
        in_channels=channels,
        pooling="max",
        feature_losses=dict(
            ptc=dict(
                type="mmwood.PatchTokenContrastLoss",
                num_classes=20,
                in_channels=channels,
            )
        ),
    ),
)
