#!/usr/bin/env bash
# make demo: train small CNNs on real digits, in PyTorch and in Keras, convert them to ONNX, and prove that the files
# are the same models.
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
say python ../examples/digits_keras.py .
say deploykit convert digits.keras -o digits_keras.onnx
say deploykit validate --against digits.keras --data digits_keras_val.npz
