#!/usr/bin/env bash
# make demo: train a small CNN on real digits, convert it to ONNX, and prove that the file is the same model.
set -euo pipefail
export PATH="$1:$PATH"
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$root/demo"
cd "$root/demo"

say() {
    printf '\n$ %s\n' "$*"
    "$@"
}

say python ../examples/digits_pytorch.py .
say deploykit convert digits.pt --factory ../examples/digits_pytorch.py:DigitsNet
say deploykit validate
say deploykit validate --against digits.pt --factory ../examples/digits_pytorch.py:DigitsNet --data digits_val.npz
say deploykit inspect
