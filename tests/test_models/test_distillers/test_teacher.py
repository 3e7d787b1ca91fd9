"""The teacher sees the student's images as its own preprocessor would make them."""

import pytest
import torch
from mmdet.models import DetDataPreprocessor

from mmps_kd.models.distillers.teacher import normalise_alike, renormalise

CAFFE = dict(mean=[103.53, 116.28, 123.675], std=[1.0, 1.0, 1.0], bgr_to_rgb=False)
PYTORCH = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)


@pytest.mark.parametrize(('student', 'teacher'), [(CAFFE, PYTORCH), (PYTORCH, CAFFE)])
def test_images_are_brought_from_one_normalisation_to_the_other(make_batch, student, teacher):
    student, teacher = DetDataPreprocessor(**student), DetDataPreprocessor(**teacher)
    ours, theirs = (preprocess(make_batch([([], [])]))['inputs'] for preprocess in (student, teacher))
    assert not normalise_alike(student, teacher)
    # In float32, pixels up to 255 and back.
    assert torch.allclose(renormalise(ours, student, teacher), theirs, atol=1e-4)
    assert not torch.allclose(ours, theirs, atol=1.0)


def test_what_counts_as_alike():
    assert normalise_alike(DetDataPreprocessor(**CAFFE), DetDataPreprocessor(**CAFFE))
    swapped = dict(CAFFE, bgr_to_rgb=True)
    assert not normalise_alike(DetDataPreprocessor(**CAFFE), DetDataPreprocessor(**swapped))
