"""Sends the node's journal, with the containers' logs in it, to Loki on both nodes."""
