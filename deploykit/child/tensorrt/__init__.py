"""What runs in the process that owns TensorRT: it needs one of its bindings, and numpy."""
