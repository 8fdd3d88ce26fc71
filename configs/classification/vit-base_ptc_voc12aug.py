# ViT-B with patch token contrast on the tags of PASCAL VOC 2012 trainaug: weights of
# ImageNet-21k, as published.
_base_ = "./deit-small_ptc_voc12aug.py"

model = dict(
    data_preprocessor=dict(mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]),
    backbone=dict(
        arch="base", init_cfg=dict(checkpoint="weights/vit-base-p16_in21k.pth")
    ),
    head=dict(in_channels=768, feature_losses=dict(ptc=dict(in_channels=768))),
)
