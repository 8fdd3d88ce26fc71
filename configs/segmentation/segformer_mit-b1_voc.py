# SegFormer with the smaller MiT-B1, on data and with the schedule of segformer_mit-b2_voc.py.
_base_ = "./segformer_mit-b2_voc.py"

model = dict(
    backbone=dict(
        num_layers=[2, 2, 2, 2], init_cfg=dict(checkpoint="weights/mit_b1.pth")
    )
)
