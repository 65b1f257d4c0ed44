"""First boot from the bundle on: the steps that make a bare server a node.

The launcher has done the steps before (packages, secrets, host-key, bundle). Each step here
changes nothing when it is run a second time, so a reboot half-way only costs time.
"""
