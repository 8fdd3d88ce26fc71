# IRN on one's own images, from the maps that a classifier's test left (README.md). Name
# the classifier and the folder of its maps as there. The dense CRF refines the labels in
# every epoch; make them once by tools/make_affinity_labels.py, as for
# configs/irn/resnet50_irn_voc12aug.py.
_base_ = [
    "../_base_/models/resnet50_irn.py",
    "../_base_/datasets/own_images_irn.py",
]

train_dataloader = dict(dataset=dict(pipeline=dict(label=dict(maps="strided"))))
