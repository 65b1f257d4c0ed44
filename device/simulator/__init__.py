"""Plays a fleet of devices against an Overlord, and checks afterwards what came of it."""
