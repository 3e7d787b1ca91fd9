# The input size of today's papers: the shorter side becomes 900 pixels, the longer one at most 1500.
_base_ = 'cuhk-sysu.py'

scale = (1500, 900)
train_pipeline = _base_.train_pipeline
train_pipeline[2].scale = scale
test_pipeline = _base_.test_pipeline
test_pipeline[2].scale = scale

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
