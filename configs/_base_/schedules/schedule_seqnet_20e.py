# The 20 epochs of SeqNet's code: its warm-up takes the first epoch.
_base_ = 'schedule_20e.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=True, begin=0, end=1, convert_to_iter_based=True),
    dict(type='MultiStepLR', by_epoch=True, milestones=[16], gamma=0.1),
]
