# The official download, unpacked to data/CUHK-SYSU (it holds Image/ and annotation/).
dataset_type = 'CUHKSYSUDataset'
data_root = 'data/CUHK-SYSU/'

# The shorter side becomes 600 pixels, the longer one at most 1000.
scale = (1000, 600)
train_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackPersonSearchInputs'),
]
test_pipeline = [
    dict(type='LoadScene'),
    dict(type='LoadPersonSearchAnnotations'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='PackPersonSearchInputs'),
]

train_dataloader = dict(
    batch_size=5,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='ResumableSampler', shuffle=True),
    dataset=dict(type=dataset_type, data_root=data_root, split='train', pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type=dataset_type, data_root=data_root, split='test', test_mode=True, pipeline=test_pipeline),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='SearchMetric')
test_evaluator = val_evaluator
