# PRW with the input of SeqNet's code; pipelines and loaders are those of CUHK-SYSU.
_base_ = 'cuhk-sysu_seqnet.py'

dataset = dict(type='PRWDataset', data_root='data/PRW/')
train_dataloader = dict(dataset=dataset)
val_dataloader = dict(dataset=dataset)
test_dataloader = dict(dataset=dataset)
