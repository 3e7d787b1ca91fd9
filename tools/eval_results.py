"""Score a results file (npz) on a test set, without the model that wrote it; or the marks of a report."""

import argparse
import csv
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
from terminaltables import AsciiTable

from mmps_kd.datasets import load_cuhk_sysu_evaluation, load_custom_evaluation, load_prw_evaluation
from mmps_kd.errors import UserError, run_tool
from mmps_kd.evaluation.functional import (
    CBGM,
    NUM_RERANKED,
    DetectionScores,
    EvaluationSet,
    SearchProtocol,
    SearchResults,
    SearchScores,
    check_results,
    check_score_thr,
    evaluate_detection,
    evaluate_search,
    load_results,
    precision_at_k,
    read_marks,
)

UNREACHED = 0.01
"""Where the lowest score of many detections is so far above the threshold, detections were most likely dropped."""
CBGM_DEFAULTS = {'cuhk-sysu': CBGM(k1=10, k2=3), 'prw': CBGM(k1=30, k2=4), 'custom': CBGM(k1=10, k2=3)}


def parse_args() -> argparse.Namespace:
    """Arguments of the tool."""
    if sys.argv[1:2] == ['marks']:
        return parse_marks_args(sys.argv[2:])
    parser = argparse.ArgumentParser(
        description='Score a results file; its format and the rules: docs/evaluation.md',
        epilog='eval_results.py marks MARKS.json scores the marks of a report: eval_results.py marks --help',
    )
    parser.add_argument('dataset', choices=['cuhk-sysu', 'prw', 'custom'])
    parser.add_argument(
        'files',
        nargs='+',
        metavar='[annotations] results',
        help='custom: the JSON of the test set, see docs/own_data.md; then, for all, the npz with img_names, num_dets, '
        'bboxes, embeddings, query_embeddings',
    )
    parser.add_argument('--data-root', help="CUHK-SYSU, PRW: the dataset's folder; only annotation files are read")
    parser.add_argument('--gallery-size', nargs='+', type=gallery_size, help="CUHK-SYSU: sizes or 'all'; default 100")
    cameras = parser.add_mutually_exclusive_group()
    cameras.add_argument('--ignore-cam-id', action='store_true', help='PRW, custom: search all cameras (default)')
    cameras.add_argument('--cross-camera', action='store_true', help="PRW, custom: leave out the query's own camera")
    parser.add_argument('--query-info', help='PRW, custom: query list, such as that of PRW-mini')
    parser.add_argument(
        '--skip-absent-queries',
        action='store_true',
        help='PRW, custom: leave queries out whose person is nowhere in the gallery; the results must be without them',
    )
    parser.add_argument(
        '--score-thr',
        type=float,
        default=0.5,
        help='least detection score in the search; not below the threshold that the file was made with',
    )
    parser.add_argument('--det-score-thr', type=float, help='the same for the detection figures; default: --score-thr')
    parser.add_argument('--weight-by-score', action='store_true', help='multiply similarities by detection scores')
    parser.add_argument('--cbgm', action='store_true', help='re-rank by context bipartite graph matching')
    parser.add_argument('--k1', type=int, help='CBGM: boxes whose images are re-ranked; default 10, PRW 30')
    parser.add_argument('--k2', type=int, help='CBGM: people of the query image that take part; default 3, PRW 4')
    parser.add_argument(
        '--cbgm-similarity',
        choices=['strongest', 'total'],
        help='CBGM: what the box matched to the query gets of its matching: the strongest similarity, as published '
        '(default), or the sum',
    )
    parser.add_argument(
        '--rerank',
        nargs='?',
        type=int,
        const=NUM_RERANKED,
        metavar='N',
        help='re-rank the N most similar boxes of each query by their k-reciprocal neighbours; without a number '
        f'{NUM_RERANKED}',
    )
    parser.add_argument('--out', help='write the figures to this JSON file')
    parser.add_argument('--per-query', help='write the figures of each query (first gallery size) to this CSV file')
    parser.add_argument('--class', dest='class_name', default='person', help='custom: whom or what to search for')
    args = parser.parse_args()
    number = 2 if args.dataset == 'custom' else 1
    if len(args.files) != number:
        parser.error(f'{args.dataset} takes {"the annotations and " * (number - 1)}the results, {number} file(s)')
    if (args.data_root is None) != (args.dataset == 'custom'):
        parser.error(f'{args.dataset} {"takes no" if args.dataset == "custom" else "needs"} --data-root')
    args.results = args.files[-1]
    return args


def gallery_size(text: str) -> int | str:
    """A number of images, or ``all``."""
    return text if text == 'all' else int(text)


def load_evaluation(args: argparse.Namespace) -> EvaluationSet:
    """The protocols asked for; an option of the other dataset is an error."""
    if args.class_name != 'person' and args.dataset != 'custom':
        raise UserError(f'--class is an option of custom: {args.dataset} has persons alone')
    if args.dataset == 'cuhk-sysu':
        for option in ('ignore_cam_id', 'cross_camera', 'query_info', 'skip_absent_queries'):
            if getattr(args, option):
                raise UserError(f'--{option.replace("_", "-")} is an option of prw and custom, not of cuhk-sysu')
        return load_cuhk_sysu_evaluation(args.data_root, args.gallery_size or [100])
    if args.gallery_size:
        raise UserError(f'--gallery-size is an option of cuhk-sysu: the gallery of {args.dataset} is its test set')
    on_absent_query = 'skip' if args.skip_absent_queries else 'error'
    if args.dataset == 'custom':
        return load_custom_evaluation(
            args.files[0], args.query_info, args.cross_camera, on_absent_query, [args.class_name]
        )
    return load_prw_evaluation(args.data_root, args.query_info, args.cross_camera, on_absent_query)


def build_cbgm(args: argparse.Namespace) -> CBGM | None:
    """CBGM with the dataset's usual settings where none are given."""
    settings = dict(k1=args.k1, k2=args.k2, similarity=args.cbgm_similarity)
    settings = {key: value for key, value in settings.items() if value is not None}
    if args.cbgm:
        return replace(CBGM_DEFAULTS[args.dataset], **settings)
    if 'similarity' in settings:
        raise UserError('--cbgm-similarity is a setting of --cbgm: add it')
    if settings:
        raise UserError('--k1 and --k2 are settings of --cbgm: add it')
    return None


def check_threshold(results: SearchResults, args: argparse.Namespace) -> None:
    """Refuse a threshold below the file's own; without one in the file, note what cannot be told."""
    threshold = args.score_thr if args.det_score_thr is None else min(args.score_thr, args.det_score_thr)
    check_score_thr(results.score_thr, threshold, args.results)
    lowest = results.boxes[:, 4].min(initial=np.inf)
    if results.score_thr is None and np.inf > lowest > max(threshold, 0) + UNREACHED:
        print(
            f'note: the lowest score in {args.results} is {lowest:.3g}, and the file does not name the threshold that '
            f'it was made with (score_thr); if it was above {threshold:g}, these are not the figures at {threshold:g}'
        )


def known_images(evaluation: EvaluationSet) -> set[str]:
    """Every image that the test set names."""
    names = set()
    for protocol in evaluation.protocols.values():
        names.update(protocol.gallery_images.tolist(), protocol.query_images.tolist())
    if evaluation.ground_truth is not None:
        names.update(evaluation.ground_truth.image_names.tolist())
    return names


def score_protocols(
    results: SearchResults, evaluation: EvaluationSet, args: argparse.Namespace
) -> dict[str, SearchScores]:
    """Search figures of each protocol."""
    cbgm, known = build_cbgm(args), known_images(evaluation)
    scores = {}
    for name, protocol in evaluation.protocols.items():
        check_results(results, protocol, known)
        scores[name] = evaluate_search(
            results,
            protocol,
            score_thr=args.score_thr,
            cbgm=cbgm,
            weight_by_score=args.weight_by_score,
            rerank=args.rerank,
        )
    return scores


def collect_figures(dataset: str, searches: dict[str, SearchScores], detection: DetectionScores | None) -> dict:
    """What ``--out`` writes: fractions; the first protocol's at the top, CUHK-SYSU's also by gallery size."""
    by_protocol = {
        name: {'mAP': scores.mAP, **{f'top{k}': share for k, share in scores.topk.items()}}
        for name, scores in searches.items()
    }
    figures = dict(next(iter(by_protocol.values())))
    if dataset == 'cuhk-sysu':
        figures.update(by_protocol)
    if detection is not None:
        figures.update(
            det_ap=detection.ap,
            det_recall=detection.recall,
            det_ap_labelled=detection.ap_labelled,
            det_recall_labelled=detection.recall_labelled,
        )
    return figures


def print_tables(searches: dict[str, SearchScores], detection: DetectionScores | None) -> None:
    """Figures in per cent."""
    ranks = next(iter(searches.values())).topk
    rows = [['search', 'queries', 'mAP', *(f'top-{k}' for k in ranks)]]
    for name, scores in searches.items():
        rows.append(
            [name, scores.num_queries, *(f'{100 * value:.2f}' for value in (scores.mAP, *scores.topk.values()))]
        )
    print(AsciiTable(rows).table)
    if detection is None:
        print('detection: not scored, the annotations of the test images are not there')
        return
    rows = [['detection', 'AP', 'recall']]
    rows.append(['all people', f'{100 * detection.ap:.2f}', f'{100 * detection.recall:.2f}'])
    rows.append(['labelled people', f'{100 * detection.ap_labelled:.2f}', f'{100 * detection.recall_labelled:.2f}'])
    print(AsciiTable(rows).table)


def write_per_query(path: str, scores: SearchScores, protocol: SearchProtocol) -> None:
    """One line a query; ``precisions`` are those at its true positives, most similar first."""
    with open(path, 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['query', 'image', 'pid', 'true_boxes', 'ap', 'recall', 'first_hit', 'precisions'])
        for query in range(scores.num_queries):
            hits = scores.hit_precision[scores.hit_offsets[query] : scores.hit_offsets[query + 1]]
            writer.writerow(
                [
                    query,
                    protocol.query_images[query],
                    protocol.query_pids[query],
                    scores.num_truths[query],
                    scores.ap[query],
                    scores.recall[query],
                    scores.first_hit[query],
                    ' '.join(map(str, hits)),
                ]
            )


def parse_marks_args(arguments: list[str]) -> argparse.Namespace:
    """Arguments of ``eval_results.py marks``."""
    parser = argparse.ArgumentParser(
        prog='eval_results.py marks', description='Precision at k by the marks of reports; rules: docs/evaluation.md'
    )
    parser.set_defaults(dataset='marks')
    parser.add_argument('marks', nargs='+', help='JSON files that reports of tools/search.py saved')
    parser.add_argument('--report', help='report.html that all of them must be of')
    parser.add_argument('--topk', type=int, nargs='+', default=[1, 5, 10, 20], help='values of k')
    parser.add_argument('--out', help='write the figures to this JSON file')
    args = parser.parse_args(arguments)
    if min(args.topk) < 1:
        parser.error('--topk must be at least 1')
    return args


def score_marks(args: argparse.Namespace) -> None:
    """Precision at k of each query, by what a person marked, and its mean over the queries with a mark."""
    require_folders(args.out)
    queries = [query for marks in read_marks(args.marks, args.report) for query in marks.queries]
    if not any(mark is not None for query in queries for mark in query.marks):
        raise UserError(f'{args.marks[0]} has no marked hit: mark some in the report, and save again')
    scores = [precision_at_k(query.marks, args.topk) for query in queries]
    precision, marked = (np.stack(part) for part in zip(*scores, strict=True))
    num_scored = (marked > 0).sum(axis=0)
    mean = np.nansum(precision, axis=0) / np.maximum(num_scored, 1)
    rows = [['query', *(f'P@{k} (marked)' for k in args.topk)]]
    for query, values, counts in zip(queries, precision, marked, strict=True):
        cells = [f'{100 * p:.1f} ({n})' if n else '- (0)' for p, n in zip(values, counts, strict=True)]
        rows.append([Path(query.query[0][0]).name, *cells])
    means = [f'{100 * p:.1f} ({n} queries)' if n else '-' for p, n in zip(mean, num_scored, strict=True)]
    print(AsciiTable([*rows, ['mean', *means]]).table)
    if args.out is not None:
        figures = {
            f'precision{k}': float(p) if n else None for k, p, n in zip(args.topk, mean, num_scored, strict=True)
        }
        each = [
            dict(
                image=query.query[0][0],
                box=query.query[0][1],
                hits=len(query.hits),
                marked={str(k): int(n) for k, n in zip(args.topk, counts, strict=True)},
                precision={str(k): float(p) if n else None for k, p, n in zip(args.topk, values, counts, strict=True)},
            )
            for query, values, counts in zip(queries, precision, marked, strict=True)
        ]
        Path(args.out).write_text(json.dumps(dict(**figures, queries=each), indent=2) + '\n')


def require_folders(*paths: str | None) -> None:
    """Refuse files to write whose folder is not there."""
    for path in paths:
        if path is not None and not Path(path).parent.is_dir():
            raise UserError(f'there is no folder {Path(path).parent} to write {Path(path).name} to')


def main() -> None:
    """Score, print, write."""
    args = parse_args()
    if args.dataset == 'marks':
        score_marks(args)
        return
    require_folders(args.out, args.per_query)
    results = load_results(args.results)
    check_threshold(results, args)
    evaluation = load_evaluation(args)
    searches = score_protocols(results, evaluation, args)
    detection = None
    if evaluation.ground_truth is not None:
        threshold = args.score_thr if args.det_score_thr is None else args.det_score_thr
        detection = evaluate_detection(results, evaluation.ground_truth, score_thr=threshold)
    print_tables(searches, detection)
    if evaluation.num_absent:
        print(f'left out {evaluation.num_absent} queries, whose person is nowhere in the gallery')
    if args.out is not None:
        Path(args.out).write_text(json.dumps(collect_figures(args.dataset, searches, detection), indent=2) + '\n')
    if args.per_query is not None:
        name, scores = next(iter(searches.items()))
        write_per_query(args.per_query, scores, evaluation.protocols[name])


if __name__ == '__main__':
    run_tool(main)
