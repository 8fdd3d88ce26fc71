# mini_voc's classifier fine-tuned for an epoch without OoD images: what
# efficientnet-lite0_wood_mini-voc.py is compared with, and based on.
_base_ = "../classification/efficientnet-lite0_mini-voc.py"

# The OoD images at hand are small and soft. So that softness does not tell them from the
# others, half of all images lose the detail that those lack.
train_pipeline = [
    dict(type="mmwood.LoadImage"),
    dict(type="mmwood.RandomSoften", scale=(96, 128), prob=0.5),
    # The long side becomes 240 to 352.
    dict(
        type="RandomResize", scale=(320, 320), ratio_range=(0.75, 1.1), keep_ratio=True
    ),
    dict(type="RandomFlip", prob=0.5),
    dict(type="RandomCrop", crop_size=208, pad_if_needed=True, pad_val=128),
    dict(type="PackInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.003))
train_cfg = dict(max_epochs=1)
load_from = "work_dirs/efficientnet-lite0_mini-voc/epoch_5.pth"
