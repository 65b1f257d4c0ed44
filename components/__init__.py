"""The Pulumi program's parts: settings, then one ComponentResource a file."""
