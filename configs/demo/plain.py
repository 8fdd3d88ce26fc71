# The demo's classifier continued from its last epoch without OoD images: what
# configs/demo/wood.py is compared with. So few epochs need the classifier's rate: with half
# of it, OoD images gave worse seeds, by the true masks.
_base_ = "./classifier.py"

epochs = 4
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
load_from = "work_dirs/demo/classifier/epoch_20.pth"
