"""From a frozen graph to ONNX, through tf2onnx, and what that lacks or has wrong."""
