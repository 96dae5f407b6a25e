"""Networks for other engines: `igc export`.

graph.py      a network as a short list of operators, which needs no framework to be read
to_onnx.py    from that list to ONNX
check.py      what ONNX Runtime makes of it, beside the network
"""
