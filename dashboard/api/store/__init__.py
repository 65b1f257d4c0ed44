"""The statements that the API sends to the database, a file a subject."""
