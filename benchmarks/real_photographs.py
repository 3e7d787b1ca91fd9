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
from ablation import ROOT, Row, call, run_dir, run_rows, table_lines
from mmengine.config import Config, DictAction

from mmps_kd.datasets import load_prw_evaluation
from mmps_kd.engine.checkpoint import last_checkpoint
from mmps_kd.errors import UserError, run_tool
from mmps_kd.evaluation.functional import evaluate_detection, evaluate_search, load_results
from mmps_kd.models.distillers import load_lut
from mmps_kd.models.distillers.reid_network import ReIDNetwork, crop
from mmps_kd.structures import EvaluationSet, SearchResults

CONFIG = ROOT / 'configs/real/oim_mobilenetv2-c4_real.py'
# The test camera was twice at its place: who is looked for in one pass is searched in the frames of the other one.
COLUMNS = dict(mAP='search mAP', mAP_second='mAP in the second pass', top1='top-1', det_ap='detection AP')
# Of the first seed alone.
INSIGHT = dict(
    mAP_true_boxes='mAP, true boxes',
    distance_train='disagreement with OMZ, training boxes',
    distance_test='test boxes',
)
ID = dict(at='roi.embedding', table='box', loss=dict(type='IDFeatureLoss', loss_weight=10.0))
RELATION = dict(
    at='roi.embedding',
    name='relation',
    table='box',
    loss=dict(type='EmbeddingRelationLoss', temperature=0.1, queue_size=1024, loss_weight=1.0),
)
CORRELATION = dict(
    at='roi.embedding', name='correlation', table='box', loss=dict(type='CorrelationLoss', loss_weight=10.0)
)
BOXES = [
    dict(at=f'{stage}.{answer}', loss=dict(type=loss, loss_weight=0.5))
    for stage in ('rpn', 'roi')
    for answer, loss in (('cls', 'LogitDistillationLoss'), ('bbox', 'BoundedRegressionLoss'))
]
# The OIM loss is the only one that reads identities: without it a row is what unlabelled boxes give.
NO_LABELS = dict(roi_head=dict(reid_head=dict(loss_oim=dict(loss_weight=0.0))))
# Rows without any annotation: people are what the SSD detects in these frames. The camera of the test is seen, but
# nobody says who is who. Epochs for about as many images as in the other rows.
UNLABELLED = {
    'box vectors, no annotation': ('train', 6),
    'box vectors, no annotation, first pass of the test camera too': ('train and first pass', 4),
    'box vectors, no annotation, test camera too': ('train and test', 4),
}


def models(work_dir: Path) -> dict[str, dict]:
    """What each row changes in the student's ``model``."""

    def taught(*terms: dict, boxes: str = 'omz_box', **more: object) -> dict:
        model = dict(type='PersonSearchDistiller', distillation=list(terms), **more)
        if any(term.get('table') == 'box' for term in terms):
            model['box_lut'] = dict(lut_file=str(work_dir / f'{boxes}.safetensors'))
        return model

    def table(name: str, **more: object) -> dict:
        return dict(lut=dict(type='LUTDistiller', lut_file=str(work_dir / f'{name}.safetensors'), **more))

    detections = dict(teacher=dict(detections=str(work_dir / 'train detections.json')))
    return {
        'plain': {},
        'identity LUT, OMZ': taught(**table('omz')),
        'identity LUT, OSNet': taught(**table('osnet', projection=dict(type='pca'))),  # 512 dimensions
        'box vectors': taught(ID),
        'box vectors, no labels': {**taught(ID), **NO_LABELS},
        'box vectors, no labels, weighed by IoU': {**taught({**ID, 'weigh_by_iou': True}), **NO_LABELS},
        'box vectors + correlation, no labels': {**taught(ID, CORRELATION), **NO_LABELS},
        'box vectors + relation, no labels': {**taught(ID, RELATION), **NO_LABELS},
        'relation, no labels': {**taught(RELATION), **NO_LABELS},
        'detections': taught(*BOXES, **detections),
        'box vectors + detections, no labels': {**taught(ID, *BOXES, **detections), **NO_LABELS},
        'box vectors + relation + detections, no labels': {**taught(ID, RELATION, *BOXES, **detections), **NO_LABELS},
        **{name: {**taught(ID, boxes=frames), **NO_LABELS} for name, (frames, _) in UNLABELLED.items()},
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
    detector = data / 'weights/person-detection-retail-0013.xml'
    names = {}
    for split in ('train', 'test'):
        annotations = json.loads((data / f'real/prw_{split}_pid.json').read_text())
        names[split] = [image['file_name'] for image in annotations['images']]
    names['first pass'] = [name for name in names['test'] if name.startswith('c1')]
    changes = models(work_dir)
    if unknown := set(args.rows or []) - set(changes):
        raise UserError(f'no row {unknown.pop()}: choose from {", ".join(changes)}')
    chosen = [name for name in changes if args.rows is None or name in ('plain', *args.rows)]
    students = {}
    for row, (frames, epochs) in UNLABELLED.items():
        if row in chosen or (frames == 'train' and any('detections' in name for name in chosen)):
            searched = [name for split in frames.split(' and ') for name in names[split]]
            write_detections(work_dir / f'{frames} detections.json', detector, data / 'real/frames', searched)
            students[row] = write_unlabelled_student(work_dir, frames, student, data / 'real', epochs)
            extract(students[row], work_dir / f'{frames}.safetensors', *omz, '--level', 'box', '--mirror')
    rows = {name: Row(students.get(name, student), changes[name]) for name in chosen}
    tests = dict(mAP_true_boxes=['model.test_cfg.true_boxes=True'])
    tested = {name: Row(row.config, row.model, tests=tests) for name, row in rows.items()}
    truth = load_prw_evaluation(data / 'real', cross_camera=True)
    known = truth.ground_truth
    boxes = np.split(np.column_stack([known.boxes, np.ones(len(known.boxes))]), known.num_boxes.cumsum()[:-1])
    network, frames, images = ReIDNetwork(omz[0], omz[1]), data / 'real/frames', known.image_names.tolist()
    teacher = two_steps(network, frames, dict(zip(images, boxes, strict=True)), truth)
    ceilings = {
        'two steps: SSD, then OMZ': score(two_steps(network, frames, detect(detector, frames, images), truth), truth),
        'OMZ on true boxes': score(teacher, truth),
    }
    run_rows(work_dir, tested, args.seeds[:1], args.jobs)
    run_rows(work_dir, rows, args.seeds[1:], args.jobs)
    for name in rows:
        for seed in args.seeds:
            add_figures(work_dir, run_dir(work_dir, name, seed), truth, teacher)
    people = dict(mAP='search mAP') | {f'person {pid}': f'person {pid}' for pid in np.unique(truth.main.query_pids)}
    tables = [table(work_dir, chosen, args.seeds, columns, ceilings) for columns in (COLUMNS, people)]
    tables.append(insight_table(work_dir, chosen, args.seeds[0]))
    text = '\n\n'.join(tables)
    print(text)
    if args.out is not None:
        args.out.write_text(text + '\n')


def table(work_dir: Path, names: list[str], seeds: list[int], columns: dict[str, str], ceilings: dict) -> str:
    """Means and spread over seeds; below, what has no seeds."""
    lines = table_lines(work_dir, names, seeds, columns)
    for name, figures in ceilings.items():
        lines.append(f'| {name} | ' + ' | '.join([*(f'{100 * figures[key]:.1f}' for key in columns), '']) + ' |')
    return '\n'.join(lines)


def insight_table(work_dir: Path, names: list[str], seed: int) -> str:
    """What bounds each row, from one seed."""
    lines = ['| row | ' + ' | '.join(INSIGHT.values()) + ' |', '|' + ' --- |' * (1 + len(INSIGHT))]
    for name in names:
        figures = json.loads((run_dir(work_dir, name, seed) / 'figures.json').read_text())
        mean_ap = f'{100 * figures["mAP_true_boxes"]:.1f}'
        lines.append(f'| {name} | {mean_ap} | {figures["distance_train"]:.2f} | {figures["distance_test"]:.2f} |')
    return '\n'.join(lines)


def write_student(path: Path, data: Path, options: dict) -> None:
    """Write the student's config with the data's places."""
    cfg = Config.fromfile(CONFIG)
    root = f'{data / "real"}/'
    weights = str(data / 'weights/mobilenet_v2_imagenet_to_layer5.pth')
    networks = ('model.backbone', 'model.roi_head.shared_head', 'model.roi_head.reid_layers')
    places = {f'{loader}_dataloader.dataset.data_root': root for loader in ('train', 'val', 'test')}
    cfg.merge_from_dict({**places, **{f'{network}.init_cfg.checkpoint': weights for network in networks}})
    cfg.merge_from_dict(options)
    cfg.dump(path)


def write_detections(path: Path, detector: Path, frames: Path, names: list[str]) -> None:
    """Write a detector's detections as COCO results unless they are there."""
    if not path.exists():
        found = detect(detector, frames, names)
        results = [
            dict(image_id=name, bbox=[x1, y1, x2 - x1, y2 - y1], score=score, category_id=1)
            for name, boxes in found.items()
            for x1, y1, x2, y2, score in boxes.tolist()
        ]
        path.write_text(json.dumps(results))


def write_unlabelled_student(work_dir: Path, frames: str, student: Path, real: Path, epochs: int) -> Path:
    """Write the student's config with detections in place of annotations; ``frames`` names their file."""
    annotations, path = work_dir / f'{frames}.json', work_dir / f'{frames.replace(" ", "_")}.py'
    if not annotations.exists():
        given = (work_dir / f'{frames} detections.json', real / 'frames', '--out', annotations)
        call(annotations.with_suffix('.log'), 'tools/dataset_tools/detections2json.py', *given)
    cfg = Config.fromfile(student)
    dataset = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='CustomPersonSearchDataset',
        data_root=str(real),
        ann_file=str(annotations),
        data_prefix=dict(img='frames'),
        pipeline=dataset.pipeline,
    )
    cfg.model.roi_head.reid_head.loss_oim.num_identities = 0
    cfg.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    cfg.param_scheduler[-1].end = epochs
    cfg.dump(path)
    return path


def extract(student: Path, out: Path, network: Path, preset: str, *more: str) -> None:
    """Write a table of the re-identification network unless it is there."""
    if not out.exists():
        given = ('--source', 'model', '--model', network, '--preset', preset, '--out', out, *more)
        call(out.with_suffix('.log'), 'tools/extract_lut.py', student, *given)


def detect(network: Path, frames: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Boxes (n, 5), x1, y1, x2, y2, score of at least 0.1, that an SSD of the Open Model Zoo finds, by image."""
    import openvino

    model = openvino.compile_model(str(network), 'CPU', {'INFERENCE_PRECISION_HINT': 'f32'})
    _, _, height, width = model.input(0).shape
    found = {}
    for name in names:
        pixels = cv2.imread(str(frames / name))
        inputs = cv2.resize(pixels, (width, height)).transpose(2, 0, 1)[None].astype(np.float32)
        answers = model(inputs)[0].reshape(-1, 7)
        boxes = answers[:, 3:] * np.tile(pixels.shape[1::-1], 2)
        found[name] = np.column_stack([boxes, answers[:, 2]])[answers[:, 2] >= 0.1]
    return found


def two_steps(network: ReIDNetwork, frames: Path, boxes: dict[str, np.ndarray], truth: EvaluationSet) -> SearchResults:
    """What a detector's boxes (n, 5) by image and a re-identification network on their crops find in the test set."""
    queries = truth.main

    def embed(image: str, found: np.ndarray) -> np.ndarray:
        pixels = cv2.imread(str(frames / image))
        found = found.clip(0, np.tile(pixels.shape[1::-1], 2))
        return network.embed([crop(pixels, box) for box in found.tolist()])

    return SearchResults(
        image_names=np.array(list(boxes)),
        num_dets=np.array([len(found) for found in boxes.values()]),
        boxes=np.concatenate(list(boxes.values())),
        embeddings=np.concatenate([embed(image, found[:, :4]) for image, found in boxes.items() if len(found)]),
        query_embeddings=np.concatenate(
            [embed(*query) for query in zip(queries.query_images, queries.query_boxes[:, None], strict=True)]
        ),
    )


def score(results: SearchResults, truth: EvaluationSet) -> dict[str, float]:
    """Figures of search and detection, and the search mAP of each person."""
    search = evaluate_search(results, truth.main, score_thr=0.5)
    from_first = np.char.startswith(truth.main.query_images.astype(str), 'c1')
    figures = dict(mAP=search.mAP, mAP_second=search.ap[from_first].mean(), top1=search.topk[1])
    figures['det_ap'] = evaluate_detection(results, truth.ground_truth, score_thr=0.5).ap
    for pid in np.unique(truth.main.query_pids):
        figures[f'person {pid}'] = search.ap[truth.main.query_pids == pid].mean()
    return figures


def disagreement(own: np.ndarray, taught: np.ndarray) -> float:
    """1 - Pearson's correlation of the similarities that two networks find between all pairs of N boxes.

    Rotating one network's vectors (N, D) does not change it, so that it tells something of every student.
    """
    pairs = np.triu_indices(len(own), 1)
    return 1 - np.corrcoef((own @ own.T)[pairs], (taught @ taught.T)[pairs])[0, 1]


def add_figures(work_dir: Path, folder: Path, truth: EvaluationSet, teacher: SearchResults) -> None:
    """Add a run's mAP of each person, and how far it is from the teacher on the true boxes of both sets of frames."""
    figures = json.loads((folder / 'figures.json').read_text())
    if 'distance_train' in figures:
        return
    figures |= score(load_results(folder / 'results.npz'), truth)
    if 'mAP_true_boxes' in figures:
        own = load_results(folder / 'mAP_true_boxes.npz')
        order = [own.image_names.tolist().index(name) for name in teacher.image_names]
        parts = np.split(own.embeddings, own.num_dets.cumsum()[:-1])
        figures['distance_test'] = disagreement(np.concatenate([parts[image] for image in order]), teacher.embeddings)
        out = folder / 'train.safetensors'
        given = ('--source', 'boxes', '--level', 'box', '--out', out)
        call(folder / 'extract.log', 'tools/extract_lut.py', folder / 'config.py', last_checkpoint(folder), *given)
        model = Config.fromfile(folder / 'config.py').model
        boxes = model.get('box_lut', dict(lut_file=str(work_dir / 'omz_box.safetensors')))
        taught = load_lut(boxes['lut_file']).rows.numpy()
        figures['distance_train'] = disagreement(load_lut(out).rows.numpy(), taught)
    (folder / 'figures.json').write_text(json.dumps(figures))


if __name__ == '__main__':
    run_tool(main)
