# SGD for 20 epochs, a tenth of the learning rate from epoch 16 on, warm-up over 500 iterations; batch of 5 images.
train_cfg = dict(type='ResumableTrainLoop', max_epochs=20, val_interval=5)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, milestones=[16], gamma=0.1),
]
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.003, momentum=0.9, weight_decay=0.0005),
    clip_grad=dict(max_norm=10),
)

# tools/train.py --auto-scale-lr scales the learning rate with the number of GPUs times the batch size.
auto_scale_lr = dict(enable=False, base_batch_size=5)
