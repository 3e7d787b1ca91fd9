# Both approaches on a query-guided student.
_base_ = 'det_detector-r101_qeeps_r50_18e_prw.py'

model = dict(lut=dict(type='LUTDistiller', lut_file='work_dirs/qeeps_r50_18e_prw/lut.safetensors'))
