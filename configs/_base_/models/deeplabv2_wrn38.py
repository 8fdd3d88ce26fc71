# DeepLab-v2's head on Wide ResNet-38 (Wu et al., 2019) at output stride 8 with fixed
# batch normalisation. ImageNet's weights: tools/model_converters/wide_resnet38.py
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(321, 321),
        pad_val=0,
        seg_pad_val=255,
    ),
    backbone=dict(
        type="mmwood.WideResNet38",
        norm_cfg=dict(type="BN", requires_grad=False),
        frozen_stages=0,
        init_cfg=dict(type="Pretrained", checkpoint="weights/wide_resnet38.pth"),
    ),
    decode_head=dict(
        type="mmwood.DeepLabV2Head",
        in_channels=4096,
        in_index=0,
        num_classes=21,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    train_cfg=dict(),
    # By windows: dict(mode="slide", crop_size=(321, 321), stride=(214, 214))
    test_cfg=dict(mode="whole"),
)
