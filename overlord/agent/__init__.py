"""The node agent: answers for the node's health and role, and mends small things."""
