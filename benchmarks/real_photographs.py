"""Distillation on photographs: one small student taught in several ways, same seeds, same order of the data.

The data are those of MMPS_TEST_DATA (CONTRIBUTING.md): 305 training frames with 109 identities and 170 test frames,
searched across cameras, where 104 queries are of 6 people. Rows that are done are not run again.
"""

import argparse
import json
import os
from pathlib import Path

import cv2
import numpy as np
import torch
from ablation import ROOT, Row, call, run_dir, run_rows, table_lines
from mmengine.config import Config, DictAction

from mmps_kd.engine.checkpoint import last_checkpoint
from mmps_kd.errors import UserError, run_tool
from mmps_kd.models.distillers import load_lut

CONFIG = ROOT / 'configs/real/oim_mobilenetv2-fpn_real.py'
COLUMNS = dict(
    mAP='search mAP',
    top1='top-1',
    det_ap='detection AP',
    mAP_true_boxes='mAP, true boxes',
    distance_train='distance, train',
    distance_test='distance, test',
)
ID = dict(at='roi.embedding', table='box', loss=dict(type='IDFeatureLoss', loss_weight=5.0))
RELATION = dict(
    at='roi.embedding',
    name='relation',
    table='box',
    loss=dict(type='EmbeddingRelationLoss', temperature=0.1, queue_size=1024, loss_weight=1.0),
)
BOXES = [
    dict(at=f'{stage}.{answer}', loss=dict(type=loss, loss_weight=0.5))
    for stage in ('rpn', 'roi')
    for answer, loss in (('cls', 'LogitDistillationLoss'), ('bbox', 'BoundedRegressionLoss'))
]
# The OIM loss is the only one that reads identities: without it a row is what unlabelled boxes give.
NO_LABELS = dict(roi_head=dict(reid_head=dict(loss_oim=dict(loss_weight=0.0))))


def models(work_dir: Path) -> dict[str, dict]:
    """What each row changes in the student's ``model``."""

    def taught(*terms: dict, **more: object) -> dict:
        model = dict(type='PersonSearchDistiller', distillation=list(terms), **more)
        if any(term.get('table') == 'box' for term in terms):
            model['box_lut'] = dict(lut_file=str(work_dir / 'omz_box.safetensors'))
        return model

    def table(name: str, **more: object) -> dict:
        return dict(lut=dict(type='LUTDistiller', lut_file=str(work_dir / f'{name}.safetensors'), **more))

    detections = dict(teacher=dict(detections=str(work_dir / 'detections.json')))
    return {
        'plain': {},
        'identity LUT, OMZ': taught(**table('omz')),
        'identity LUT, OSNet': taught(**table('osnet', projection=dict(type='pca'))),  # 512 dimensions
        'box vectors': taught(ID),
        'box vectors, weighed by IoU': taught({**ID, 'weigh_by_iou': True}),
        'box vectors, no labels': {**taught(ID), **NO_LABELS},
        'relation, no labels': {**taught(RELATION), **NO_LABELS},
        'box vectors + relation, no labels': {**taught(ID, RELATION), **NO_LABELS},
        'box vectors + identity LUT': taught(ID, **table('omz')),
        'detections': taught(*BOXES, **detections),
        'box vectors + relation + detections': taught(ID, RELATION, *BOXES, **detections),
    }


def parse_args() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rows', nargs='+', help='names of rows beside plain; all by default')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument('--jobs', type=int, default=2, help='runs at a time, one thread each')
    parser.add_argument('--work-dir', type=Path, default=ROOT / 'work_dirs/real_photographs')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={}, help='overrides of the student')
    parser.add_argument('--out', type=Path, help='write the table (Markdown) to this file')
    return parser.parse_args()


def main() -> None:
    """Make the teachers' tables, run what is missing, print the table."""
    args = parse_args()
    if 'MMPS_TEST_DATA' not in os.environ:
        raise UserError('set MMPS_TEST_DATA to the folder of the photographs, see CONTRIBUTING.md')
    data = Path(os.environ['MMPS_TEST_DATA']).resolve()
    work_dir = args.work_dir.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    student = work_dir / 'student.py'
    write_student(student, data, args.cfg_options)
    omz = (data / 'weights/person-reidentification-retail-0287.xml', 'omz')
    osnet = (data / 'weights/osnet_x0_25_msmt17.onnx', 'osnet')
    extract(student, work_dir / 'omz.safetensors', *omz)
    extract(student, work_dir / 'osnet.safetensors', *osnet)
    extract(student, work_dir / 'omz_box.safetensors', *omz, '--level', 'box', '--mirror')
    extract(student, work_dir / 'omz_test.safetensors', *omz, '--level', 'box', split='test')
    if not (work_dir / 'detections.json').exists():
        detect(data / 'weights/person-detection-retail-0013.xml', data / 'real', work_dir / 'detections.json')

    changes = models(work_dir)
    if unknown := set(args.rows or []) - set(changes):
        raise UserError(f'no row {unknown.pop()}: choose from {", ".join(changes)}')
    tests = dict(mAP_true_boxes=['model.test_cfg.true_boxes=True'])
    rows = {
        name: Row(student, model, tests)
        for name, model in changes.items()
        if args.rows is None or name in ('plain', *args.rows)
    }
    run_rows(work_dir, rows, args.seeds, args.jobs)
    for name in rows:
        for seed in args.seeds:
            add_distances(work_dir, run_dir(work_dir, name, seed))
    text = '\n'.join(table_lines(work_dir, list(rows), args.seeds, COLUMNS))
    print(text)
    if args.out is not None:
        args.out.write_text(text + '\n')


def write_student(path: Path, data: Path, options: dict) -> None:
    """Write the student's config with the data's places."""
    cfg = Config.fromfile(CONFIG)
    root = f'{data / "real"}/'
    weights = str(data / 'weights/mobilenet_v2_imagenet_to_layer5.pth')
    places = {f'{loader}_dataloader.dataset.data_root': root for loader in ('train', 'val', 'test')}
    cfg.merge_from_dict({**places, 'model.backbone.init_cfg.checkpoint': weights})
    cfg.merge_from_dict(options)
    cfg.dump(path)


def extract(student: Path, out: Path, network: Path, preset: str, *more: str, split: str = 'train') -> None:
    """Write a table of the re-identification network unless it is there."""
    if not out.exists():
        given = ('--source', 'model', '--model', network, '--preset', preset, '--out', out, *more)
        options = ('--cfg-options', f'train_dataloader.dataset.split={split}')
        call(out.with_suffix('.log'), 'tools/extract_lut.py', student, *given, *options)


def detect(network: Path, root: Path, out: Path) -> None:
    """Write the detections of an SSD of the Open Model Zoo in the training frames as COCO results."""
    import openvino

    model = openvino.compile_model(str(network), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    _, _, height, width = model.input(0).shape
    results = []
    for image in json.loads((root / 'prw_train_pid.json').read_text())['images']:
        pixels = cv2.imread(str(root / 'frames' / image['file_name']))
        inputs = cv2.resize(pixels, (width, height)).transpose(2, 0, 1)[None].astype(np.float32)
        for _, _, score, *box in model(inputs)[0].reshape(-1, 7).tolist():
            x1, y1, x2, y2 = np.array(box) * np.tile(pixels.shape[1::-1], 2)
            if score >= 0.1:
                bbox = [x1, y1, x2 - x1, y2 - y1]
                results.append(dict(image_id=image['file_name'], bbox=bbox, score=score, category_id=1))
    out.write_text(json.dumps(results))


def add_distances(work_dir: Path, folder: Path) -> None:
    """Add the mean cosine distance of student and teacher on the true boxes of training and test frames."""
    figures = json.loads((folder / 'figures.json').read_text())
    if 'distance_test' in figures:
        return
    for split, teacher in (('train', 'omz_box'), ('test', 'omz_test')):
        out = folder / f'{split}.safetensors'
        given = ('--source', 'boxes', '--level', 'box', '--out', out)
        options = ('--cfg-options', f'train_dataloader.dataset.split={split}')
        call(
            folder / f'{split}.log',
            'tools/extract_lut.py',
            folder / 'config.py',
            last_checkpoint(folder),
            *given,
            *options,
        )
        own, taught = load_lut(out).rows, load_lut(work_dir / f'{teacher}.safetensors').rows
        figures[f'distance_{split}'] = 1 - torch.nn.functional.cosine_similarity(own, taught).mean().item()
    (folder / 'figures.json').write_text(json.dumps(figures))


if __name__ == '__main__':
    run_tool(main)
