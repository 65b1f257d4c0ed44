"""Backups of the database: made on the node that leads, proved on the other one."""
