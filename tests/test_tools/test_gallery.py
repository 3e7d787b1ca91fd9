"""tools/gallery.py as a user runs it: filling, stopping and going on, shares of ranks, maintenance."""

import json
import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from PIL import Image

from mmps_kd.apis import PersonSearchInferencer
from mmps_kd.apis.inferencer import SearchModel
from mmps_kd.apis.init_model import load_config
from mmps_kd.gallery import Gallery


@pytest.fixture
def images(tiny_cuhk_sysu, tmp_path):
    """Twelve images of people by two cameras."""
    for number, path in enumerate(sorted((tiny_cuhk_sysu / 'Image/SSM').iterdir())[:12]):
        folder = tmp_path / 'images' / ('left', 'right')[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    return tmp_path / 'images'


@pytest.fixture
def run(run_tool, capsys):
    """Run the tool in this process; gives its exit code or message, and what it printed."""

    def run(*arguments):
        return run_tool('gallery.py', *arguments), capsys.readouterr().out

    return run


@pytest.fixture
def index(run, search_files, tmp_path):
    """Fill the gallery in ``g``."""
    return lambda *arguments: run(
        'index', *search_files, *arguments, '--gallery', tmp_path / 'g', '--num-workers', 0, '--device', 'cpu'
    )


@pytest.fixture
def runs(monkeypatch):
    """Number of images of each call of the model."""
    detect, numbers = SearchModel.detect_prepared, []
    monkeypatch.setattr(
        SearchModel, 'detect_prepared', lambda model, batch: (numbers.append(len(batch)), detect(model, batch))[1]
    )
    return numbers


def test_new_and_changed_images_are_run(index, images, runs, tmp_path, search_files):
    code, output = index(images, '--camera-folders', '--batch-size', 4)
    assert (code, sum(runs), max(runs)) == (0, 12, 4)
    assert output.splitlines()[-2:] == [
        'rank 0 of 1: 12 images added',
        f'{tmp_path}/g: 12 images, 36 detections',
    ]
    gallery = Gallery(tmp_path / 'g')
    names = sorted(map(str, images.glob('*/*')))
    assert gallery.images() == names
    detected = PersonSearchInferencer(*search_files, device='cpu', show_progress=False).detect(names, score_thr=0)
    for scene in detected.scenes:
        assert gallery[scene.name].boxes == pytest.approx(scene.people.boxes, abs=1e-3)
        assert gallery[scene.name].embeddings == pytest.approx(scene.people.embeddings, abs=1e-3)  # half precision
    (hits,) = gallery.search(gallery[names[0]].embeddings[:1], 99, camera='left')
    assert {name.split('/')[-2] for name in hits.images} == {'left'}
    assert len(hits) == 18
    del runs[:]
    assert index(images)[0] == 0
    assert runs == []
    shutil.copy(names[0], images / 'new.jpg')
    os.utime(names[1])
    assert index(images)[0] == 0
    assert sum(runs) == 2
    assert len(gallery) == 13


def test_the_model_is_run_by_onnxruntime(run, images, tmp_path, search_files):
    """In single precision the gallery is that of the model in PyTorch; in another precision it is another model's."""
    pytest.importorskip('onnxruntime')
    command = ['index', *search_files, images, '--gallery', tmp_path / 'g', '--num-workers', 0]
    assert run(*command, '--backend', 'onnxruntime')[0] == 0
    searcher = SearchModel(load_config(search_files[0]), search_files[1], 'cpu')
    gallery = Gallery(tmp_path / 'g', searcher.key)
    assert (len(gallery), gallery.count()) == (12, 36)
    code, _ = run(*command, '--precision', 'bf16', '--device', 'cpu')
    assert 'was made by another model' in code


def test_videos_lists_and_times(index, images, tmp_path):
    names = sorted(map(str, images.glob('*/*')))
    shape = cv2.imread(names[0]).shape[1::-1]
    writer = cv2.VideoWriter(str(tmp_path / 'cam.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, shape)
    for name in names[:6]:
        writer.write(cv2.resize(cv2.imread(name), shape))
    writer.release()
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = '1970:01:01 00:01:40'
    Image.open(names[0]).save(tmp_path / 'photo.jpg', exif=exif)
    (tmp_path / 'bad.jpg').write_bytes(b'no image')
    (tmp_path / 'list.txt').write_text(f'{tmp_path}/cam.avi\n\n{tmp_path}/photo.jpg\n{tmp_path}/bad.jpg\n')
    code, _ = index(tmp_path / 'list.txt', '--frame-stride', 2, '--video-start', '1970-01-01T00:01:00')
    assert code == 0
    gallery = Gallery(tmp_path / 'g')
    assert gallery.images() == [f'{tmp_path}/cam.avi#{number}' for number in (0, 2, 4)] + [f'{tmp_path}/photo.jpg']
    query = np.ones((1, gallery.dim), np.float32)
    (hits,) = gallery.search(query, 99)
    times = dict(zip(hits.images, hits.times.tolist(), strict=True))
    assert list(dict(sorted(times.items())).values()) == pytest.approx([60, 60.2, 60.4, 100])
    assert set(gallery.search(query, 99, after=60.1, before=99)[0].images) == {
        f'{tmp_path}/cam.avi#2',
        f'{tmp_path}/cam.avi#4',
    }


def test_ranks_take_their_shares(index, images, runs, tmp_path, monkeypatch):
    for launcher, names in (('pytorch', ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')), ('slurm', None)):
        names = names or ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID')
        shutil.rmtree(tmp_path / 'g', ignore_errors=True)
        del runs[:]
        for rank in (0, 1, 2):
            for name, value in zip(names, (rank, 3, rank), strict=True):
                monkeypatch.setenv(name, str(value))
            code, output = index(images, '--launcher', launcher)
            assert (code, output.splitlines()[-1]) == (0, f'rank {rank} of 3: 4 images added')
        assert (len(Gallery(tmp_path / 'g')), sum(runs)) == (12, 12)
    monkeypatch.delenv('SLURM_NTASKS')
    assert index(images, '--launcher', 'slurm')[0] == (
        'error: --launcher slurm, but SLURM_NTASKS is not set: start the tool by it'
    )


def test_maintenance(index, run, images, tmp_path):
    assert index(images, '--camera-folders')[0] == 0
    gallery, name = tmp_path / 'g', sorted(images.glob('left/*'))[0]
    assert run('remove', gallery, name)[1] == '1 images removed, 11 kept\n'
    shutil.rmtree(images / 'right')
    assert run('prune', gallery)[1] == '6 images removed, 5 kept\n'
    assert run('optimize', gallery)[0] == 0
    info = json.loads(run('info', gallery)[1])
    assert (info['images'], info['detections'], info['dim'], info['score_thr']) == (5, 15, 16, 0.0)
    assert run('export', gallery, tmp_path / 'g.npz')[0] == 0
    assert run('import', tmp_path / 'g.npz', tmp_path / 'copy')[1] == '5 images read\n'
    assert Gallery(tmp_path / 'copy').images() == Gallery(gallery).images()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['info', '{}/absent'], 'there is no gallery {}/absent: tools/gallery.py index makes one'),
        (['remove', '{}/other', 'a.jpg'], 'has no image'),
        (['export', '{}/other', 'g.doc'], 'cannot export to g.doc: choose a name that ends with .npz, .csv, .parquet'),
        (['index', '{files}', '{}/images', '--gallery', '{}/other'], 'was made by another model'),
        (['index', '{files}', '{}/absent.txt', '--gallery', '{}/g'], 'absent.txt cannot be read: No such file'),
        (
            ['index', '{files}', '{}/images', '--gallery', '{}/g', '--batch-size', '0'],
            '--batch-size must be at least 1',
        ),
    ],
)
def test_bad_input_is_one_line(run, images, tmp_path, search_files, arguments, message):
    from mmps_kd.gallery import Detections, GalleryImage

    one = Detections(np.zeros((1, 4), 'f'), np.ones(1, 'f'), np.ones((1, 16), 'f'))
    Gallery(tmp_path / 'other', 'other').add([GalleryImage('x', 's', one)])
    words = [word for a in arguments for word in (map(str, search_files) if a == '{files}' else [a.format(tmp_path)])]
    line = run(*words)[0]
    assert line.startswith('error: ')
    assert message.format(tmp_path) in line
    assert '\n' not in line


@pytest.mark.slow
def test_a_killed_process_goes_on(repo_root, search_files, images, tmp_path):
    """Also with processes that decode. Images are added one by one here, and printed when they are there."""
    command = [sys.executable, repo_root / 'tools/gallery.py', 'index', *search_files, images]
    command += ['--gallery', tmp_path / 'g', '--num-workers', '1', '--commit-seconds', '0', '--device', 'cpu']
    env = {**os.environ, 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        added = 0
        for line in process.stdout:
            added = int(line.split()[-3]) if line.endswith('images added\n') else added
            if added >= 3:
                process.kill()
    time.sleep(1)
    assert len(Gallery(tmp_path / 'g')) >= added
    subprocess.run(command, env=env, check=True, capture_output=True)
    gallery = Gallery(tmp_path / 'g')
    assert gallery.images() == sorted(map(str, images.glob('*/*')))
    assert gallery.count() == 36
