"""What a network computes, as a graph traced from its `hybrid_forward`, and what is made of it."""
from igc_gluon.graph.run import Native, NativeNetwork, accelerate, why_not_native
from igc_gluon.graph.tracing import Graph, Node, Ref, trace

__all__ = ["Graph", "Native", "NativeNetwork", "Node", "Ref", "accelerate", "trace", "why_not_native"]
