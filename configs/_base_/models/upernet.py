# UPerNet (Xiao et al., ECCV 2018), for a backbone of four maps that a config names.
_base_ = "./encoder_decoder.py"

heads = dict(
    dropout_ratio=0.1,
    num_classes=21,
    norm_cfg=dict(type="SyncBN", requires_grad=True),
    align_corners=False,
)
model = dict(
    decode_head=dict(
        type="UPerHead",
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
        **heads,
    ),
    auxiliary_head=dict(
        type="FCNHead",
        channels=256,
        num_convs=1,
        concat_input=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True, loss_weight=0.4),
        **heads,
    ),
)
