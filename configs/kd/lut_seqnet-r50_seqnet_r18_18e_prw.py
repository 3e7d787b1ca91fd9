# Approach 2 on SeqNet: the teacher's ID vectors are the student's OIM table, and stay. The table is written by
# tools/extract_lut.py from a trained configs/seqnet/seqnet_r50_18e_prw.py.
_base_ = '../seqnet/seqnet_r18_18e_prw.py'

model = dict(
    type='PersonSearchDistiller',
    lut=dict(type='LUTDistiller', lut_file='work_dirs/seqnet_r50_18e_prw/lut.safetensors'),
)
