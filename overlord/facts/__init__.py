"""What is true on this node. Facts are read here and nowhere decided upon."""
