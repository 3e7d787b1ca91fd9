_base_ = [
    '../_base_/models/oimnetpp_r50-c4.py',
    '../_base_/datasets/cuhk-sysu_seqnet.py',
    '../_base_/schedules/schedule_seqnet_20e.py',
    '../_base_/default_runtime.py',
]
