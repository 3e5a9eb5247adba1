#!/usr/bin/env bash
# All that needs a GPU, in eight minutes: from the folder that `node scripts/gpu-check.mjs` packs, which holds what it runs. Needs a
# driver, cuBLAS and cuDNN; for the speed beside it PyTorch, and compute-sanitizer of CUDA's toolkit. No Node, no cargo, no registry.
#
#   ./run.sh [--out DIR] [--seconds 480] [--twin] [PART]...        parts: doctor parity sanitizer memory resume speed
#
# Each part is on its own: what fails is written down and the rest goes on. DIR gets record.md and log.txt (the folder $OUT, or
# ./out). The exit code is 0 where every part passed. --twin runs the parity and resume parts on the CPU twin: it tries this script out.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${OUT:-$here/out} seconds=480 twin=""
parts=()
while [ $# -gt 0 ]; do
  case $1 in
    --out) out=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --twin) twin=yes; shift ;;
    doctor | parity | sanitizer | memory | resume | speed) parts+=("$1"); shift ;;
    *) echo "run.sh: what is $1? See its head." >&2; exit 2 ;;
  esac
done
[ ${#parts[@]} -gt 0 ] || parts=(doctor parity sanitizer memory resume speed)
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
cd "$here" || exit 2
record=$out/record.md log=$out/log.txt
started=$SECONDS failed=()
: >"$log"

say() { echo "$*" | tee -a "$log"; }
write() { echo "$*" >>"$record"; }
left() { echo $((seconds - (SECONDS - started))); }

# try SECONDS COMMAND...: runs it with its output in the log and in $text; fails as it does, and after that time.
try() {
  local limit=$1 rest from
  shift
  rest=$(left)
  [ "$rest" -gt 5 ] || { text="no time was left"; say "$text"; return 1; }
  [ "$limit" -lt "$rest" ] || limit=$rest
  say "\$ $*"
  from=$(wc -c <"$log")
  timeout -k 5 "$limit" "$@" >>"$log" 2>&1
  local code=$?
  text=$(tail -c +$((from + 1)) "$log")
  [ $code -ne 124 ] || say "(stopped after $limit s)"
  return $code
}

# outcome PART CODE WORDS: a line of the record.
outcome() {
  local verdict=passed
  [ "$2" -eq 0 ] || { verdict="**FAILED**"; failed+=("$1"); }
  write "| $1 | $verdict | $3 |"
  say "== $1: $verdict ($3)"
}

# tests PART SECONDS PROGRAM...: a program of tests, with their numbers and the names of those that failed.
tests() {
  local part=$1 limit=$2 code words bad
  shift 2
  try "$limit" "$@"
  code=$?
  words=$(grep -o '[0-9]* passed; [0-9]* failed' <<<"$text" | tail -1)
  bad=$(sed -n 's/^test \(.*\) \.\.\. FAILED.*/\1/p' <<<"$text" | sort -u | paste -sd' ')
  [ -n "$words" ] || words="it did not end: $(tail -1 <<<"$text")"
  # A program whose filter no test passes is none.
  case $words in "0 passed; 0 failed") code=1 ;; esac
  outcome "$part" $code "$words${bad:+; failed: $bad}"
}

export RKD_GOLDEN=$here/golden RUST_BACKTRACE=0
[ -n "$twin" ] || export RKD_TEST_GPU=1
if [ -z "${RKD_CUDA_LIBRARIES:-}" ] && command -v python3 >/dev/null; then
  # PyTorch's own cuBLAS and cuDNN, where the system has none.
  RKD_CUDA_LIBRARIES=$(python3 -c 'import glob, site, sys
folders = {*site.getsitepackages(), site.getusersitepackages(), *sys.path}
print(":".join(sorted({lib for f in folders for lib in glob.glob(f"{f}/nvidia/*/lib")})))' 2>/dev/null)
  [ -z "$RKD_CUDA_LIBRARIES" ] && unset RKD_CUDA_LIBRARIES || export RKD_CUDA_LIBRARIES
fi

{
  echo "# What a GPU says"
  echo
  echo "$(date -u '+%F %T') UTC, $(uname -sr), built from $(cat "$here/commit" 2>/dev/null || echo 'an unknown commit')${twin:+, on the CPU twin: no word about a GPU}"
  echo
} >"$record"

usable=""
if [ -n "$twin" ]; then
  usable=yes
else
  if try 60 ./gpu_check doctor; then usable=yes; fi
  {
    echo '```'
    echo "$text"
    nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm --format=csv,noheader 2>&1 | head -4
    echo '```'
    echo
  } >>"$record"
fi
write "| part | outcome | in words |"
write "| --- | --- | --- |"

networks="golden_networks::cuda golden_training::cuda"
operations="backends::cuda cuda_convolutions_that_cudnn_does_not_take not_a_number device_losses::cuda device_losses::relations"
for part in "${parts[@]}"; do
  if [ "$part" = doctor ]; then
    [ -n "$twin" ] || outcome doctor $([ -n "$usable" ] && echo 0 || echo 1) "$(tail -1 <<<"$text")"
    continue
  fi
  if [ -z "$usable" ]; then
    outcome "$part" 1 "not run: no GPU can be used, see above"
    continue
  fi
  case $part in
    parity)
      tests "parity, the crate's operations" 60 ./operations
      # shellcheck disable=SC2086 # names, each a word
      tests "parity, operations and losses" 120 ./all $operations
      # shellcheck disable=SC2086
      tests "parity, networks and trainings" 180 ./all $networks sessions::cuda::trains --skip in_tf32 --skip in_bf16
      for precision in tf32 bf16; do
        tests "parity, networks in $precision" 90 ./all golden_networks::cuda::in_$precision
      done
      tests "parity, learning in every precision" 60 ./all sessions::cuda::learns
      tests "CUDA graphs in a session" 30 ./all sessions::cuda::steps_are
      tests "a session without CUDA graphs" 30 env RKD_CUDA_GRAPHS=off ./all sessions::cuda::trains sessions::cuda::resumes
      ;;
    sanitizer)
      tool=$(command -v compute-sanitizer || ls /usr/local/cuda*/bin/compute-sanitizer 2>/dev/null | head -1)
      if [ -n "$twin" ] || [ -z "$tool" ]; then
        outcome sanitizer 1 "not run: compute-sanitizer is not installed, or this is the twin"
        continue
      fi
      for check in memcheck racecheck; do
        flags=(--tool "$check" --error-exitcode 9 --print-limit 5)
        tests "$check, the crate's operations" 30 "$tool" "${flags[@]}" ./operations --test-threads 1
        # shellcheck disable=SC2086
        tests "$check, operations and losses" 60 "$tool" "${flags[@]}" ./all --test-threads 1 $operations --skip in_tf32
      done
      ;;
    memory)
      if [ -n "$twin" ]; then outcome memory 1 "not run on the twin"; continue; fi
      try 90 ./gpu_check memory 1000
      outcome "memory over 1,000 steps" $? "$(tail -1 <<<"$text")"
      ;;
    resume)
      tests "resume to the same bytes, and elsewhere" 60 ./all sessions::cuda::resumes sessions::cuda::goes_on
      ;;
    speed)
      if [ -n "$twin" ]; then outcome speed 1 "not run on the twin"; continue; fi
      rm -f "$out/speed.md"
      limit=$(($(left) - 15))
      # What is being prepared when the time is up is not waited for.
      try $((limit + 10)) python3 speed.py --program ./gpu_check --seconds $((limit * 3 / 5)) --out "$out/speed.md"
      outcome speed $? "$([ -s "$out/speed.md" ] && echo 'see below' || tail -1 <<<"$text")"
      ;;
  esac
done
write ""
if [ -s "$out/speed.md" ]; then
  cat "$out/speed.md" >>"$record"
  rm "$out/speed.md"
fi
say "written to $record after $((SECONDS - started)) s"
[ ${#failed[@]} -eq 0 ] || { say "FAILED: ${failed[*]}"; exit 1; }
