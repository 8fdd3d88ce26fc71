# SegFormer (Xie et al., NeurIPS 2021) with MiT-B2.
_base_ = "./encoder_decoder.py"

model = dict(
    backbone=dict(
        type="MixVisionTransformer",
        embed_dims=64,
        num_heads=[1, 2, 5, 8],
        num_layers=[3, 4, 6, 3],
        qkv_bias=True,
        drop_path_rate=0.1,
        init_cfg=dict(type="Pretrained", checkpoint="weights/mit_b2.pth"),
    ),
    decode_head=dict(
        type="SegformerHead",
        in_channels=[64, 128, 320, 512],
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=21,
        norm_cfg=dict(type="SyncBN", requires_grad=True),
        align_corners=False,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
