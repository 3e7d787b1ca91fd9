# Both approaches.
_base_ = 'det_detector-r50_seqnet_r18_18e_prw.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/seqnet_r50_18e_prw/lut.safetensors'))
