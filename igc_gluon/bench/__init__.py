"""Times a network here beside the same network in other frameworks, in one run.

networks.py   which networks: names of the zoo, chains of one block
graph.py      a network as a short list of operators, which needs no framework to be read
to_torch.py, to_onnx.py, rewrite.py   from that list to the peers' own networks
peers.py      who is timed: a row each
worker.py     the child process that each of them runs in
measure.py    the one loop that lets them take turns
machine.py    what the processor and its memory can do at most
report.py     tables, and what was to be reached
"""
