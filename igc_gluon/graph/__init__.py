"""What a network computes, as a graph traced from its `hybrid_forward`, and what is made of it."""

from igc_gluon.graph.run import Native, NativeNetwork, accelerate, why_not_native
from igc_gluon.graph.tracing import Graph, Node, Ref, json_of, trace

__all__ = ["Graph", "Native", "NativeNetwork", "Node", "Ref", "accelerate", "json_of", "trace", "why_not_native"]
