"""What changes a node. Actions carry out what was decided elsewhere."""
