"""TFLite files: reading them, running them, and writing them as ONNX."""
