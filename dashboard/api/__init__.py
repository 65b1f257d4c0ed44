"""The fleet API: devices report here, operators read here."""
