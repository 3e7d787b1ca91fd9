# The official download, unpacked to data/PRW (it holds frames/, annotations/ and the .mat lists); pipelines and
# loaders are those of CUHK-SYSU.
_base_ = 'cuhk-sysu.py'

dataset = dict(type='PRWDataset', data_root='data/PRW/')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
