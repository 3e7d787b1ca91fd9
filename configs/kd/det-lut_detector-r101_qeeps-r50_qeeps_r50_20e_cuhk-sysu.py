# Both approaches on a query-guided student.
_base_ = 'det_detector-r101_qeeps_r50_20e_cuhk-sysu.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/qeeps_r50_20e_cuhk-sysu/lut.safetensors'))
