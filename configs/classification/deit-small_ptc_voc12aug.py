# DeiT-S with patch token contrast (ToCo) on the tags of PASCAL VOC 2012 trainaug. Of the
# published program it is the classifier: no class token contrast, no decoder, and maps of
# one scale label the tokens. Published are DeiT-B and ViT-B.
_base_ = [
    "../_base_/models/deit-small_ptc.py",
    "../_base_/datasets/voc12aug.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

train_pipeline = [
    dict(type="mmwood.LoadImage"),
    # The long side becomes 256 to 1024: half to twice 512.
    dict(
        type="RandomResize",
        scale=(512, 512),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
        backend="pillow",
        interpolation="bicubic",
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="ColorJitter", brightness=0.3, contrast=0.3, saturation=0.3, hue=0.1),
    # Smaller images are padded when they are batched, below and to the right: so the
    # contrast knows the padding.
    dict(type="RandomCrop", crop_size=448),
    dict(type="PackInputs"),
]
train_dataloader = dict(
    batch_size=4,
    collate_fn=dict(type="pseudo_collate"),
    dataset=dict(pipeline=train_pipeline),
)
# 21,160 iterations; published are 20,000.
train_cfg = dict(max_epochs=8)
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-3, by_epoch=False, end=1500),
    dict(
        type="PolyLR",
        power=0.9,
        eta_min=0.0,
        begin=0,
        # To the end of the training, however long it is.
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
rate = dict(lr_mult=10.0)
optim_wrapper = dict(
    _delete_=True,
    optimizer=dict(type="AdamW", lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        custom_keys={
            "head.classifier": rate,
            "head.feature_losses": rate,
            # As in the published program it stays as it was pretrained.
            "pos_embed": dict(lr_mult=0.0, decay_mult=0.0),
        }
    ),
)
auto_scale_lr = dict(base_batch_size=4)
