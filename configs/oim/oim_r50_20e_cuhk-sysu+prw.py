# Trained on CUHK-SYSU and PRW together, validated and tested on CUHK-SYSU; oim_r50_18e_prw.py has PRW's test set.
_base_ = 'oim_r50_20e_cuhk-sysu.py'

cuhk_sysu = {{_base_.train_dataloader.dataset}}
prw = dict(type='PRWDataset', data_root='data/PRW/', split='train', pipeline={{_base_.train_pipeline}})
train_dataloader = dict(dataset=dict(_delete_=True, type='ConcatPersonSearchDataset', datasets=[cuhk_sysu, prw]))

# Rows and queue sizes of the two data sets, added up.
model = dict(roi_head=dict(reid_head=dict(loss_oim=dict(num_identities=5532 + 483, queue_size=5000 + 500))))
