"""The verdict of a load, from counts alone."""
