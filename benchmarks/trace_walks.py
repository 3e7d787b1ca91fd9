"""Count the files and functions of the package that some calls cross: how many places a reader has to open.

Each walk runs once untraced, so that imports are out of the way, and once traced. The data are synthetic.
Give --list to print the functions.
"""

import argparse
import contextlib
import io
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mmdet
import torch
from mmdet.registry import DATASETS, METRICS, MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope

import mmps_kd
from mmps_kd.apis import PersonSearchInferencer

ROOT = Path(__file__).resolve().parents[1]
CONFIG = ROOT / 'configs/demo/oim_r18-narrow_mini.py'
PACKAGE, MMDET = (str(Path(module.__file__).parent) + os.sep for module in (mmps_kd, mmdet))


def trace(call: Callable[[], object], prefixes: tuple[str, ...]) -> list[tuple[str, str]]:
    """(file, function) of each function of the packages that a call enters, in the order of first entry."""
    crossed = {}

    def note(frame, event, argument):
        code = frame.f_code
        if event == 'call' and code.co_filename.startswith(prefixes) and not code.co_name.startswith('<'):
            crossed.setdefault((code.co_filename, code.co_qualname if hasattr(code, 'co_qualname') else code.co_name))

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return list(crossed)


def make_data(folder: Path, layout: str) -> str:
    """Write a synthetic data set."""
    tool = ROOT / 'tools/dataset_tools/make_synthetic.py'
    command = [sys.executable, tool, folder / layout, '--layout', layout, '--size', 'tiny']
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return f'{folder / layout}/'


def fill_metric(cfg: Config, dataset) -> Callable[[], object]:
    """A call that evaluates what a model that finds every annotated person would give."""
    metric = METRICS.build(cfg.test_evaluator)
    metric.dataset_meta = dataset.metainfo
    generator = torch.Generator().manual_seed(0)
    samples = []
    for i in range(len(dataset)):
        sample = dataset[i]['data_samples']
        truth = dataset.get_data_info(i)
        boxes = torch.tensor([person['bbox'] for person in truth['instances']]).reshape(-1, 4)
        embeddings = torch.nn.functional.normalize(torch.randn(len(boxes), 16, generator=generator))
        found = dict(bboxes=boxes, scores=torch.ones(len(boxes)), embeddings=embeddings)
        sample = dict(img_name=sample.img_name, pred_instances=found)
        if 'queries' in truth:
            ids = torch.from_numpy(truth['queries']['ids'])
            sample['pred_queries'] = dict(query_ids=ids, embeddings=torch.randn(len(ids), 16, generator=generator))
        samples.append(sample)

    def evaluate():
        metric.process({}, samples)
        metric.evaluate(len(samples))
        return metric

    return evaluate


def walks(folder: Path) -> dict[str, tuple[Callable[[], object], tuple[str, ...]]]:
    """The calls, and the packages whose files are counted."""
    cuhk_sysu, prw = make_data(folder, 'cuhk-sysu'), make_data(folder, 'prw')
    cfg = Config.fromfile(CONFIG)
    cfg.test_dataloader.dataset.data_root = cfg.train_dataloader.dataset.data_root = cuhk_sysu
    cfg.test_dataloader.dataset.pipeline[2].scale = cfg.train_dataloader.dataset.pipeline[2].scale = (160, 120)
    cfg.model.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
    cfg.model.test_cfg.rcnn.score_thr = 0.0
    cfg.dump(folder / 'config.py')
    os.environ['MMPS_CACHE'] = str(folder / 'config.py')  # no folder: annotations are parsed each time
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.roi_head.reid_head.loss_oim.lut.normal_()
    train_set = DATASETS.build(cfg.train_dataloader.dataset)
    meta = dict(dataset_meta=train_set.metainfo)
    torch.save(dict(state_dict=model.state_dict(), meta=meta), folder / 'model.pth')

    prw_cfg = Config.fromfile(ROOT / 'configs/oim/oim_r50_18e_prw.py')
    prw_cfg.test_dataloader.dataset.data_root = prw

    def query_to_rank():
        dataset = DATASETS.build(prw_cfg.test_dataloader.dataset)
        fill_metric(prw_cfg, dataset)().rank(0, 10)

    student = Config.fromfile(ROOT / 'configs/demo/lut_oim-r18-narrow_oim_r18-quarter_mini.py').model
    student.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
    student.lut.lut_file = str(folder / 'lut.safetensors')

    def lut_to_buffer():
        arguments = [folder / 'config.py', folder / 'model.pth', '--source', 'boxes', '--out', student.lut.lut_file]
        sys.argv = ['extract_lut.py', *map(str, arguments)]
        with contextlib.suppress(SystemExit):
            runpy.run_path(str(ROOT / 'tools/extract_lut.py'), run_name='__main__')
        MODELS.build(student)

    distilled = Config.fromfile(ROOT / 'configs/demo/det_oim-r18-narrow_oim_r18-quarter_mini.py').model
    distilled.teacher.update(config=str(folder / 'config.py'), checkpoint=str(folder / 'model.pth'))
    distilled.roi_head.reid_head.loss_oim.update(num_identities=6, queue_size=10)
    distilled = MODELS.build(distilled)
    batch = [train_set[i] for i in range(2)]
    batch = {key: [sample[key] for sample in batch] for key in batch[0]}

    def distilled_step():
        distilled(**distilled.data_preprocessor(batch, True), mode='loss')

    evaluate = fill_metric(cfg, DATASETS.build(cfg.test_dataloader.dataset))
    inferencer = PersonSearchInferencer(str(folder / 'config.py'), str(folder / 'model.pth'), device='cpu')
    images = Path(cuhk_sysu, 'Image/SSM')
    query = sorted(images.iterdir())[0]
    return {
        'metric.evaluate, search and detection': (evaluate, (PACKAGE,)),
        'a PRW query box, from the query file to its rank': (query_to_rank, (PACKAGE,)),
        'a row of the LUT, from extract_lut.py to the OIM buffer': (lut_to_buffer, (PACKAGE,)),
        'PersonSearchInferencer.search': (
            lambda: inferencer.search(query, (1, 1, 60, 90), images, score_thr=0.0),
            (PACKAGE,),
        ),
        'a distilled training step, with mmdet': (distilled_step, (PACKAGE, MMDET)),
    }


def main() -> None:
    """Print files and functions of each walk."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--list', action='store_true', help='print the functions too')
    args = parser.parse_args()
    init_default_scope('mmdet')
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        traced = {}
        for name, (call, prefixes) in walks(Path(folder)).items():
            call()
            traced[name] = trace(call, prefixes)
    for name, crossed in traced.items():
        print(f'{name}: {len({file for file, _ in crossed})} files, {len(crossed)} functions')
        if args.list:
            for file, function in crossed:
                print(f'    {file.removeprefix(PACKAGE).removeprefix(str(Path(MMDET).parent))}  {function}')


if __name__ == '__main__':
    main()
