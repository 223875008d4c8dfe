"""Smaller models that still answer right: channels go together with all that depends on them.

``slots`` numbers the places along every axis and keeps what is linked, ``spreading``, ``layers`` and ``reshaping`` say
for each operator what it links, ``groups`` reads from that which channels are one unit, ``cut`` takes units out of a
graph. ``macs`` counts what that saves. ``linear`` and ``moments`` see what layers take and give on samples,
``importance`` orders the units of a group by it, ``allocation`` says how much of each group goes, ``fitting`` has what
is left make up for it. ``subject`` holds a graph with all of these, ``fates`` says what became of its layers, ``masks``
which channels stay. ``sparse`` puts zeros into weights instead.
"""
