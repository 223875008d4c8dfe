"""Quantization to integers: what the values of a model are like, which numbers stand for them, and where they are.

``counts`` keeps how often which value came, ``ranges`` chooses from it what 256 steps shall span; ``calibrating`` runs
a model for it. ``targets`` says as data what a runtime does in int8, ``regions`` which nodes that makes, ``weights``
rounds weights, ``placing`` writes QuantizeLinear and DequantizeLinear into the graph, and ``kernels`` looks what the
runtime made of it. ``sensitivity`` measures what each layer alone does to the outputs.
"""
