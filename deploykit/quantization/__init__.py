"""Quantization to integers: what the values of a model are like, which numbers stand for them, and where they are.

``reading`` loads a model as all of these need it. ``counts`` keeps how often which value came, ``ranges`` chooses from
it what 256 steps shall span; ``calibrating`` runs a model for it. ``targets`` says as data what a runtime does in int8,
``weighted`` which nodes with weights it can take, ``regions`` which nodes that makes. ``weights`` rounds weights,
``placing`` writes QuantizeLinear and DequantizeLinear into the graph, ``kernels`` looks what the runtime made of it.
``effort`` says what is done for accuracy: ``sites`` finds tensors whose channels can be scaled, ``evening`` does it;
``moments`` gathers what the inputs of layers are like, ``descent`` rounds weights by it, ``settling`` all of a model's.
``running`` has ranges at run time, ``blocks`` weights in blocks. ``sensitivity`` measures what each layer alone does to
the outputs, by ``stand_ins`` for what it reads.
"""
