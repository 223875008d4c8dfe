"""Keras files of version 3 and 2: checking them, reading them, and the models in them."""
