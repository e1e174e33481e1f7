#!/usr/bin/env bash
# Everything that needs a GPU: tests, a small job from end to end, the speed tables. One part that fails stops no other.
#
#   bash benchmarks/on_gpu.sh OUT COCO_STUFF [PART ...]
#
# OUT: folder for results. COCO_STUFF: folder with semantic_train and panoptic_train. PARTS: tests smoke probe convolution
# spade upsampling tiles lostgan (all these when none is named), and compare, panoptic against SPADE with STEPS steps in at
# most MINUTES minutes. Every part has a time limit of its own; PYTHON names the interpreter. OUT/on_gpu.md has what each part
# printed, and its end comes last on the screen, too; what compare packs is copied to OUT, in pieces of 15 MB.
set -u
out=$(mkdir -p "$1" && cd "$1" && pwd)
maps=$(cd "$2" && pwd)
shift 2
parts=${*:-tests smoke probe convolution spade upsampling tiles lostgan}
cd "$(dirname "$0")/.."
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 OMP_NUM_THREADS=1
python=${PYTHON:-python3}
logs=$(mktemp -d)
began=$SECONDS

limited() { # NAME SECONDS COMMAND...: run it, keep what it prints
  local name=$1 seconds=$2 start=$SECONDS
  shift 2
  timeout -k 5 "$seconds" "$@" >"$logs/$name" 2>&1
  local code=$?
  echo "$name: $([ $code = 0 ] && echo done || echo "ended with $code") after $((SECONDS - start)) s" | tee -a "$logs/told"
}

run() {
  local ops=("$python" -m benchmarks.panoptic_ops_cuda "$maps/panoptic_train")
  case $1 in
    tests) limited tests 120 "$python" -m pytest -m gpu -o addopts=--import-mode=importlib -p no:cacheprovider -q -rfE \
      --tb=short --durations=5 tests/test_cuda.py tests/generators/nn/panoptic/test_triton.py \
      tests/generators/nn/panoptic/test_conv.py ;;
    smoke) limited smoke 120 "$python" -m synthaug.pipeline.cli run jobs/smoke.yaml cluster.executor=serial \
      --output "$logs/smoke_run" ;;
    probe) limited probe 100 "$python" -m benchmarks.panoptic_against_spade "$logs/probe_run" --device cuda --steps 120 \
      --train-images 200 --held-out 32 --detector-steps 60 --segmenter-steps 60 --minutes 1 ;;
    convolution) limited convolution 75 "${ops[@]}" convolution ;;
    tiles) limited tiles 60 "${ops[@]}" tiles ;;
    upsampling) limited upsampling 45 "${ops[@]}" upsampling guide memory ;;
    spade) limited spade 75 "$python" -m benchmarks.spade_speed_cuda "$maps" ;;
    lostgan) limited lostgan 75 "$python" -m benchmarks.lostgan_speed cuda ;;
    compare)
      limited compare "$((60 * ${MINUTES:-4} + 120))" "$python" -m benchmarks.panoptic_against_spade "$logs/compare_run" \
        --device cuda --steps "${STEPS:-3000}" --minutes "${MINUTES:-4}" ${SIZE:+--size "$SIZE"}
      for file in "$logs"/compare_run/pack/*; do split -b 15M -d "$file" "$out/$(basename "$file")."; done
      ;;
    *) echo "no part $1"; exit 2 ;;
  esac
}

gather() { # what there is so far: the machine may be gone before the last part is done
  {
    echo "# On a GPU"
    nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader 2>/dev/null
    cat "$logs/told"
    for part in $parts; do
      [ -f "$logs/$part" ] || continue
      printf '\n## %s\n\n' "$part"
      cat "$logs/$part"
    done
  } >"$out/on_gpu.md"
}

for part in $parts; do # what measures no time runs side by side
  case $part in tests | smoke) run "$part" & ;; esac
done
wait
gather
for part in $parts; do
  case $part in
    tests | smoke) ;;
    *)
      run "$part"
      gather
      ;;
  esac
done
tail -c 11000 "$out/on_gpu.md"
echo "all after $((SECONDS - began)) s"
