_base_ = [
    '../_base_/models/person-search_r50-fpn.py',
    '../_base_/datasets/cuhk-sysu.py',
    '../_base_/schedules/schedule_20e.py',
    '../_base_/default_runtime.py',
]
