# AdamW as MMSegmentation's configs of transformers have it: a warm-up, then linear decay.
# Theirs take 80,000 or 160,000 iterations of sixteen images of ADE20K's 20,210; 40,000 of
# VOC's 10,582 are as many passes as 80,000 there, and the length of MMSegmentation's own
# VOC configs.
train_cfg = dict(type="IterBasedTrainLoop", max_iters=40000, val_interval=5000)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    # To the end of the training, however long it is.
    dict(type="PolyLR", power=1.0, eta_min=0.0, begin=1500, by_epoch=False),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=6e-5, betas=(0.9, 0.999), weight_decay=0.01),
)
auto_scale_lr = dict(base_batch_size=16, enable=False)
