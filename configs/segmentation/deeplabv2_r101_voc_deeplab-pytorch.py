# The protocol of the released program deeplab-pytorch on the same pseudo masks: loss and
# test at three scales, five sizes of the image, 20,000 iterations. But ImageNet's weights,
# never COCO's; docs/paper_or_program.md lists what else differs.
_base_ = "./deeplabv2_r101_voc.py"

model = dict(
    type="mmwood.MultiScaleEncoderDecoder",
    scales=(1.0, 0.75, 0.5),
    decode_head=dict(loss_on="logits"),
)
train_pipeline = [
    # Floats, so that padding is the mean itself.
    dict(type="LoadImageFromFile", to_float32=True),
    dict(type="LoadAnnotations"),
    dict(
        type="RandomChoice",
        transforms=[
            [dict(type="Resize", scale_factor=scale)]
            for scale in (0.5, 0.75, 1.0, 1.25, 1.5)
        ],
    ),
    # Before the flip, so that a flipped image is padded on its left.
    dict(
        type="Pad",
        size=(321, 321),
        pad_val=dict(img=(103.53, 116.28, 123.675), seg=255),
    ),
    dict(type="RandomCrop", crop_size=(321, 321)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackSegInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
train_cfg = dict(max_iters=20000)
# --tta is for the dense CRF: the network itself takes the scales, and there is no flip.
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[[dict(type="LoadAnnotations")], [dict(type="PackSegInputs")]],
    ),
]
