# Both approaches.
_base_ = 'det_detector-r101_oim_r50_18e_prw.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/oim_r50_18e_prw/lut.safetensors'))
