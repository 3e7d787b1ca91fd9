"""The npz interchange: round trip and broken files."""

from dataclasses import fields, replace

import numpy as np
import pytest

from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import (
    GroundTruth,
    QueryContext,
    evaluate_detection,
    evaluate_search,
    load_results,
    rank_gallery,
    save_results,
)


def write(path, **changes):
    """A valid file of two images and one query; a change of None drops the key."""
    arrays = dict(
        img_names=np.array(['a', 'b']),
        num_dets=np.array([1, 0]),
        bboxes=np.array([[0, 0, 10, 20, 0.9]], np.float32),
        embeddings=np.ones((1, 3), np.float32),
        query_embeddings=np.ones((1, 3), np.float32),
    )
    arrays.update(changes)
    np.savez(path, **{key: array for key, array in arrays.items() if array is not None})
    return path


def assert_same(a, b):
    for field in fields(a):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if field.name == 'query_context':
            assert (left is None) == (right is None)
            if left is not None:
                assert_same(left, right)
        else:
            np.testing.assert_array_equal(left, right)


def test_round_trip(tmp_path, tiny_search):
    results, protocol = tiny_search
    context = QueryContext(np.array([1]), np.array([[0, 0, 5, 9, 0.8]]), np.array([[0.5]], np.float32))
    full = replace(
        results,
        query_images=protocol.query_images,
        query_boxes=protocol.query_boxes,
        query_context=context,
        score_thr=0.25,
    )
    for index, saved in enumerate((results, full)):
        path = tmp_path / f'{index}.npz'
        save_results(path, saved)
        assert_same(load_results(path), saved)
        assert evaluate_search(load_results(path), protocol).mAP == evaluate_search(saved, protocol).mAP


def test_other_types_are_converted(tmp_path):
    path = write(
        tmp_path / 'r.npz',
        num_dets=np.array([1, 0], np.uint8),
        bboxes=np.array([[0, 0, 10, 20, 1]]),
        embeddings=np.ones((1, 3), np.float16),
    )
    results = load_results(path)
    assert (results.num_dets.dtype, results.boxes.dtype, results.embeddings.dtype) == (np.int64, np.float64, np.float32)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(embeddings=None), "lacks the array 'embeddings'"),
        (dict(query_context_bboxes=np.zeros((0, 5))), "lacks the array 'query_context_num_people'"),
        (dict(img_names=np.array([1, 2])), "'img_names' .* must be a 1-d array of text, not 1-d of int64"),
        (dict(num_dets=np.array([1.0, 0.0])), "'num_dets' .* must be a 1-d array of integers"),
        (dict(embeddings=np.ones(3)), "'embeddings' .* must be a 2-d array of numbers, not 1-d"),
        (dict(bboxes=np.ones((1, 4))), "'bboxes' .* must have 5 columns, not 4"),
        (dict(score_thr=np.ones(2)), "'score_thr' .* must be a 0-d array of numbers, not 1-d"),
        (dict(query_bboxes=np.ones((1, 5))), "'query_bboxes' .* must have 4 columns, not 5"),
        (dict(img_names=np.array(['a', None])), 'damaged or no npz of plain arrays'),
    ],
)
def test_wrong_content_is_named(tmp_path, changes, message):
    path = write(tmp_path / 'r.npz', **changes)
    with pytest.raises(UserError, match=message) as caught:
        load_results(path)
    assert 'r.npz' in str(caught.value)
    assert '\n' not in str(caught.value)


def test_absent_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r'none.npz does not exist'):
        load_results(tmp_path / 'none.npz')


@pytest.mark.parametrize('keep', [0.0, 0.3, 0.6, 0.95])
def test_cut_file_is_named(tmp_path, keep):
    path = write(tmp_path / 'r.npz')
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    with pytest.raises(UserError, match=r'r.npz is damaged'):
        load_results(path)


def test_flipped_bytes_are_noticed(tmp_path):
    path = write(tmp_path / 'r.npz', embeddings=np.ones((1, 3), np.float32) * 3)
    content = path.read_bytes()
    at = content.index(np.float32(3).tobytes() * 3)
    path.write_bytes(content[:at] + b'\x00' * 12 + content[at + 12 :])
    with pytest.raises(UserError, match=r'r.npz is damaged'):
        load_results(path)


def test_a_bare_array_or_text_is_no_results_file(tmp_path):
    np.save(tmp_path / 'bare.npy', np.ones(3))
    (tmp_path / 'text.npz').write_text('not an archive')
    for name in ('bare.npy', 'text.npz'):
        with pytest.raises(UserError, match=f'{name} is damaged or no npz'):
            load_results(tmp_path / name)


@pytest.mark.parametrize('evaluate', [evaluate_search, evaluate_detection, rank_gallery])
def test_detections_that_the_model_dropped_are_not_scored(tmp_path, tiny_search, evaluate):
    results, protocol = tiny_search
    save_results(tmp_path / 'r.npz', replace(results, score_thr=0.5))
    results = load_results(tmp_path / 'r.npz')
    truth = GroundTruth(np.array(['a']), np.array([1]), protocol.truth_boxes[:1], np.array([True]))
    what = dict(evaluate_search=[protocol], evaluate_detection=[truth], rank_gallery=[protocol, 0])[evaluate.__name__]
    with pytest.raises(UserError, match=r'own score_thr of 0\.5 drops .* no figure at 0\.05') as caught:
        evaluate(results, *what, score_thr=0.05)
    assert '\n' not in str(caught.value)
    evaluate(results, *what, score_thr=0.5)
    evaluate(replace(results, score_thr=None), *what, score_thr=0.05)
    # Scores are not negative: at 0 nothing is missing.
    evaluate(replace(results, score_thr=0.0), *what, score_thr=-1)


def test_names_are_normalised(tmp_path):
    names = np.array(['./cam//a\u3000.jpg', 'b\\c'])
    assert load_results(write(tmp_path / 'r.npz', img_names=names)).image_names.tolist() == ['cam/a\u3000.jpg', 'b\\c']
