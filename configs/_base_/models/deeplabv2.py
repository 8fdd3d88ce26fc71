# DeepLab-v2 (Chen et al., PAMI 2018): its head and ImageNet's pixels, for a backbone that a
# config names.
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
    decode_head=dict(
        type="mmwood.DeepLabV2Head",
        num_classes=21,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
    train_cfg=dict(),
    # By windows: dict(mode="slide", crop_size=(321, 321), stride=(214, 214))
    test_cfg=dict(mode="whole"),
)
