# IRN on one's own images, from the maps that a classifier's test left (README.md). Name
# the classifier and the folder of its maps as there. PAMR refines the labels while the
# network trains; for the dense CRF, and labels made once, see
# configs/irn/resnet50_irn_voc12aug.py.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/own_images_irn.py",
]

label = dict(refine=dict(method="pamr"), maps="strided")
train_dataloader = dict(dataset=dict(pipeline=dict(label=label)))
