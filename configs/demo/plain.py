# The demo's classifier gone on with from its last epoch, at a lower rate, without OoD
# images: what configs/demo/wood.py is compared with.
_base_ = "./classifier.py"

epochs = 10
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(optimizer=dict(lr=5e-4))
load_from = "work_dirs/demo/classifier/epoch_40.pth"
