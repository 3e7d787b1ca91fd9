"""What tools and notebooks call."""
