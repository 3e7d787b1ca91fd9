# The input of SeqNet's code: the shorter side becomes 900 pixels, the longer one at most 1500, in float, rounded down.
_base_ = 'cuhk-sysu.py'

resize = dict(type='FloorResize', scale=(1500, 900))
train_pipeline = _base_.train_pipeline
train_pipeline[2] = resize
test_pipeline = _base_.test_pipeline
test_pipeline[2] = resize

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
