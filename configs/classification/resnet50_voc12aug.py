# IRN's classifier (Ahn et al., CVPR 2019): ResNet-50 at output stride 16, stem and
# first two stages frozen, batch normalisation in evaluation.
_base_ = [
    "../_base_/datasets/voc12aug.py",
    "../_base_/schedule_5e.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="mmwood.CAMClassifier",
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True
    ),
    backbone=dict(
        type="ResNet",
        depth=50,
        strides=(1, 2, 2, 1),
        frozen_stages=2,
        norm_eval=True,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet50"),
    ),
    head=dict(type="mmwood.CAMHead", num_classes=20, in_channels=2048),
    # IRN's program upsamples maps to the next multiple of 16 and crops them.
    test_cfg=dict(round_up_to=16),
)
# The released program passes the weight decay as the momentum. Its published numbers
# belong to momentum 1e-4 with lr 0.1; with momentum 0.9 use lr 0.01.
optim_wrapper = dict(optimizer=dict(lr=0.1, momentum=1e-4))
