"""What the child process does with PyTorch: load, infer inputs, export, run."""
