#!/usr/bin/env bash
# The paper's tables from the images of CUHK-SYSU and PRW: teachers, their tables of ID vectors, students, evaluation.
#
# Each model has the folder WORK_DIR/<config name>, with final.pth when it is trained and figures.json when it is
# evaluated; what has them is skipped, and an interrupted training goes on. Remove a folder to have its model done again;
# a teacher's students do not follow by themselves.
set -euo pipefail

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: [SIZE=600 WORK_DIR=work_dirs/paper_600 CFG_OPTIONS=... CONFIGS=configs] $0 DATA_ROOT [GPUS]" >&2
    exit 1
fi
DATA_ROOT=$1
GPUS=${2:-1}
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
SIZE=${SIZE:-600}
WORK_DIR=${WORK_DIR:-work_dirs/paper_$SIZE}
CONFIGS=${CONFIGS:-$(dirname "$TOOLS")/configs}
export PYTHONPATH="$TOOLS/..:${PYTHONPATH:-}"

fail() {
    echo "error: $1" >&2
    exit 1
}

say() {
    printf '\n=== %s\n' "$1"
}

folder_of() { # CONFIG, as detector/detector_r50_18e_prw
    echo "$WORK_DIR/$(basename "$1")"
}

# What a config is told, one override a line: where the data and its teachers are, the input size, the user's own.
options() { # CONFIG
    local train=train_dataloader.dataset dataset
    if [[ $1 == qeeps/* || $1 == *_qeeps_r50_* ]]; then # query-guided students too
        train+=.dataset # below the data set of pairs
        # A validation looks at every pair of query and image: the evaluation at the end is enough.
        echo "train_cfg.val_begin=1000"
        if [ -e "$DATA_ROOT/$DATA/prwmini_query_info.txt" ]; then
            echo "test_dataloader.dataset.query_info=prwmini_query_info.txt"
        fi
    fi
    for dataset in "$train" val_dataloader.dataset test_dataloader.dataset; do
        echo "$dataset.data_root=$DATA_ROOT/$DATA/"
        if [ "$SIZE" = 900 ]; then
            echo "$dataset.pipeline.2.scale=(1500,900)"
        fi
    done
    if [[ $1 =~ detector-(r[0-9]+)_ ]]; then
        local teacher=detector/detector_${BASH_REMATCH[1]}_$SCHEDULE
        echo "model.teacher.config=$CONFIGS/$teacher.py"
        echo "model.teacher.checkpoint=$(folder_of "$teacher")/final.pth"
    fi
    if [[ $1 =~ lut_.*(qeeps-r50) ]]; then
        echo "model.lut.lut_file=$(folder_of "$QEEPS")/lut.safetensors"
    fi
    if [ -n "${CFG_OPTIONS:-}" ]; then
        local words
        read -ra words <<<"$CFG_OPTIONS"
        printf '%s\n' "${words[@]}"
    fi
}

train() { # CONFIG
    local folder overrides
    folder=$(folder_of "$1")
    if [ -e "$folder/final.pth" ]; then
        return
    fi
    say "training $1"
    mapfile -t overrides < <(options "$1")
    set -- "$CONFIGS/$1.py" --work-dir "$folder" --resume --auto-scale-lr --cfg-options "${overrides[@]}"
    if [ "$GPUS" -gt 1 ]; then
        "$TOOLS/dist_train.sh" "$1" "$GPUS" "${@:2}"
    else
        python "$TOOLS/train.py" "$@"
    fi
    ln -s "$(basename "$(cat "$folder/last_checkpoint")")" "$folder/final.pth"
}

extract_table() { # CONFIG
    local folder overrides
    folder=$(folder_of "$1")
    if [ -e "$folder/lut.safetensors" ]; then
        return
    fi
    say "table of ID vectors of $1"
    mapfile -t overrides < <(options "$1")
    python "$TOOLS/extract_lut.py" "$CONFIGS/$1.py" "$folder/final.pth" --source boxes \
        --out "$folder/lut.safetensors" --cfg-options "${overrides[@]}"
}

evaluate() { # CONFIG
    local folder overrides figures
    folder=$(folder_of "$1")
    if [ -e "$folder/figures.json" ]; then
        return
    fi
    say "evaluating $1"
    mapfile -t overrides < <(options "$1")
    set -- "$CONFIGS/$1.py" "$folder/final.pth" --work-dir "$folder/test" --cfg-options "${overrides[@]}"
    if [ "$GPUS" -gt 1 ]; then
        "$TOOLS/dist_test.sh" "$1" "$2" "$GPUS" "${@:3}"
    else
        python "$TOOLS/test.py" "$@"
    fi
    figures=("$folder"/test/*/*.json)
    cp "${figures[-1]}" "$folder/figures.json"
}

reproduce() { # DATA_SET SCHEDULE
    DATA=$1 SCHEDULE=$2 QEEPS=qeeps/qeeps_r50_$2
    local config teachers students
    teachers=("detector/detector_r50_$2" "detector/detector_r101_$2" "$QEEPS")
    students=(
        "oim/oim_r18_$2" "kd/det_detector-r50_oim_r18_$2"
        "kd/lut_qeeps-r50_oim_r18_$2" "kd/det-lut_detector-r50_qeeps-r50_oim_r18_$2"
        "oim/oim_r50_$2" "kd/det_detector-r101_oim_r50_$2"
        "kd/lut_qeeps-r50_oim_r50_$2" "kd/det-lut_detector-r101_qeeps-r50_oim_r50_$2"
        "kd/det_detector-r101_qeeps_r50_$2"
        "kd/lut_qeeps-r50_qeeps_r50_$2" "kd/det-lut_detector-r101_qeeps-r50_qeeps_r50_$2"
    )
    ROWS+=("${teachers[@]##*/}" "${students[@]##*/}")
    if [ ! -d "$DATA_ROOT/$1" ]; then
        return
    fi
    for config in "${teachers[@]}"; do train "$config"; done
    extract_table "$QEEPS"
    for config in "${students[@]}"; do train "$config"; done
    # Query-guided models come last: each looks at each pair of query and gallery image.
    for config in "${students[@]}" "${teachers[@]}"; do evaluate "$config"; done
}

if [ "$SIZE" != 600 ] && [ "$SIZE" != 900 ]; then
    fail "SIZE is 600 or 900, the shorter side of the images in pixels, not $SIZE"
fi
if [ ! -d "$DATA_ROOT/CUHK-SYSU" ] && [ ! -d "$DATA_ROOT/PRW" ]; then
    fail "$DATA_ROOT has neither CUHK-SYSU nor PRW: where to get them stands in docs/datasets.md"
fi
ROWS=()
reproduce CUHK-SYSU 20e_cuhk-sysu
reproduce PRW 18e_prw
say "shorter side of $SIZE pixels"
if [ -e "$DATA_ROOT/PRW/prwmini_query_info.txt" ]; then
    echo "QEEPS on PRW is evaluated on the queries of PRW-mini."
fi
python "$TOOLS/analysis_tools/paper_table.py" "$WORK_DIR" "${ROWS[@]}"
