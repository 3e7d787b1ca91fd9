"""HTML reports: read with html.parser, and opened in Chromium where it is installed."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from mmps_kd.structures import RankedBoxes
from mmps_kd.visualization.report import (
    EvaluatedQuery,
    GalleryPeople,
    QueryImage,
    evaluation_report,
    quantize,
    search_report,
    write_report,
)

CHROMIUM = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
NASTY = '</script><b>"\'&{{data}}.jpg'
# Four people of image 0 (the nasty name), three of image 1, one of image 2. Person 0 is most like 4, then 7.
VECTORS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1], [0.96, 0.28], [0, 1], [-0.6, 0.8], [0.8, 0.6]], np.float32)
OWNERS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
BOXES = np.array([[10 * i, 5, 10 * i + 8, 45.5] for i in range(8)], np.float32)


class Page(HTMLParser):
    """Tags with their attributes, and the text of scripts by id."""

    VOID = ('meta', 'img', 'input', 'line')

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self.stack, self.inside = [], {}, [], None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append((tag, attrs))
        if tag not in self.VOID:
            self.stack.append(tag)
        if tag == 'script':
            self.inside = attrs.get('id', 'page')

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag
        self.inside = None

    def handle_data(self, data):
        if self.inside:
            self.scripts[self.inside] = self.scripts.get(self.inside, '') + data

    def of(self, tag, **attributes):
        return [attrs for name, attrs in self.tags if name == tag and attributes.items() <= attrs.items()]

    def cards(self):
        return [attrs for name, attrs in self.tags if name == 'li']

    @property
    def data(self):
        return json.loads(self.scripts['report-data'])


def image(seed, size=(60, 90)):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def make(folder, embeddings=VECTORS, hits=(0, 4, 7), **more):
    """A report of a search; its images are in the folder's cams/."""
    names = [str(folder / 'cams/a' / NASTY), str(folder / 'cams/b/1.jpg'), str(folder / 'cams/b/2.jpg')]
    people = GalleryPeople(names, OWNERS, BOXES, embeddings, ['a', 'b', 'b'], ['', '12:00', ''])

    def read(wanted):
        assert wanted <= set(names)
        return ((name, image(seed), 1) for seed, name in enumerate(names) if name in wanted)

    query = QueryImage(str(folder / 'query "1".jpg'), image(9), np.array([[20.0, 5, 30, 50]]))
    numbers = dict(num_people=8, num_images=3, topk=3) | more
    return search_report(folder, [query], people, list(hits), [0.9, 0.8, 0.4][: len(hits)], read, **numbers)


def test_one_file_with_a_crop_for_each_hit(tmp_path):
    page = Page(make(tmp_path))
    assert page.stack == []
    hits = [card for card in page.cards() if 'data-person' in card]
    assert [(card['data-person'], card['data-label']) for card in hits] == [('0', '1'), ('4', '2'), ('7', '3')]
    images = page.of('img')
    assert len(images) == 4  # and the query
    assert all(attrs['src'].startswith('data:image/jpeg;base64,') for attrs in images)
    assert [attrs for _, attrs in page.tags if attrs.get('src', 'data:')[:5] != 'data:' or 'href' in attrs] == []
    assert [row[:5] for row in page.data['people']] == [
        [owner, *box] for owner, box in zip(OWNERS.tolist(), BOXES.tolist(), strict=True)
    ]
    assert page.data['rankings'][0]['hits'] == [[0, 0.9], [4, 0.8], [7, 0.4]]
    assert [entry['path'] for entry in page.data['images'][1:]] == ['cams/b/1.jpg', 'cams/b/2.jpg', 'query "1".jpg']
    labels = [attrs for attrs in page.of('button') if 'aria-label' in attrs]
    assert all(attrs['type'] == 'button' for attrs in page.of('button'))
    assert labels[1]['aria-label'] == f'1 in {NASTY.split("/")[-1]}: show the image'


def test_names_do_not_end_the_script(tmp_path):
    html = make(tmp_path)
    page = Page(html)
    assert page.data['images'][0]['path'] == f'cams/a/{NASTY}'
    assert page.of('b') == [{}] * 5  # the numbers of query and hits, and that of the template
    assert '<b>"' not in html


def test_equal_input_gives_an_equal_file_wherever_it_is(tmp_path):
    one, other = make(tmp_path / 'one'), make(tmp_path / 'other')
    assert one == other
    report = Page(one).of('meta', name='mmps-kd-report')[0]['content']
    assert len(report) == 16
    assert Page(make(tmp_path, hits=(0, 4))).of('meta', name='mmps-kd-report')[0]['content'] != report


def test_undecodable_name_is_written(tmp_path):
    write_report(tmp_path / 'report.html', '<p>\udcff</p>')
    assert (tmp_path / 'report.html').read_text() == '<p>?</p>'


def test_embeddings_keep_their_similarities():
    vectors = np.random.default_rng(0).standard_normal((50, 64)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[7] = 0
    small, scales = quantize(vectors)
    assert small.dtype == np.int8
    restored = small * scales[:, None]
    assert np.abs(restored @ restored.T - vectors @ vectors.T).max() < 0.01
    assert not restored[7].any()


def test_without_embeddings_the_report_says_so(tmp_path):
    html = make(tmp_path, embeddings=None, num_people=60_000)
    assert 'This report does not hold the embeddings: the gallery has more than 50,000 people' in html
    page = Page(html)
    assert 'dims' not in page.data
    assert 'report-embeddings' not in page.scripts


def test_crops_that_one_click_finds_are_in(tmp_path):
    # Of all 8 people, who all are in images that are shown; those of the hits are in their cards.
    assert sorted(map(int, Page(make(tmp_path)).data['crops'])) == [1, 2, 3, 5, 6]


def test_nobody_found(tmp_path):
    html = make(tmp_path, hits=(), min_similarity=0.95)
    assert 'of 8 people in 3 images nobody has a similarity of at least 0.95' in html
    assert [card for card in Page(html).cards() if 'data-person' in card] == []


def test_turned_photograph(tmp_path):
    people = GalleryPeople(['a.jpg'], np.array([0]), np.array([[10.0, 20, 30, 40]]), VECTORS[:1], [''], [''])
    # Orientation 6: stored 90 x 60 (width x height), upright 60 wide and 90 high; x = 60 - y, y = x.
    read = lambda wanted: [('a.jpg', image(0, (90, 60)), 6)]  # noqa: E731
    query = QueryImage('q.jpg', image(1, (90, 60)), np.array([[10.0, 20, 30, 40]]), 6)
    html = search_report(tmp_path, [query], people, [0], [1.0], read, num_people=1, num_images=1, topk=1)
    data = Page(html).data
    assert data['people'] == [[0, 10, 20, 30, 40]]
    assert data['upright'] == {'0': [20, 10, 40, 30]}
    assert data['rankings'][0]['queries'] == [dict(image=1, box=[20, 10, 40, 30], stored=[10, 20, 30, 40])]


def evaluation(folder):
    names = np.array([str(folder / name) for name in ('1.jpg', '<2>.jpg')])
    ranked = RankedBoxes(names, BOXES[:2], np.ones(2), np.array([0.9, 0.5]), np.array([False, True]), 3)
    missed = [(str(folder / '3.jpg'), BOXES[2], 15), (str(folder / '1.jpg'), BOXES[3], None)]
    query = EvaluatedQuery(7, str(folder / 'q.jpg'), BOXES[0], 0.25, 2, ranked, missed)
    curve = ('Precision', 'recall', 'precision', np.array([0, 0.5, 1]), np.array([1, 0.5, 0]))
    read = lambda wanted: ((name, image(0), 1) for name in sorted(wanted))  # noqa: E731
    ranks = ('Right hit', 'k', 'top-k', np.arange(1, 51), np.ones(50))
    return evaluation_report(folder, 'oim & co', dict(mAP=0.4567, AP=1.0), [curve, ranks], [query], 9, read)


def test_evaluation(tmp_path):
    html = evaluation(tmp_path)
    page = Page(html)
    assert page.stack == []
    kinds = [card['class'] for card in page.cards() if 'data-person' in card]
    assert kinds == ['card asked', 'card wrong', 'card right', 'card missed', 'card missed']
    assert 'AP 25.0 %, first right hit at rank 2, 1 of 3 found among the 2 most similar' in html
    assert '<dt>mAP</dt><dd>45.7' in html
    assert '>rank 15<' in html
    assert '>not detected<' in html
    assert page.of('polyline')[0]['points'] == '44.0,8.0 194.0,93.0 344.0,178.0'
    assert re.findall('text-anchor="middle">(.*?)<', html) == ['0', '0.5', '1', 'recall', '1', '26', '50', 'k']
    assert 'oim &amp; co' in html
    assert html == evaluation(tmp_path)


CLICKS = """
<script>
const click = (selector, root = document) => root.querySelector(selector).click();
const key = (target, key) => target.dispatchEvent(new KeyboardEvent('keydown', {key, bubbles: true}));
const cards = () => [...document.querySelectorAll('section:not([hidden]) .hits .card')];
const seen = {};
let blob;
URL.createObjectURL = (given) => { blob = given; return 'blob:none'; };
HTMLAnchorElement.prototype.click = () => {};
setTimeout(async () => {
  seen.hits = cards().length;
  click('button[data-mark=right]', cards()[0]);
  key(cards()[1].querySelector('.crop'), 'w');
  key(cards()[2].querySelector('.crop'), 'R');
  key(cards()[2].querySelector('.crop'), 'u');
  seen.marked = document.getElementById('marked').textContent;
  seen.pressed = cards().map((card) => card.querySelector('[data-mark=right]').getAttribute('aria-pressed'));
  const slider = document.getElementById('threshold');
  slider.value = 0.5; slider.oninput();
  seen.above = cards().filter((card) => !card.hidden).length;
  slider.value = slider.min; slider.oninput();
  const camera = document.getElementById('camera');
  seen.cameras = [...camera.options].map((option) => option.text);
  camera.value = '=b'; camera.onchange();
  seen.ofCamera = cards().map((card) => card.hidden);
  camera.value = ''; camera.onchange();
  key(cards()[0].querySelector('.crop'), 'ArrowRight');
  seen.focus = cards().indexOf(document.activeElement.closest('.card'));
  click('.crop', cards()[0]);
  await new Promise((done) => setTimeout(done, 300));
  seen.title = document.getElementById('viewer-title').textContent;
  seen.boxes = document.querySelectorAll('#frame button.box').length;
  key(document.getElementById('viewer'), 'ArrowRight');
  await new Promise((done) => setTimeout(done, 300));
  seen.next = document.getElementById('viewer-title').textContent;
  click('#viewer-previous');
  await new Promise((done) => setTimeout(done, 300));
  click('#frame button.box');  // person 1
  await new Promise((done) => setTimeout(done, 300));
  seen.found = cards().map((card) => [card.dataset.person, card.querySelector('.similarity').textContent]);
  seen.tabs = document.querySelectorAll('#tabs button').length;
  seen.pictures = cards().map((card) => card.querySelectorAll('.crop img').length);
  key(cards()[0].querySelector('.crop'), 'r');
  click('#save-marks');
  seen.file = JSON.parse(await blob.text());
  document.body.dataset.seen = JSON.stringify(seen);
}, 0);
</script>
</body>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium: install the package chromium')
def test_page_in_chromium(tmp_path):
    html = make(tmp_path)
    (tmp_path / 'clicked.html').write_text(html.replace('</body>', CLICKS))
    command = [CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    command += ['--virtual-time-budget=10000', '--dump-dom', (tmp_path / 'clicked.html').as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    (body,) = Page(dom).of('body')
    seen = json.loads(body['data-seen'])
    assert seen['hits'] == 3
    assert seen['marked'] == '2 of 3 marked: 1 right, 1 wrong'
    assert seen['pressed'] == ['true', 'false', 'false']
    assert seen['above'] == 2
    assert seen['cameras'] == ['all', 'a', 'b']
    assert seen['ofCamera'] == [True, False, False]
    assert seen['focus'] == 1
    assert seen['title'] == f'1 {NASTY.split("/")[-1]} · a'
    assert seen['boxes'] == 3
    assert seen['next'] == '2 1.jpg · b · 12:00'
    # Person 1 is (0, 1): 5 is equal, 6 has 0.8, 7 has 0.6; the people of its own image are not searched.
    assert [person for person, _ in seen['found']] == ['5', '6', '7']
    assert [float(similarity) for _, similarity in seen['found']] == pytest.approx([1, 0.8, 0.6], abs=0.005)
    assert seen['tabs'] == 2
    assert seen['pictures'] == [1, 1, 1]
    first, second = seen['file']['queries']
    assert first['query'] == [dict(image='query "1".jpg', box=[20, 5, 30, 50])]
    assert [hit['mark'] for hit in first['hits']] == ['right', 'wrong', None]
    assert first['hits'][1] == dict(rank=2, image='cams/b/1.jpg', box=[40, 5, 48, 45.5], similarity=0.8, mark='wrong')
    assert second['query'] == [dict(image=f'cams/a/{NASTY}', box=[10, 5, 18, 45.5])]
    assert [hit['mark'] for hit in second['hits']] == ['right', None, None]
    assert len(seen['file']['people']) == 8
    (tmp_path / 'report.html').write_text(html)
    assert seen['file']['report'] == Page(html).of('meta', name='mmps-kd-report')[0]['content']


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium: install the package chromium')
@pytest.mark.parametrize('width', [390, 1280])
def test_page_fits_its_window(tmp_path, width):
    measure = '<script>document.body.dataset.width = document.documentElement.scrollWidth - innerWidth;</script></body>'
    (tmp_path / 'report.html').write_text(make(tmp_path).replace('</body>', measure))
    command = [CHROMIUM, '--headless=new', '--no-sandbox', '--disable-gpu', f'--user-data-dir={tmp_path / "profile"}']
    command += [f'--window-size={width},900', '--hide-scrollbars', '--dump-dom', (tmp_path / 'report.html').as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600).stdout
    (body,) = Page(dom).of('body')
    assert int(body['data-width']) <= 0


def test_picture_is_scaled_down(tmp_path):
    large = QueryImage('q.jpg', image(0, (1200, 1600)), np.array([[0.0, 0, 100, 1000]]))
    people = GalleryPeople(['a.jpg'], np.array([0]), BOXES[:1], VECTORS[:1], [''], [''])
    read = lambda wanted: [('a.jpg', image(0), 1)]  # noqa: E731
    page = Page(search_report(tmp_path, [large], people, [0], [1.0], read, num_people=1, num_images=1, topk=1))
    assert size_of(page.data['images'][1]['src']) == (800, 600)
    width, height = size_of(page.of('img')[0]['src'])
    assert height == 320
    assert width == round(320 * 180 / 1080)  # the box with 8 % of its longer side around it, as far as there is image


def size_of(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.split(',')[1]))).size
