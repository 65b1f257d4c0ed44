"""The certificate that nginx shows: where from, which one, how it is renewed."""
