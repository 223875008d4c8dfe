"""Smaller models that still answer right: channels go together with all that depends on them."""
