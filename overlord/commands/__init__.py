"""Builders of commands. Methods return commands and run nothing."""
