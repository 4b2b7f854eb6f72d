//! Model tests of the graph.
