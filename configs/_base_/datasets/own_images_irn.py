# own_images.py for IRN: its pipelines.
_base_ = ["./own_images.py", "../irn.py"]

train_dataloader = dict(dataset=dict(pipeline={{_base_.irn_train_pipeline}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.irn_pipeline}}))
tta_model = None
