# IRN on one's own images, from the maps that a classifier's test left (README.md). Name
# the classifier and the folder of its maps as there. PAMR refines the labels while the
# network trains; for the dense CRF, and labels made once, see
# configs/irn/resnet50_irn_voc12aug.py.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/own_images.py",
    "../_base_/irn.py",
]

transforms = dict(AffinityLabel=dict(refine=dict(method="pamr"), maps="strided"))
train_dataloader = dict(
    dataset=dict(pipeline={{_base_.irn_train_pipeline}}, transforms=transforms)
)
test_dataloader = dict(dataset=dict(pipeline={{_base_.irn_pipeline}}))
tta_model = None
