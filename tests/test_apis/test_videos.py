"""Frames of videos, whole and broken."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from mmps_kd.apis.inputs import Sources, count_frames, video_frames
from mmps_kd.datasets.image_files import DamagedImageError

NUM_FRAMES = 11


@pytest.fixture(scope='module')
def video(tmp_path_factory):
    """Frame i is grey of value 20 i."""
    path = str(tmp_path_factory.mktemp('video') / 'v.avi')
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    for number in range(NUM_FRAMES):
        writer.write(np.full((48, 64, 3), 20 * number, dtype=np.uint8))
    writer.release()
    return path


@pytest.fixture
def short(video, tmp_path):
    """The same, cut off after six frames, of which FFmpeg gives the last one or not."""
    path = tmp_path / 'short.avi'
    frames = Path(video).read_bytes().split(b'00dc')
    path.write_bytes(b'00dc'.join(frames[:7]))
    return str(path)


@pytest.mark.parametrize('stride', [1, 3, 5, 20])
def test_every_so_many_frames(video, stride):
    read = {number: frame().mean() for number, frame in video_frames(video, stride)}
    assert list(read) == list(range(0, NUM_FRAMES, stride))
    assert list(read.values()) == pytest.approx([20 * number for number in read], abs=2)
    assert count_frames(video, stride) == len(read)


def test_frames_can_be_left_out(video):
    """As when they are known already: the others are the same."""
    read = {number: frame().mean() for number, frame in video_frames(video, 1) if number % 4 == 1}
    assert read == pytest.approx({1: 20, 5: 100, 9: 180}, abs=2)


def test_names(video):
    assert [source.name for source in Sources(video, 5)] == [f'{video}#0', f'{video}#5', f'{video}#10']


def test_a_video_that_ends_early_says_so_after_its_last_frame(short):
    *whole, (number, read) = video_frames(short, 1)
    assert len(whole) == number
    assert number in (5, 6)
    with pytest.raises(DamagedImageError, match=f'short.avi ends early: {number} of the {NUM_FRAMES} frames it claims'):
        read()


@pytest.mark.parametrize('content', [b'', b'nothing of the kind' * 100])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / 'v.mp4'
    path.write_bytes(content)
    assert count_frames(str(path), 3) == 1
    ((number, read),) = video_frames(str(path), 3)
    with pytest.raises(DamagedImageError, match='v.mp4 cannot be read as a video'):
        read()
