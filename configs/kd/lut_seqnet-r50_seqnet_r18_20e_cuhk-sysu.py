# Approach 2 on SeqNet: the teacher's ID vectors are the student's OIM table, and stay. The table is written by
# tools/extract_lut.py from a trained configs/seqnet/seqnet_r50_20e_cuhk-sysu.py.
_base_ = '../seqnet/seqnet_r18_20e_cuhk-sysu.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/seqnet_r50_20e_cuhk-sysu/lut.safetensors'),
)
