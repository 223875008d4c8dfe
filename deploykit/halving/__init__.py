"""Halve a model: from float32 to a float of 16 bits, where that does no harm.

``graph`` reads it, ``ranges`` measures how large its numbers get, ``weights`` looks at what rounding does to its
weights; ``plan`` chooses by these and by what ``groups`` runtimes fuse, with the fewest casts (``cut``); ``rewrite``
does it, ``search`` finds what has to stay where the proof fails.
"""
