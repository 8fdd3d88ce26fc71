# DeepLab-v2 (Chen et al., PAMI 2018): its head and ImageNet's pixels, for a backbone that a
# config names.
_base_ = "./encoder_decoder.py"

model = dict(
    data_preprocessor=dict(size=(321, 321)),
    decode_head=dict(
        type="mmwood.DeepLabV2Head",
        num_classes=21,
        loss_decode=dict(type="CrossEntropyLoss", avg_non_ignore=True),
    ),
)
