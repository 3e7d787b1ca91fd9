"""Every config for real data is in a metafile and in the model zoo, with its true number of parameters."""

from pathlib import Path

import pytest
import torch
from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.fileio import load

from mmps_kd.apis.init_model import STUDENTS, plain_student

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('oim', 'qeeps', 'detector', 'kd', 'seqnet', 'nae', 'oimnetpp')
METAFILES = load(ROOT / 'model-index.yml')['Import']
MODELS_LISTED = [model for file in METAFILES for model in load(ROOT / file)['Models']]
METRICS = {'search mAP', 'top-1', 'detection AP', 'recall'}
by_name = pytest.mark.parametrize('model', MODELS_LISTED, ids=lambda model: model['Name'])


def test_every_folder_has_a_metafile():
    assert sorted(METAFILES) == sorted(f'configs/{folder}/metafile.yml' for folder in FOLDERS)


def test_every_config_is_listed_once():
    configs = [str(path.relative_to(ROOT)) for folder in FOLDERS for path in ROOT.glob(f'configs/{folder}/*.py')]
    assert sorted(model['Config'] for model in MODELS_LISTED) == sorted(configs)


@pytest.mark.parametrize('file', METAFILES)
def test_metafile_has_openmmlabs_form(file):
    content = load(ROOT / file)
    assert set(content) == {'Collections', 'Models'}
    (collection,) = content['Collections']
    assert set(collection) == {'Name', 'Paper', 'README'}
    assert set(collection['Paper']) == {'Title', 'URL'}
    assert (ROOT / collection['README']).is_file()
    for model in content['Models']:
        assert set(model) - {'Published'} == {'Name', 'In Collection', 'Config', 'Metadata'}
        assert model['In Collection'] == collection['Name']
        assert (ROOT / model['Config']).parent == (ROOT / file).parent
        assert Path(model['Config']).stem == model['Name']


@by_name
def test_metadata(model):
    cfg, metadata = Config.fromfile(ROOT / model['Config']), model['Metadata']
    distilled = cfg.model.type in STUDENTS
    train = cfg.train_dataloader.dataset
    parts = train.get('datasets', [train.get('dataset', train)])
    names = metadata['Training Data'].split('+')
    assert [part.type for part in parts] == [name.replace('-', '') + 'Dataset' for name in names]
    assert cfg.test_dataloader.dataset.type == parts[0].type
    assert metadata['Epochs'] == cfg.train_cfg.max_epochs
    assert ('Teachers' in metadata) == distilled
    # Parameters at test time: the student's alone.
    if distilled:
        cfg.model = plain_student(cfg.model)
    with torch.device('meta'):
        built = MODELS.build(cfg.model)
    assert sum(parameter.numel() for parameter in built.parameters()) == metadata['Parameters']


@by_name
def test_published_figures_are_cited_and_none_is_ours(model):
    assert 'Results' not in model
    for published in model.get('Published', []):
        assert set(published) == {'Source', 'Metrics'}
        assert {'search mAP', 'top-1'} <= set(published['Metrics']) <= METRICS
        assert all(0 < value < 100 for value in published['Metrics'].values())


def test_zoo_shows_what_the_table_tool_prints(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(ROOT / 'tools/analysis_tools')
    from paper_table import tables

    zoo = [line for line in (ROOT / 'docs/model_zoo.md').read_text().splitlines() if line.startswith('|')]
    printed = [line for lines in tables(MODELS_LISTED, tmp_path).values() for line in lines]
    assert zoo == printed
