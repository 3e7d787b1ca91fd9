"""The page that searches a gallery: its functions, its HTTP port, the tool as a process, and the page in Chromium."""

import contextlib
import http.client
import json
import logging
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from chromium import CHROMIUM, Browser
from PIL import Image

import mmps_kd.apis.app as app_module
from mmps_kd.apis.app import Photo, SearchApp, Session, build_page, launch
from mmps_kd.apis.inferencer import SearchModel, fuse
from mmps_kd.apis.init_model import load_config
from mmps_kd.errors import UserError
from mmps_kd.evaluation.functional import read_marks
from mmps_kd.gallery import Detections, Gallery, GalleryImage

NOON = 1714996800.0  # 2024-05-06T12:00:00


@pytest.fixture(scope='module')
def model(search_files):
    config, checkpoint = search_files
    return SearchModel(load_config(config), checkpoint, 'cpu')


@pytest.fixture(scope='module')
def images(tiny_cuhk_sysu, tmp_path_factory):
    """Six images of two cameras, taken at noon, a minute later, and so on."""
    folder, files = tmp_path_factory.mktemp('app'), []
    for number, path in enumerate(sorted((tiny_cuhk_sysu / 'Image/SSM').iterdir())[:6]):
        files.append(folder / ('left', 'right')[number % 2] / path.name)
        files[-1].parent.mkdir(exist_ok=True)
        shutil.copy(path, files[-1])
    return files


@pytest.fixture(scope='module')
def fill(model, images):
    """Fill a gallery with three people of each image."""

    def fill(uri, engine='numpy'):
        gallery = Gallery(uri, model.key, model.dim, dtype='float32', engine=engine)
        found = model.detect([cv2.imread(str(file)) for file in images])
        added = [
            GalleryImage(str(file), 'stamp', people, file.parent.name, NOON + 60 * number)
            for number, (file, people) in enumerate(zip(images, found, strict=True))
        ]
        gallery.add(added)
        return gallery

    return fill


@pytest.fixture
def app(model, fill):
    return SearchApp(model, fill(None), score_thr=0)


@pytest.fixture
def session():
    return Session()


def test_click_selects_the_smallest_box_around_it():
    boxes = np.array([[10, 10, 60, 150], [20, 20, 50, 100], [200, 10, 300, 190]], np.float32)
    people = Detections(boxes, np.ones(3, np.float32), np.zeros((3, 4), np.float32))
    photo = Photo('a.jpg', people, np.zeros((200, 400, 3), np.uint8), boxes, [])
    height, width = photo.draw().shape[:2]
    assert width == 1200  # enlarged threefold, with the heading above
    heading = height - 600
    for x, y, selected in [
        (30, 60, {1}),  # in boxes 0 and 1
        (15, 60, {0, 1}),
        (250, 188, {0, 1, 2}),
        (30, 60, {0, 2}),  # again
        (390, 5, {0, 2}),  # nobody
    ]:
        photo.click(3 * x, 3 * y + heading)
        assert photo.selected == selected
    photo.click(3 * 250, heading / 2)
    assert photo.selected == {0, 2}


def test_several_boxes_of_several_photographs_are_one_query(app, session, images):
    app.add_photo(session, str(images[0]))
    app.add_photo(session, str(images[3]))
    first, second = session.photos
    assert [photo.name for photo in session.photos] == [images[0].name, images[3].name]
    first.selected, second.selected = {0, 2}, {1}
    app.search(session, topk=5)
    query = fuse(np.stack([*first.people.embeddings[[0, 2]], second.people.embeddings[1]]))
    (expected,) = app.gallery.search(query[None], 5)
    assert [hit.name for hit in session.hits] == expected.images
    assert [hit.similarity for hit in session.hits] == expected.similarities.tolist()
    first.selected, second.selected = {0}, set()
    app.search(session, topk=1)
    (hit,) = session.hits
    assert (hit.name, hit.camera, hit.time) == (str(images[0]), 'left', NOON)
    assert hit.similarity == pytest.approx(1, abs=1e-4)
    assert hit.box == pytest.approx(first.people.boxes[0], abs=1e-3)


def test_conditions(app, session, images):
    app.add_photo(session, str(images[0]))
    session.photos[0].selected = {0}
    app.search(session, cameras=['right'], topk=100)
    assert {hit.name for hit in session.hits} == {str(file) for file in images[1::2]}
    app.search(session, after='2024-05-06T12:01:00', before=str(NOON + 180), topk=100)
    assert {hit.name for hit in session.hits} == {str(images[1]), str(images[2])}
    app.search(session, topk=100)
    assert len(session.hits) == 18
    least = session.hits[5].similarity
    app.search(session, least=least, topk=100)
    assert min(hit.similarity for hit in session.hits) == least
    app.search(session, least=1.0, before='2024-05-06T11:00:00')
    assert session.hits == []
    with pytest.raises(UserError, match='noon is no time: write 2024-05-06T07:08:09'):
        app.search(session, after='noon')
    session.photos[0].selected = set()
    with pytest.raises(UserError, match='nobody is selected'):
        app.search(session)


def test_turned_photograph(app, session, images, tmp_path):
    turned, exif = Image.open(images[0]).transpose(Image.Transpose.ROTATE_90), Image.Exif()
    exif[0x0112] = 6  # a viewer turns it back
    turned.save(tmp_path / 'turned.png', exif=exif)
    app.add_photo(session, str(images[0]))
    app.add_photo(session, str(tmp_path / 'turned.png'))
    plain, turned = session.photos
    assert np.array_equal(plain.picture, turned.picture)
    assert turned.boxes == pytest.approx(plain.boxes, abs=1e-3)
    x1, y1, x2, y2 = plain.people.boxes.T
    width = Image.open(images[0]).width
    assert turned.people.boxes == pytest.approx(np.stack([y1, width - x2, y2, width - x1], 1), abs=1e-3)
    app.gallery.add([GalleryImage(str(tmp_path / 'turned.png'), 's', turned.people)])
    plain.selected = {0}
    app.search(session, topk=2)
    views = [session.views[hit] for hit in session.hits]
    assert np.array_equal(views[0].crop, views[1].crop)
    assert views[1].box == pytest.approx(views[0].box, abs=1e-3)


def test_hit_in_its_image(app, session, images):
    app.add_photo(session, str(images[0]))
    session.photos[0].selected = {0}
    app.search(session)
    picture, known = app.open_hit(session, 0)
    assert picture.shape == session.photos[0].draw().shape
    box = ' '.join(f'{side:g}' for side in session.hits[0].key[1:])
    time = '2024-05-06 12:00:00'
    assert known == dict(Similarity='1.000', Image=str(images[0]), Camera='left', Time=time, Box=box)
    crop = session.views[session.hits[0]].crop
    x1, y1, x2, y2 = session.hits[0].box
    assert crop.width / crop.height == pytest.approx((x2 - x1) / (y2 - y1), rel=0.35)  # whole, with some context


def test_image_that_cannot_be_shown(app, session, images, tmp_path, model):
    found = app.gallery[str(images[0])]
    (tmp_path / 'damaged.jpg').write_bytes(b'no image')
    (tmp_path / 'link.jpg').symlink_to(images[1])
    shutil.copy(images[1], tmp_path / 'inside.jpg')
    names = ('gone.jpg', 'damaged.jpg', 'link.jpg', 'inside.jpg', 'gone.mp4#7')
    app.gallery.add([GalleryImage(str(tmp_path / name), 's', found) for name in names])
    app = SearchApp(model, app.gallery, 0, roots=[tmp_path])
    app.add_photo(session, str(images[0]))
    session.photos[0].selected = {0}
    app.search(session, topk=6)
    shown = {}
    for number, hit in enumerate(session.hits):
        picture, known = app.open_hit(session, number)
        assert (picture is None) == (hit not in session.views) == ('Not shown' in known)
        shown[Path(hit.name).name] = known.get('Not shown')
    outside = 'it is in no folder of --root'
    assert shown == {
        'gone.jpg': 'its file is gone',
        'damaged.jpg': 'it cannot be read',
        'link.jpg': outside,
        'inside.jpg': None,
        'gone.mp4#7': 'its file is gone',
        images[0].name: outside,
    }


def test_frames_of_a_video(app, session, images, tmp_path):
    path = str(tmp_path / 'cam.avi')
    video = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*'MJPG'), 10, (320, 240))
    for grey in (0, 80, 160, 240):
        video.write(np.full((240, 320, 3), grey, np.uint8))
    video.release()
    found = app.gallery[str(images[0])]
    app.gallery.add([GalleryImage(f'{path}#{number}', 's', found, time=number / 10) for number in (1, 3, 9)])
    app.add_photo(session, str(images[0]))
    session.photos[0].selected = {0}
    app.search(session, topk=4)
    greys = {hit.name: session.views[hit].picture.mean() for hit in session.hits if hit in session.views}
    assert greys.pop(f'{path}#1') == pytest.approx(80, abs=3)
    assert greys.pop(f'{path}#3') == pytest.approx(240, abs=3)
    assert list(greys) == [str(images[0])]
    (number,) = [number for number, hit in enumerate(session.hits) if hit.name == f'{path}#3']
    assert app.open_hit(session, number)[1]['Time'] == '0.3 s after the start of the video'


def test_photograph_that_is_refused(app, session, images, tmp_path, monkeypatch):
    (tmp_path / 'a.jpg').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'a\.jpg cannot be read as an image'):
        app.add_photo(session, str(tmp_path / 'a.jpg'))
    monkeypatch.setattr(app_module, 'MAX_PIXELS', 1000)
    with pytest.raises(UserError, match='megapixels: at most 100 are read'):
        app.add_photo(session, str(images[0]))
    assert session.photos == []


def score(marks, repo_root, monkeypatch, capsys, *options):
    """What tools/eval_results.py says of marks."""
    monkeypatch.setattr(sys, 'argv', ['eval_results.py', 'marks', str(marks), *map(str, options)])
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(repo_root / 'tools/eval_results.py'), run_name='__main__')
    assert stopped.value.code == 0
    return capsys.readouterr().out


def test_marks_are_those_of_a_report(app, session, images, tmp_path, repo_root, monkeypatch, capsys):
    app.add_photo(session, str(images[0]))
    photo = session.photos[0]
    photo.selected = {0}
    app.search(session, topk=4)
    session.hits[0].mark, session.hits[1].mark = 'right', 'wrong'
    photo.selected = {1}
    app.search(session, topk=4)
    photo.selected = {0}
    app.search(session, topk=3)
    assert [hit.mark for hit in session.hits] == ['right', 'wrong', None]
    marks = app.marks(session)
    (tmp_path / 'marks.json').write_text(json.dumps(marks))
    (read,) = read_marks([tmp_path / 'marks.json'])
    ((query,), found) = read.queries, app.gallery[str(images[0])]
    assert query.query == ((images[0].name, tuple(round(x, 2) for x in photo.people.boxes[0].tolist())),)
    assert query.marks == (True, False, None)
    assert set(query.hits) <= set(read.people)
    assert [name for name, _ in read.people].count(str(images[0])) == len(found)
    options = ('--topk', 1, 3, '--out', tmp_path / 'figures.json')
    output = score(tmp_path / 'marks.json', repo_root, monkeypatch, capsys, *options)
    assert re.search(rf'{images[0].name} +\| 100.0 \(1\) +\| 50.0 \(2\)', output)
    assert json.loads((tmp_path / 'figures.json').read_text())['precision3'] == 0.5
    session.hits[2].mark = 'right'
    assert app.marks(session)['report'] == marks['report']  # two people's marks of the same hits can be joined


@pytest.fixture(scope='module')
def served(model, fill, tmp_path_factory):
    """Address of the page, whose uploads of more than 1 MB are refused."""
    pytest.importorskip('gradio')
    folder = tmp_path_factory.mktemp('served')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('GRADIO_TEMP_DIR', str(folder))
        patch.setenv('no_proxy', '127.0.0.1')
        page = build_page(SearchApp(model, fill(None), score_thr=0))
        launch(page, '127.0.0.1', free_port(), 1)
        yield page.local_url
        page.close()


def free_port():
    with contextlib.closing(socket.socket()) as listener:
        listener.bind(('127.0.0.1', 0))
        return listener.getsockname()[1]


def ask(url, method, path, body=None, headers=None):
    """Status and body of an answer; the path is sent as it is."""
    connection = http.client.HTTPConnection(*url.split('/')[2].split(':'), timeout=120)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    return answer.status, answer.read().decode(errors='replace')


def upload(url, content, name='a.jpg'):
    body = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode() + content
    headers = {'Content-Type': 'multipart/form-data; boundary=x'}
    return ask(url, 'POST', '/gradio_api/upload', body + b'\r\n--x--\r\n', headers)


def test_page_names_no_other_host(served):
    status, page = ask(served, 'GET', '/')
    assert status == 200
    loaded = re.findall(r'(?:src|href)="([^"]*)"|@import[^;]*|url\(([^)]*)\)', page)
    assert loaded
    assert [address for pair in loaded for address in pair if address.startswith(('http', '//'))] == []
    status, config = ask(served, 'GET', '/config')
    config = json.loads(config)
    assert (config['analytics_enabled'], config['footer_links']) == (False, [])
    status, theme = ask(served, 'GET', '/theme.css')
    assert re.findall(r'@import|url\(["\']?(?:https?:)?//', theme) == []


@pytest.mark.parametrize('prefix', ['', 'left/../'])
def test_no_file_of_the_machine_is_served(served, images, prefix):
    folder = images[0].parents[1]
    for path in (f'{folder}/{prefix}left/{images[0].name}', '/etc/passwd', '../../../etc/passwd', str(Path(__file__))):
        status, body = ask(served, 'GET', f'/gradio_api/file={path}')
        assert status in (403, 404), path
        assert 'root:' not in body


def test_only_uploaded_files_are_read(served, images):
    (uploaded,) = json.loads(upload(served, images[0].read_bytes())[1])
    assert add_photo(served, uploaded, 'one') == [True]
    assert add_photo(served, str(images[0]), 'other') == [False]


def add_photo(url, path, visitor):
    """Claim to have uploaded a file of the server; gives whether that was taken."""
    config = json.loads(ask(url, 'GET', '/config')[1])
    (number,) = [entry['id'] for entry in config['dependencies'] if entry['api_name'] == 'add']
    files = [dict(path=path, meta=dict(_type='gradio.FileData'))]
    call = json.dumps(dict(data=[None, files], fn_index=number, session_hash=visitor))
    assert ask(url, 'POST', '/gradio_api/queue/join', call, {'Content-Type': 'application/json'})[0] == 200
    _, events = ask(url, 'GET', f'/gradio_api/queue/data?session_hash={visitor}')
    messages = [json.loads(line.removeprefix('data: ')) for line in events.splitlines() if line.startswith('data: ')]
    return [message['success'] for message in messages if message['msg'] == 'process_completed']


def test_large_upload_is_refused(served):
    assert upload(served, bytes(500_000))[0] == 200
    assert upload(served, bytes(1_500_000))[0] == 413


def test_log_files_stay_open(model, fill, tmp_path):
    """uvicorn's own set-up of logging would close them, MMEngine's among them."""
    pytest.importorskip('gradio')
    log = logging.FileHandler(tmp_path / 'log')
    page = build_page(SearchApp(model, fill(None)))
    launch(page, '127.0.0.1', free_port(), 1)
    page.close()
    assert log.stream is not None
    log.close()


def test_port_that_is_taken(served, model, fill):
    page = build_page(SearchApp(model, fill(None)))
    port = int(served.split(':')[2].strip('/'))
    with pytest.raises(UserError, match=f'cannot listen at 127.0.0.1, port {port}: '):
        launch(page, '127.0.0.1', port, 1)


@pytest.fixture
def run(monkeypatch, repo_root, search_files):
    """Run the tool in this process; gives what it ends with."""

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', ['app.py', *map(str, [*search_files, *arguments])])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(repo_root / 'tools/app.py'), run_name='__main__')
        return stopped.value.code

    return run


def test_one_line_for_each_error(run, tmp_path, fill, monkeypatch):
    pytest.importorskip('gradio')
    gallery = tmp_path / 'g'
    assert run('--gallery', gallery) == f'error: there is no gallery {gallery}: tools/gallery.py index makes one'
    fill(gallery)
    options = ('--gallery', gallery, '--device', 'cpu')
    assert run(*options, '--root', tmp_path / 'none') == f'error: --root {tmp_path}/none is no folder'
    code = run(*options, '--cfg-options', 'model.test_cfg.rcnn.max_per_img=2')
    assert code.startswith(f'error: gallery {gallery} was made by another model (')
    monkeypatch.setattr('importlib.util.find_spec', lambda name: None)
    assert run(*options) == "error: the page needs gradio: pip install 'mmps_kd[app]'"


@pytest.fixture
def process(repo_root, search_files, fill, tmp_path):
    """The tool as a process: its address and the process."""
    pytest.importorskip('gradio')
    fill(tmp_path / 'g')
    (tmp_path / 'temporary').mkdir()
    command = [sys.executable, repo_root / 'tools/app.py', *search_files, '--gallery', tmp_path / 'g']
    command += ['--device', 'cpu', '--score-thr', '0', '--port', str(free_port())]
    variables = dict(os.environ, TMPDIR=str(tmp_path / 'temporary'), no_proxy='127.0.0.1')
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True, env=variables) as process:
        line = process.stdout.readline()
        assert 'shows the page; Ctrl-C stops it' in line
        yield line.split()[0], process
        process.kill()


@pytest.mark.slow
def test_process_listens_at_loopback_and_stops_at_a_signal(process, tmp_path):
    url, running = process
    port = int(url.split(':')[2].strip('/'))
    listening = [line.split() for line in Path('/proc/net/tcp').read_text().splitlines()[1:]]
    assert [row[1] for row in listening if row[3] == '0A' and row[1].endswith(f':{port:04X}')] == [
        f'0100007F:{port:04X}'
    ]
    assert ask(url, 'GET', '/')[0] == 200
    assert list((tmp_path / 'temporary').glob('mmps_kd_app_*'))
    running.send_signal(signal.SIGTERM)
    assert running.wait(300) == 0
    assert list((tmp_path / 'temporary').glob('mmps_kd_app_*')) == []


def place_of_a_person(app, file):
    """In shares of width and height of the photograph as the page shows it."""
    session = Session()
    app.add_photo(session, str(file))
    (photo,) = session.photos
    height, width = photo.draw().shape[:2]
    (x1, y1, x2, y2), factor = photo.boxes[0], width / photo.picture.shape[1]
    return (x1 + x2) / 2 * factor / width, 1 - (photo.picture.shape[0] - (y1 + y2) / 2) * factor / height


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium: install the package chromium')
@pytest.mark.parametrize('width', [390, 1280])
def test_page_in_chromium(process, app, images, tmp_path, width, repo_root, monkeypatch, capsys):
    url, _ = process
    with contextlib.closing(Browser(tmp_path / 'profile', width)) as browser:
        browser.call('Page.navigate', url=url)
        browser.wait("document.querySelector('input[type=file]') !== null")
        browser.upload('input[type=file]', images[0], images[3])
        browser.wait("document.querySelector('.image-frame img')?.naturalWidth")
        browser.click('.image-frame img', place_of_a_person(app, images[3]))
        count = "document.querySelectorAll('#query .thumbnail-item').length"
        browser.wait(f'{count} === 1')
        browser.js("[...document.querySelectorAll('button')].find((b) => b.innerText === 'Search').click()")
        hits = "[...document.querySelectorAll('#hits .caption-label')].map((label) => label.innerText)"
        browser.wait(f'{hits}.length')
        captions = browser.js(hits)
        assert len(captions) == 18
        assert captions[0] == '1 · 1.000'
        assert browser.js("getComputedStyle(document.querySelector('#hits img')).objectFit") == 'contain'
        browser.click('#hits .thumbnail-item')
        browser.wait("document.querySelector('#hit img') !== null && document.querySelector('#known dd') !== null")
        assert browser.js("document.querySelector('#known').innerText").splitlines()[:2] == ['Similarity', '1.000']
        browser.click('#hit input[value=right]')
        browser.wait(f"{hits}[0] === '1 · 1.000 ✓'")
        browser.screenshot(tmp_path / 'page.png')
        browser.call('Page.setDownloadBehavior', behavior='allow', downloadPath=str(tmp_path / 'saved'))
        browser.wait("[...document.querySelectorAll('button')].some((b) => b.innerText.includes('Save marks (1)'))")
        browser.js("[...document.querySelectorAll('button')].find((b) => b.innerText.includes('Save marks')).click()")
        for _ in range(3000):
            if (tmp_path / 'saved/marks.json').exists():
                break
            time.sleep(0.1)
        assert browser.js('document.documentElement.scrollWidth - innerWidth') <= 0
        asked = {address.split('/')[2] for address in browser.requests if address.startswith(('http', 'ws'))}
        assert asked == {url.split('/')[2]}
        assert browser.errors == []
    assert '100.0 (1)' in score(tmp_path / 'saved/marks.json', repo_root, monkeypatch, capsys)
