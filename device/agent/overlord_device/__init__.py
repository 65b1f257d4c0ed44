"""Overlord's reference device agent: status out, configuration in, whatever the server does."""

__version__ = "0.1.0"
