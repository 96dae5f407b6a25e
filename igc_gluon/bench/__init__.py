"""Times a network here beside the same network in other frameworks, in one run.

networks.py   which networks: names of the zoo, chains of one block
to_torch.py, rewrite.py   from igc_gluon.export.graph's list of operators to the peers' own networks
peers.py      who is timed: a row each
worker.py     the child process that each of them runs in
measure.py    the one loop that lets them take turns
machine.py    what the processor and its memory can do at most
markdown.py   tables; speeds beside targets
cases.py      networks one after the other, with progress
"""
