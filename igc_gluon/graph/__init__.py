"""What a network computes, as a graph traced from its `hybrid_forward`, and what is made of it."""

from igc_gluon.graph.native_block import Native, NativeNetwork, accelerate, non_native_operators
from igc_gluon.graph.tracing import Graph, Node, Ref, json_of, trace

__all__ = ["Graph", "Native", "NativeNetwork", "Node", "Ref", "accelerate", "json_of", "trace", "non_native_operators"]
