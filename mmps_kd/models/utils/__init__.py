"""Distributed averages, checkpoints, losses that are not finite."""
