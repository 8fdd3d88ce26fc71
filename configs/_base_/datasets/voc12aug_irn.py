# voc12aug.py for IRN: its pipelines, and seeds alone evaluated.
_base_ = ["./voc12aug.py", "../irn.py"]

train_dataloader = dict(dataset=dict(pipeline={{_base_.irn_train_pipeline}}))
test_dataloader = dict(dataset=dict(pipeline={{_base_.irn_pipeline}}))
test_evaluator = dict(metrics=dict(average_precision=None, seeds=dict(threshold=0.25)))
val_dataloader = val_evaluator = tta_model = None
