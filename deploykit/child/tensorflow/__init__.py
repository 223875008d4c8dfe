"""What the child process does with TensorFlow, Keras and TFLite: load, export, run."""
