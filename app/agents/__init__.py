"""Agents, and their activities in a cycle."""
