# Both approaches.
_base_ = 'det_detector-r50_seqnet_r18_20e_cuhk-sysu.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/seqnet_r50_20e_cuhk-sysu/lut.safetensors'))
