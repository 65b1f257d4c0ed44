"""The fleet's API and its database schema."""
