# What segmentation networks share: ImageNet's pixels, and a test of whole images.
model = dict(
    type="EncoderDecoder",
    data_preprocessor=dict(
        type="SegDataPreProcessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(512, 512),
        pad_val=0,
        seg_pad_val=255,
    ),
    train_cfg=dict(),
    # By windows: dict(mode="slide", crop_size=(512, 512), stride=(341, 341))
    test_cfg=dict(mode="whole"),
)
