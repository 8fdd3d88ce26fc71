# The demo's classifier continued from its last epoch, at half its rate, without OoD images:
# what configs/demo/wood.py is compared with. With a quarter of the rate, so few epochs of OoD
# images gave worse seeds, by the true masks (one run each).
_base_ = "./classifier.py"

epochs = 4
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
load_from = "work_dirs/demo/classifier/epoch_30.pth"
