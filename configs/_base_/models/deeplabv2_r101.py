# DeepLab-v2 (Chen et al., PAMI 2018): ResNet-101 at output stride 8 with fixed batch
# normalisation, from torchvision's ImageNet weights (never COCO's).
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
        type="ResNet",
        depth=101,
        strides=(1, 2, 1, 1),
        dilations=(1, 1, 2, 4),
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101"),
    ),
    decode_head=dict(
        type="mmwood.DeepLabV2Head",
        in_channels=2048,
        in_index=3,
        num_classes=21,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    train_cfg=dict(),
    # By windows: dict(mode="slide", crop_size=(321, 321), stride=(214, 214))
    test_cfg=dict(mode="whole"),
)
