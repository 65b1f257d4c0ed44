"""Who is primary: facts of both nodes in, one decision out, and what carries it out."""
