"""What runs on a node beside the containers: first boot, the node agent and overlordctl.

Runs under the distribution's Python (3.11 or newer) with distribution packages only.
"""
